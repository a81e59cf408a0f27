"""The endpoints of models."""

from errors import ApiError, optional, required
from query import Listing, Options
from store import COMPANY, DELETED

OPTIONS = Options(
    fields=(
        "id name parent user company created task comment tags system_tags uri framework design labels ready"
        " last_update last_change project ui_cache metadata company_origin"
    ).split(),
    lists="id user tags system_tags framework uri project task parent".split(),
    dates=("last_update",),
    equal=("ready",),
)


class Models:
    """Holds the positions of scrolls; all else is in the store."""

    def __init__(self, store):
        self.store = store
        self.listing = Listing(OPTIONS)

    def get_all(self, call):
        body = call.body
        records = self._candidates(body)
        rows, scroll = self.listing.rows(records, body, call.faults)
        rows = self.listing.cut(rows, body)
        return {"models": rows, "scroll_id": scroll} if scroll else {"models": rows}

    def _candidates(self, body):
        """All visible models; only those of one task, if that is what the call is about."""
        tasks = body.get("task")
        is_one = isinstance(tasks, list) and len(tasks) == 1 and isinstance(tasks[0], str)
        plain = is_one and not tasks[0].startswith(("-", "__$"))
        models = self.store.models_of(tasks[0]) if plain else self.store.models.values()
        return [model for model in models if model["company"] in (COMPANY, "", None)]

    def _find(self, model_id):
        model = self.store.models.get(model_id)
        if not model or model["company"] not in (COMPANY, "", None):
            raise ApiError(400, 201, id=model_id, company=COMPANY)
        return model

    def get_by_id(self, call):
        return {"model": self._find(required(call.body, "model", str))}

    def delete(self, call):
        """Deletes a model. Like the real server it does not ask whether the model is published."""
        store = self.store
        force = optional(call.body, "force", bool, False)
        model = self._find(required(call.body, "model", str))
        if not model["company"]:
            raise ApiError(403, 21, f"cannot modify public model(s), ids=('{model['id']}',)")
        users = store.consumers_of(model["id"])
        if users and not force:
            raise ApiError(400, 205, "as execution model, use force=True to delete", num_tasks=len(users))
        maker = store.tasks.get(model.get("task"))
        if maker and maker["status"] == "published" and not force:
            raise ApiError(400, 206, "and published, use force=True to delete", task=maker["id"])
        gone = DELETED + model["id"]
        for task in users:
            store.replace_input(task, model["id"], gone)
        if maker:
            self._forget(maker, model["id"], gone)
        store.remove_model(model)
        if optional(call.body, "delete_external_artifacts", bool, True) and store.version >= (2, 21):
            store.queue([model["uri"]] if model.get("uri") else [])
        return {"deleted": True, "url": model.get("uri")}

    @staticmethod
    def _forget(task, model_id, gone):
        output = task["models"]["output"]
        if task["status"] == "published":
            task["models"]["output"] = [{**i, "model": gone} if i["model"] == model_id else i for i in output]
        else:
            task["models"]["output"] = [item for item in output if item["model"] != model_id]
