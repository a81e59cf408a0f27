#!/usr/bin/env python3
"""Runs the documented sequence of `cleanup_service.py` once, with the official SDK.

    python sdk.py --api URL --files URL [--files-root DIR] [--sequence NAME]

`task-delete` is what the service has done since 1.0.3: pages of 100 ids, and `Task.delete` for each task.
`server-delete` is what it did before: `tasks.delete` for each task, and then the folders of the task below
DIR, the mounted root of the file server. The last line on stdout is JSON: how many tasks each page had, which
were deleted and which not, and the tasks, models and files that are left.
"""

import argparse
import glob
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.dont_write_bytecode = True
PAGE = 100


def prepare(args):
    """An environment that holds nothing but this run, so that no other server and no other home is used."""
    home = tempfile.mkdtemp(prefix="sdk-home-")
    for name in [name for name in os.environ if name.startswith(("CLEARML_", "TRAINS_"))]:
        del os.environ[name]
    os.environ.update(
        HOME=home,
        CLEARML_CACHE_DIR=f"{home}/cache",
        CLEARML_CONFIG_FILE=f"{home}/no-such-file",
        TRAINS_CONFIG_FILE=f"{home}/no-such-file",
        CLEARML_API_HOST=args.api,
        CLEARML_WEB_HOST=args.api,
        CLEARML_FILES_HOST=args.files,
        CLEARML_API_ACCESS_KEY=args.key,
        CLEARML_API_SECRET_KEY=args.secret,
        CLEARML_API_DEFAULT_REQ_METHOD="GET",
        NO_PROXY="127.0.0.1",
    )
    return home


def pages(client, days):
    """The ids of the tasks, page after page, asked for as the service does while it deletes."""
    before = datetime.utcfromtimestamp(time.time() - 86_400 * days)
    page, tasks = 0, None
    while tasks is None or len(tasks) == PAGE:
        tasks = client.tasks.get_all(
            system_tags=["archived"],
            only_fields=["id"],
            order_by=["-last_update"],
            page_size=PAGE,
            page=page,
            status_changed=[f"<{before}"],
        )
        page += 1
        yield [task.id for task in tasks]


def delete_by_task(task_id):
    """The step of the service since 1.0.3."""
    from clearml import Task

    try:
        task = Task.get_task(task_id=task_id)
        return bool(
            task.delete(
                delete_artifacts_and_models=True,
                skip_models_used_by_other_tasks=True,
                raise_on_error=False,
            )
        )
    except Exception as error:  # whatever the SDK raises, the service went on
        logging.warning("Error while deleting Task ID=%s, %s", task_id, error)
        return False


def delete_by_server(client, task_id, root, force):
    """The step of the service before 1.0.3."""
    try:
        client.tasks.delete(task=task_id, force=force)
    except Exception as error:  # whatever the SDK raises, the service went on
        logging.warning("Could not delete Task ID=%s, %s", task_id, error)
        return False
    for folder in glob.glob(f"{glob.escape(root)}/*/*.{task_id}/"):
        shutil.rmtree(folder)
    return True


def everything(call, name):
    """The ids of all tasks or models that the server shows."""
    found, page, rows = [], 0, None
    while rows is None or len(rows) == 500:
        rows = call(page=page, page_size=500, only_fields=["id"], order_by=["id"])
        rows = getattr(rows, name, rows)
        found += [row.id for row in rows]
        page += 1
    return sorted(found)


def cycle(client, args, result):
    """One cycle of the service."""
    for ids in pages(client, args.days):
        result["pages"].append(len(ids))
        for task_id in ids:
            if args.sequence == "task-delete":
                done = delete_by_task(task_id)
            else:
                done = delete_by_server(client, task_id, args.files_root, args.force)
            result["deleted" if done else "not_deleted"].append(task_id)


def run(args):
    from clearml.backend_api.session.client import APIClient

    client = APIClient()
    result = {"pages": [], "deleted": [], "not_deleted": []}
    started = time.monotonic()
    while True:
        before = len(result["deleted"])
        cycle(client, args, result)
        if not args.until_empty or len(result["deleted"]) == before:
            break
    result["seconds"] = time.monotonic() - started
    result["tasks"] = everything(client.tasks.get_all, "tasks")
    result["models"] = everything(client.models.get_all, "models")
    if args.files_root:
        root = Path(args.files_root)
        result["files"] = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    return result


def main():
    parser = argparse.ArgumentParser(description="Runs the sequence of cleanup_service.py with the SDK.")
    parser.add_argument("--api", required=True)
    parser.add_argument("--files", required=True)
    parser.add_argument("--files-root")
    parser.add_argument("--key", default="key")
    parser.add_argument("--secret", default="secret")
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--force", action="store_true", help="for server-delete: delete with force")
    parser.add_argument("--until-empty", action="store_true", help="repeat until a cycle deletes nothing")
    parser.add_argument("--sequence", choices=["task-delete", "server-delete"], default="task-delete")
    args = parser.parse_args()
    home = prepare(args)
    sys.path.pop(0)  # this folder has modules with common names
    try:
        print(json.dumps(run(args)), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    # The SDK has threads that would wait.
    os._exit(0)


if __name__ == "__main__":
    main()
