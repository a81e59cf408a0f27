"""ClearML's servers at the ports that they usually have, with one old task, one new one and their files.

    python3 clearml.py FILES
"""

import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clearml"))

from double import Double

URL = "http://clearml.example:8081"


def main():
    files = Path(sys.argv[1])
    now = datetime.now(timezone.utc)
    tasks = []
    for number, days in enumerate([40, 2]):
        task, name = f"{number:032x}", f"train-{number}"
        path = f"project/{name}.{task}/artifacts/model/model.pkl"
        (files / path).parent.mkdir(parents=True)
        (files / path).write_text("content")
        at = (now - timedelta(days=days)).isoformat()
        artifact = {"key": "model", "type": "custom", "mode": "output", "uri": f"{URL}/{path}"}
        tasks.append({
            "id": task, "name": name, "status": "completed", "type": "training", "tags": [],
            "system_tags": ["archived"], "project": "f" * 32, "created": at, "last_update": at,
            "status_changed": at, "execution": {"artifacts": [artifact]},
        })
    seed = {
        "tasks": tasks, "models": [], "events": {}, "projects": [{"id": "f" * 32, "name": "project"}],
        "credentials": {"key": "...", "secret": "..."},
    }
    Double(seed, files, ports=(8008, 8081))
    threading.Event().wait()


main()
