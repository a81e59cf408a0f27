"""The endpoints that make records, so that tests can use nothing but the API, on a real server too.

A test that needs old records, or faults, seeds the double instead: the API sets no time in the past.
"""

import time
import uuid

from errors import ApiError, optional, required
from store import event_of, now_text, task_of


class Making:
    """Makes tasks, models and events."""

    def __init__(self, store):
        self.store = store

    def _find(self, call):
        task = self.store.tasks.get(required(call.body, "task", str))
        if not task:
            raise ApiError(400, 101, id=call.body["task"])
        return task

    def create_task(self, call):
        required(call.body, "name", str)
        required(call.body, "type", str)
        now = now_text(self.store.now())
        times = {"created": now, "last_update": now, "last_change": now, "status_changed": now}
        task = task_of({**call.body, **times, "id": uuid.uuid4().hex, "status": "created"})
        self.store.add_task(task)
        return {"id": task["id"]}

    def to_status(self, status, allowed):
        """An endpoint that gives a task another status."""

        def change(call):
            task = self._find(call)
            if task["status"] not in allowed and not optional(call.body, "force", bool, False):
                raise ApiError(400, 110, current_status=task["status"], new_status=status)
            task["status"] = status
            task["status_changed"] = task["last_update"] = now_text(self.store.now())
            return {"updated": 1, "fields": {"status": status}}

        return change

    def create_model(self, call):
        required(call.body, "uri", str)
        required(call.body, "name", str)
        model = {"ready": False, "tags": [], "system_tags": [], **call.body, "id": uuid.uuid4().hex}
        self.store.add_model(model)
        return {"id": model["id"], "created": True}

    def add_event(self, call):
        task = self._find(call)
        event = {"timestamp": int(time.time() * 1000), **call.body}
        self.store.events.setdefault(task["id"], []).append(event_of(task["id"], event))
        return {}
