#!/usr/bin/env python3
"""Builds states for the double: single records by hand, or a whole volume with files.

    python3 seed.py --files DIR --tasks 1000 --artifacts 5 --samples 20 > STATE.json

In URLs `{files}` stands for the URL of the file server, which the double fills in.
"""

import argparse
import hashlib
import json
import sys
import urllib.parse
from datetime import datetime, timedelta, timezone
from pathlib import Path


def identifier(name):
    """32 hexadecimal digits, always the same for a name."""
    return hashlib.md5(name.encode()).hexdigest()


def days_ago(days):
    """A time in the form of the API."""
    return (datetime.now(timezone.utc) - timedelta(days=days)).isoformat()


def task(task_id, age=40.0, archived=True, artifacts=(), **more):
    """A task that has been archived for some days. Artifacts are URIs, or whole records."""
    when = days_ago(age)
    records = [
        a if isinstance(a, dict) else {"key": f"a{n}", "type": "custom", "mode": "output", "uri": a}
        for n, a in enumerate(artifacts)
    ]
    return {
        "id": task_id,
        "name": f"task {task_id[:8]}",
        "status": "completed",
        "system_tags": ["archived"] if archived else [],
        "status_changed": when,
        "last_update": when,
        "last_change": when,
        "created": when,
        "execution": {"artifacts": records},
        **more,
    }


def model(model_id, task_id=None, uri=None, ready=False, **more):
    """A model; `ready` means published."""
    return {"id": model_id, "name": model_id, "task": task_id, "uri": uri, "ready": ready, **more}


def sample(url, **more):
    """The event of a debug sample."""
    return {"type": "training_debug_image", "url": url, **more}


def plot(*images, **more):
    """The event of a plot with images."""
    text = json.dumps({"data": [], "layout": {"images": [{"source": url} for url in images]}})
    return {"type": "plot", "plot_str": text, **more}


def state(tasks=(), models=(), events=None, projects=(), **more):
    """A seed with the credentials that all tests use."""
    return {
        "tasks": list(tasks),
        "models": list(models),
        "events": events or {},
        "projects": list(projects),
        "credentials": {"key": "key", "secret": "secret"},
        **more,
    }


class Files:
    """Writes files below the directory of the file server, and names them by URL."""

    def __init__(self, root):
        self.root = Path(root)

    def add(self, path, content=b"x"):
        """A new file. Its URL is the path on disk, encoded once."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return "{files}/" + urllib.parse.quote(path)

    def left(self):
        """The files that are there, as paths below the root."""
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())


def volume(root, tasks, artifacts=5, samples=20, models=0, age=40.0):
    """A state of old archived tasks of one project, each with files of its own."""
    files = Files(root)
    made, made_models, events = [], [], {}
    for n in range(tasks):
        task_id = identifier(f"task {n}")
        folder = f"project/task {n}.{task_id}"
        uris = [files.add(f"{folder}/artifacts/a{k}/a{k}.bin") for k in range(artifacts)]
        made.append(task(task_id, age + n / 86_400, artifacts=uris, name=f"task {n}"))
        made[-1]["project"] = identifier("project")
        images = [files.add(f"{folder}/metrics/m/v/m_v_{k:08}.jpeg") for k in range(samples)]
        events[task_id] = [sample(url, iter=k, timestamp=k) for k, url in enumerate(images)]
        own = [identifier(f"model {n} {k}") for k in range(models)]
        made_models += [model(m, task_id, files.add(f"{folder}/models/{m}.pt")) for m in own]
        made[-1]["models"] = {"output": [{"name": m, "model": m} for m in own]}
    return state(made, made_models, events, [{"id": identifier("project"), "name": "project"}])


def main():
    parser = argparse.ArgumentParser(description="Writes a state for the double, and its files.")
    parser.add_argument("--files", required=True)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--artifacts", type=int, default=5)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--models", type=int, default=0)
    parser.add_argument("--age", type=float, default=40.0, help="days since the tasks changed")
    args = parser.parse_args()
    counts = (args.tasks, args.artifacts, args.samples, args.models)
    json.dump(volume(args.files, *counts, args.age), sys.stdout)


if __name__ == "__main__":
    main()
