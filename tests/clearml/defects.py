"""A state in which each defect of the old cleanup shows: one task for each, and what belongs to it.

The tasks and models are named after what is about them; `seed.identifier` has their ids. Files lie in a
folder of the name of the task; images lie in the task's own folder, as the SDK puts them there.
"""

import json
from dataclasses import dataclass, field

import seed


@dataclass
class Building:
    """The records of a state while it is built."""

    files: seed.Files
    tasks: list = field(default_factory=list)
    models: list = field(default_factory=list)
    events: dict = field(default_factory=dict)

    def task(self, name, artifacts=(), **more):
        self.tasks.append(seed.task(seed.identifier(name), artifacts=artifacts, name=name, **more))

    def model(self, name, task=None, uri=None, ready=False):
        task = task and seed.identifier(task)
        self.models.append(seed.model(seed.identifier(name), task, uri, ready, name=name))

    def event(self, task, *events):
        self.events[seed.identifier(task)] = list(events)

    def file(self, path):
        return self.files.add(path)

    def images(self, task, count):
        return [self.file(image(task, n)) for n in range(count)]


def own_folder(task):
    """The folder of a task, such as the SDK makes it: its name ends in the id."""
    return f"{task}.{seed.identifier(task)}"


def image(task, number):
    return f"{own_folder(task)}/{number:03}.jpeg"


def _events(to):
    """More debug samples than 100, a plot with three images, one that a live task shows too, and one without a URL."""
    to.task("many-images")
    images = enumerate(to.images("many-images", 250))
    to.event("many-images", *(seed.sample(url, timestamp=n) for n, url in images))
    to.task("plot")
    to.event("plot", seed.plot(*to.images("plot", 3)))
    logo = to.file("logo.png")
    to.task("with-logo", [to.file("with-logo/a.bin")])
    to.task("user-of-logo", archived=False)
    for task in ("with-logo", "user-of-logo"):
        to.event(task, seed.sample(logo))
    to.task("no-url", [to.file("no-url/a.bin")])
    to.event("no-url", {"type": "training_debug_image", "metric": "m"})
    to.task("odd-plot", [to.file("odd-plot/a.bin")])
    to.event("odd-plot", {"type": "plot", "plot_str": "not JSON"})


def _models(to):
    """A draft, one in use, and one that is published."""
    for name, ready in (("draft", False), ("used", False), ("ready", True)):
        named = {"name": name, "model": seed.identifier(name)}
        to.task(f"with-{name}", models={"output": [named]})
        to.model(name, f"with-{name}", to.file(f"with-{name}/m.pt"), ready)
    used = {"name": "used", "model": seed.identifier("used")}
    to.task("user-of-used", archived=False, models={"input": [used]})


def _references(to):
    """A file with other users, an old version of a dataset, and an artifact of mode input."""
    shared = to.file("shared/a.bin")
    to.task("shared", [shared])
    to.task("user-of-shared", [{"key": "a", "mode": "input", "uri": shared}], archived=False)
    to.model("user-of-shared", None, shared)
    to.task("dataset-1", [to.file("dataset-1/data.zip")], system_tags=["archived", "dataset"])
    first, second = seed.identifier("dataset-1"), seed.identifier("dataset-2")
    versions = {"0": {"job_id": first, "parents": []}, "1": {"job_id": second, "parents": [first]}}
    item = {"name": "Dataset Struct", "type": "json", "value": json.dumps(versions)}
    struct = {"Dataset Struct": item}
    child = [to.file("dataset-2/data.zip")]
    to.task("dataset-2", child, archived=False, system_tags=["dataset"], configuration=struct)
    to.task("inputs", [{"key": "a", "mode": "input", "uri": to.file("inputs/a.bin")}])


def _statuses(to):
    for status in ("created", "completed", "failed", "stopped", "closed", "in_progress", "queued"):
        to.task(status, [to.file(f"{status}/a.bin")], status=status)
    to.task("published", [to.file("published/a.bin")], status="published")
    to.task("public", [to.file("public/a.bin")], company="")
    to.task("parent", [to.file("parent/a.bin")])
    to.task("child", [to.file("child/a.bin")], archived=False, parent=seed.identifier("parent"))


def _selection(to):
    to.task("live", [to.file("live/a.bin")], archived=False)
    to.task("young", [to.file("young/a.bin")], age=1)
    to.task("hidden", [to.file("hidden/a.bin")], system_tags=["archived", "hidden"])


def _places(to, local, elsewhere):
    """Local paths, another host, a file that refuses to go, and one that is gone already."""
    to.task("elsewhere", [elsewhere])
    to.task("local-url", [f"file://{local}/url.bin"])
    to.task("local-path", [f"{local}/path.bin"])
    for name in ("url.bin", "path.bin"):
        (local / name).write_text("x")
    to.task("refused", [to.file("refused/a.bin"), to.file("refused/b.bin")])
    to.task("missing", ["{files}/missing/a.bin", to.file("missing/b.bin")])


# Set before a run: the file `refused/a.bin` is not deleted.
FAULTS = [{"match": "files:DELETE", "has": "/refused/a.bin", "do": "status", "status": 403}]
_REASON = {"text": "refused/a.bin", "reason": "Permission denied"}
FAULTS += [{"match": "files:delete_many", "do": "refuse", **_REASON}]


def build(files, local, elsewhere):
    """The whole state.

    `local` is a directory of this machine, and gets files that artifacts name. `elsewhere` is a URL of
    another file server.
    """
    to = Building(files)
    _events(to)
    _models(to)
    _references(to)
    _statuses(to)
    _selection(to)
    _places(to, local, elsewhere)
    return seed.state(to.tasks, to.models, to.events)
