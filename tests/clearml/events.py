"""The endpoint of events: debug samples and plots of a task, page by page."""

import uuid

from errors import ApiError, optional, required

# The index behind the server counts no further.
MOST_COUNTED = 10_000
MOST_AT_ONCE = 10_000


class Events:
    """Holds the positions of scrolls; the events are in the store."""

    def __init__(self, store):
        self.store = store
        self.scrolls = {}

    def get_task_events(self, call):
        body = call.body
        owner = required(body, "task", str)
        self._check(owner, body.get("model_events") and self.store.version >= (2, 22))
        kind, order = body.get("event_type"), body.get("order") or "asc"
        size = optional(body, "batch_size", int, 500)
        if size < 1 or order not in ("asc", "desc"):
            raise ApiError(400, 12, "wrong batch_size or order")
        size = min(size, MOST_AT_ONCE)
        scroll = body.get("scroll_id") or uuid.uuid4().hex
        if scroll not in self.scrolls:
            found = [event for event in self.store.events.get(owner, []) if kind in (None, event["type"])]
            found.sort(key=lambda event: event["timestamp"], reverse=order == "desc")
            self.scrolls[scroll] = (found, 0)
        # A scroll is a picture of the moment when it began.
        events, at = self.scrolls[scroll]
        if "repeat_page" in call.faults:
            at = 0
        if "endless_scroll" in call.faults and events:
            at %= len(events)
        page = events[at : at + size]
        self.scrolls[scroll] = (events, at + len(page))
        if not page:
            del self.scrolls[scroll]
        total = min(len(events), MOST_COUNTED)
        return {"events": page, "returned": len(page), "total": total, "scroll_id": scroll}

    def _check(self, owner, of_model):
        if of_model and owner not in self.store.models:
            raise ApiError(400, 201, ids=[owner])
        if not of_model and owner not in self.store.tasks:
            raise ApiError(400, 101, ids=[owner])
