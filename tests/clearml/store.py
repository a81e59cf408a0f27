"""What the double keeps: tasks, models, events and projects, in the shapes of the real API.

A state is read from and given as one JSON object. Times are kept in the form that the real API answers with.
It must not know requests, users or files.
"""

import json
import re
import threading
import time
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from functools import lru_cache

COMPANY = "d1bd92a3b039400cbafc60a7a5b1e52b"
DELETED = "__DELETED__"

# Server releases that raised the version of the API: an API version, and the first server that had it.
RELEASES = {
    (2, 34): "2.3.0",
    (2, 31): "2.0.0",
    (2, 30): "1.16.0",
    (2, 23): "1.9.0",
    (2, 21): "1.7.0",
    (2, 14): "1.0.0",
    (2, 9): "0.17.0",
}

# A date that the server reads. It drops every other one in silence.
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?\s?(Z|[+-]\d\d:?\d\d)?"
)


@lru_cache(maxsize=100_000)
def parse_date(text):
    """A date as a time in UTC, or None when the server cannot read it."""
    found = _DATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        return None
    day, clock, fraction, zone = found.groups()
    micros = (fraction or "0")[:6].ljust(6, "0")
    clock = clock or "00:00"
    clock = clock if len(clock) == 8 else clock + ":00"
    zone = "+00:00" if zone in (None, "Z") else zone if ":" in zone else zone[:3] + ":" + zone[3:]
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{micros}{zone}").astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def now_text(seconds):
    """A time of the clock in the form of the API."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def version_of(text):
    """`2.34` as (2, 34)."""
    major, _, minor = str(text).partition(".")
    return int(major), int(minor or 0)


class Store:
    """One state. Hold `lock` while you read or change it."""

    TASK_DATES = ("status_changed", "last_update", "last_change", "created", "started", "completed")

    def __init__(self, seed):
        self.lock = threading.RLock()
        self.load(seed)

    def load(self, seed):
        """Replaces everything by what a seed says."""
        self.version = version_of(seed.get("version", "2.34"))
        self.credentials = seed.get("credentials") or {"key": "key", "secret": "secret"}
        kept = ("fileserver", "async_delete", "token_seconds")
        self.settings = {key: seed[key] for key in kept if key in seed}
        now = parse_date(seed.get("now") or "")
        self.ahead = now - datetime.now(timezone.utc) if now else timedelta()
        self.projects = {p["id"]: {"company": COMPANY, **p} for p in seed.get("projects", [])}
        events = seed.get("events", {})
        self.events = {owner: [event_of(owner, e) for e in some] for owner, some in events.items()}
        self.queued_urls = []
        self._index()
        for task in seed.get("tasks", []):
            self.add_task(task_of(task))
        for model in seed.get("models", []):
            self.add_model({"ready": False, "system_tags": [], "tags": [], **model})

    def _index(self):
        self.tasks, self.models = {}, {}
        # Tasks by parent, models by task, tasks by input model.
        self._children = defaultdict(dict)
        self._outputs = defaultdict(dict)
        self._consumers = defaultdict(dict)

    @property
    def server_version(self):
        """The release of a server with this version of the API."""
        known = [api for api in RELEASES if api <= self.version]
        return RELEASES[max(known)] if known else "0.16.0"

    def now(self):
        """The server's clock, which a seed may set."""
        return time.time() + self.ahead.total_seconds()

    def add_task(self, task):
        self.tasks[task["id"]] = task
        self._children[task.get("parent")][task["id"]] = task
        for item in task["models"]["input"]:
            self._consumers[item["model"]][task["id"]] = task

    def add_model(self, model):
        model.setdefault("company", COMPANY)
        self.models[model["id"]] = model
        self._outputs[model.get("task")][model["id"]] = model

    def remove_task(self, task):
        del self.tasks[task["id"]]
        self._children[task.get("parent")].pop(task["id"], None)
        for item in task["models"]["input"]:
            self._consumers[item["model"]].pop(task["id"], None)
        self.events.pop(task["id"], None)

    def vanish(self, ids):
        """Another client has deleted these tasks or models."""
        for record in ids:
            if record in self.tasks:
                self.remove_task(self.tasks[record])
            if record in self.models:
                self.remove_model(self.models[record])

    def remove_model(self, model):
        del self.models[model["id"]]
        self._outputs[model.get("task")].pop(model["id"], None)

    def set_parent(self, task, parent):
        self._children[task.get("parent")].pop(task["id"], None)
        task["parent"] = parent
        self._children[parent][task["id"]] = task

    def set_model_task(self, model, task_id):
        """Gives a model another task, or none."""
        self._outputs[model.get("task")].pop(model["id"], None)
        model["task"] = task_id
        self._outputs[task_id][model["id"]] = model

    def replace_input(self, task, model_id, by):
        """Puts another id in the place of an input model."""
        for item in task["models"]["input"]:
            if item["model"] == model_id:
                item["model"] = by
        self._consumers[model_id].pop(task["id"], None)
        self._consumers[by][task["id"]] = task

    def children_of(self, task_id):
        return list(self._children[task_id].values())

    def models_of(self, task_id):
        return list(self._outputs[task_id].values())

    def consumers_of(self, model_id):
        """The tasks that have a model as input."""
        return list(self._consumers[model_id].values())

    def queue(self, urls):
        """Puts URLs on the server's own list of files to delete, if it knows their store."""
        settings = self.settings.get("async_delete") or {}
        if not settings.get("enabled", True):
            return
        known = ("s3://", "gs://", "azure://", *settings.get("prefixes", ()))
        for url in urls:
            if url.startswith(known) and url not in self.queued_urls:
                self.queued_urls.append(url)

    def as_json(self):
        """The present state, in the shape of a seed."""
        return {
            "tasks": list(self.tasks.values()),
            "models": list(self.models.values()),
            "events": self.events,
            "projects": list(self.projects.values()),
            "credentials": self.credentials,
            "version": "{}.{}".format(*self.version),
            "queued_urls": self.queued_urls,
            **self.settings,
        }


def task_of(seed):
    """A task with the parts that the real server always has."""
    task = {
        "company": COMPANY,
        "type": "training",
        "status": "created",
        "name": "task",
        "tags": [],
        "parent": None,
        "project": None,
        "user": "user-1",
        **seed,
    }
    task["system_tags"] = list(seed.get("system_tags") or [])
    task["execution"] = {"queue": None, **(seed.get("execution") or {})}
    task["execution"].setdefault("artifacts", [])
    usual = {"type": "custom", "mode": "output"}
    task["execution"]["artifacts"] = [{**usual, **a} for a in task["execution"]["artifacts"]]
    models = seed.get("models") or {}
    task["models"] = {way: list(models.get(way) or []) for way in ("input", "output")}
    for name in Store.TASK_DATES:
        when = parse_date(task.get(name))
        if when:
            task[name] = when.isoformat()
    return task


def event_of(owner, seed):
    """An event with the parts that the server fills in."""
    event = {"task": owner, "metric": "m", "variant": "v", "iter": 0, "timestamp": 0, **seed}
    event.setdefault("type", "training_debug_image")
    if event["type"] == "plot" and "source_urls" not in event:
        urls = image_urls(event.get("plot_str"))
        if urls:
            event["source_urls"] = urls
    return event


def image_urls(plot):
    """All images that a plot names. A plot that is not JSON has none."""
    try:
        images = json.loads(plot)["layout"]["images"]
        return [image["source"] for image in images if image.get("source")]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
