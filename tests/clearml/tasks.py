"""The endpoints of tasks: listing, one task, and deletion with all that the real server does on the way."""

from errors import ApiError, optional, required
from query import Listing, Options, values_at
from store import COMPANY, DELETED

OPTIONS = Options(
    fields=(
        "id name user company company_origin type status comment created started completed published"
        " parent project output execution container models script last_worker last_worker_report"
        " last_update last_change last_changed_by last_iteration last_metrics unique_metrics metric_stats"
        " status_reason status_message status_changed tags system_tags hyperparams configuration runtime"
        " active_duration enqueue_status"
    ).split(),
    lists=(
        "id user tags system_tags type status project parent hyperparams.* execution.queue models.input.model"
    ).split(),
    dates=("status_changed", "last_update", "last_change"),
)


class Tasks:
    """Holds the positions of scrolls; all else is in the store."""

    def __init__(self, store):
        self.store = store
        self.listing = Listing(OPTIONS)

    def _visible(self, task):
        """Tasks of the company, and those of nobody, which are public."""
        return task["company"] in (COMPANY, "", None)

    def get_all(self, call):
        body = dict(call.body)
        records = [task for task in self._candidates(body) if self._visible(task)]
        is_asked = body.get("search_hidden") or body.get("id")
        if not is_asked and self.store.version >= (2, 14):
            records = [task for task in records if "hidden" not in task["system_tags"]]
        with_subprojects = body.get("include_subprojects") and self.store.version >= (2, 26)
        if with_subprojects and body.get("project"):
            body["project"] = self._with_subprojects(body["project"])
        rows, scroll = self.listing.rows(records, body, call.faults)
        if "live_rows" in call.faults:
            known = {row["id"] for row in rows}
            rows += [t for t in records if "archived" not in t["system_tags"] and t["id"] not in known]
        rows = self.listing.cut([self._shown(task, call.version) for task in rows], body)
        return {"tasks": rows, "scroll_id": scroll} if scroll else {"tasks": rows}

    def _candidates(self, body):
        """All tasks; only those with certain ids, if that is what the call is about."""
        ids, tasks = body.get("id"), self.store.tasks
        if not isinstance(ids, list) or not all(isinstance(id, str) and id.isalnum() for id in ids):
            return tasks.values()
        return [tasks[id] for id in dict.fromkeys(ids) if id in tasks] if ids else tasks.values()

    def _with_subprojects(self, ids):
        projects = self.store.projects
        names = [projects[id]["name"] for id in ids if id in projects]
        starts = tuple(f"{name}/" for name in names)
        return [*ids, *(p["id"] for p in projects.values() if p["name"].startswith(starts))]

    @staticmethod
    def _shown(task, version):
        """A task as a version of the API shows it: before 2.13 it had one output model."""
        if version >= (2, 13):
            return task
        output = [item["model"] for item in task["models"]["output"]]
        return {**task, "output": {**(task.get("output") or {}), "model": output[-1] if output else None}}

    def _find(self, task_id, to_write=False):
        task = self.store.tasks.get(task_id)
        if not task or not self._visible(task):
            raise ApiError(400, 101, id=task_id, company=COMPANY)
        if to_write and not task["company"]:
            raise ApiError(403, 21, f"cannot modify public task(s), ids=('{task_id}',)")
        return task

    def get_by_id(self, call):
        return {"task": self._shown(self._find(required(call.body, "task", str)), call.version)}

    def delete(self, call):
        task_id = required(call.body, "task", str)
        return self._delete(task_id, Wishes(call.body, self.store.version))

    def delete_many(self, call):
        ids = required(call.body, "ids", list)
        wishes = Wishes(call.body, self.store.version)
        succeeded, failed = [], []
        for task_id in ids:
            refuse = call.faults.get("refuse")
            try:
                if refuse and refuse.get("text", "") in task_id:
                    raise ApiError(*refuse.get("codes", (500, 100)), refuse.get("reason", ""))
                is_done = "claim" not in call.faults
                done = self._delete(task_id, wishes) if is_done else {"deleted": True}
                succeeded.append({"id": task_id, **done})
            except ApiError as error:
                codes = [error.code, error.subcode]
                said = {"codes": codes, "msg": error.message, "data": error.data}
                failed.append({"id": task_id, "error": said})
        return {"succeeded": succeeded, "failed": failed}

    def _delete(self, task_id, wishes):
        task = self._find(task_id, to_write=True)
        self._check_status(task, wishes)
        if wishes.include_pipeline_steps and "pipeline" in task["system_tags"]:
            # Their files are not collected, as in the real server.
            for step in self.store.children_of(task_id):
                if not wishes.force:
                    self._check_children(step)
                self._clean(step, wishes)
        if not wishes.force:
            self._check_children(task)
        return self._clean(task, wishes)

    def _check_status(self, task, wishes):
        """Draft and archived tasks may go; servers before 1.0 did not look at archived."""
        is_archived = "archived" in task["system_tags"] and self.store.version >= (2, 13)
        if task["status"] != "created" and not is_archived and not wishes.force:
            detail = "due to status, use force=True"
            raise ApiError(400, 123, detail, task=task["id"], expected="created", current=task["status"])

    def _check_children(self, task):
        children = sum(child["status"] == "published" for child in self.store.children_of(task["id"]))
        if children:
            raise ApiError(400, 123, "has children, use force=True", task=task["id"], children=children)
        published = [model for model in self._models(task) if model["ready"]]
        if published:
            detail = "has output models, use force=True"
            raise ApiError(400, 123, detail, task=task["id"], models=len(published))

    def _models(self, task):
        """The models that a task made: those that name it, and those that it names."""
        found = {model["id"]: model for model in self.store.models_of(task["id"])}
        for item in task["models"]["output"]:
            model = self.store.models.get(item["model"])
            if model:
                found[model["id"]] = model
        return list(found.values())

    def _clean(self, task, wishes):
        """Deletes a task and what hangs on it, and says what that was."""
        store = self.store
        gone = DELETED + task["id"]
        models = self._models(task)
        unused = [m for m in models if not m["ready"] and not store.consumers_of(m["id"])]
        urls = {
            "model_urls": sorted({m["uri"] for m in unused if m.get("uri")}),
            "artifact_urls": sorted(
                {a["uri"] for a in task["execution"]["artifacts"] if a["mode"] == "output" and a.get("uri")}
            ),
            "event_urls": sorted(_event_urls(store.events.get(task["id"], []))),
        }
        counts = {"updated_children": 0, "updated_models": 0, "deleted_models": 0}
        for child in store.children_of(task["id"]):
            store.set_parent(child, gone)
            counts["updated_children"] += 1
        for model in models:
            self._part(model, gone, wishes, counts)
        if wishes.delete_external_artifacts:
            store.queue(url for some in urls.values() for url in some)
        store.remove_task(task)
        # Servers since 1.17 keep the list of event URLs for old clients only, and leave it empty.
        if store.version > (2, 30):
            urls["event_urls"] = []
        return {"deleted": True, **counts, "urls": urls if wishes.return_file_urls else None}

    def _part(self, model, gone, wishes, counts):
        """What becomes of a model whose task goes."""
        store = self.store
        if not model["ready"] and wishes.delete_output_models:
            if store.consumers_of(model["id"]):
                store.set_model_task(model, None)
            else:
                store.remove_model(model)
                counts["deleted_models"] += 1
        else:
            store.set_model_task(model, gone)
            counts["updated_models"] += 1


class Wishes:
    """What a call for a deletion asks for. A server ignores what came after its time.

    The version of the server counts here, not the one in the path: an old client gets today's defaults.
    """

    def __init__(self, body, version):
        def flag(name, default, since):
            value = optional(body, name, bool, default)
            return value if version >= since else default

        self.force = flag("force", False, (1, 0))
        self.return_file_urls = flag("return_file_urls", False, (2, 13))
        self.delete_output_models = flag("delete_output_models", True, (2, 13))
        has_queue = version >= (2, 21)
        self.delete_external_artifacts = has_queue and flag("delete_external_artifacts", True, (2, 21))
        self.include_pipeline_steps = flag("include_pipeline_steps", False, (2, 30))


def _event_urls(events):
    names = ("url", "source_urls")
    return {url for event in events for name in names for url in values_at(event, name) if url}
