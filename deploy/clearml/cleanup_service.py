#!/usr/bin/env python3
"""ClearML's Cleanup Service, run by sweeper.

Run it once by hand, as ClearML's documentation says. It makes the task "Cleanup Service" in the project "DevOps"
with the four parameters, which can be edited in the web interface when the task is cloned, and asks whether to
enqueue it to the queue "services". It needs the official SDK, and `sweeper` beside it or on the PATH.
"""

import os
import shutil
import signal
import subprocess
import sys

from clearml import Task


def find_sweeper():
    """The program: beside this file, or on the PATH."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sweeper")
    found = beside if os.access(beside, os.X_OK) else shutil.which("sweeper")
    if not found:
        sys.exit("sweeper is neither beside this file nor on the PATH")
    return found


def is_true(value):
    """A parameter that was edited in the web interface is text."""
    return str(value).strip().lower() in ("1", "true", "yes", "on")


def wants_queue():
    """Asks, as the original does. Without a terminal it runs here."""
    if not sys.stdin.isatty():
        return False
    answer = input("Stop local execution and execute remotely [y]/n ? ")
    return answer.strip().lower() in ("", "y", "yes")


def main():
    task = Task.init(
        project_name="DevOps", task_name="Cleanup Service", task_type=Task.TaskTypes.service
    )
    # The order is that of the web interface.
    args = task.connect(
        {
            "delete_threshold_days": 30.0,
            "cleanup_period_in_days": 1.0,
            "run_as_service": True,
            "force_delete": False,
        }
    )
    as_service = is_true(args["run_as_service"])
    if as_service and Task.running_locally() and wants_queue():
        task.execute_remotely(queue_name="services", exit_process=True)
    command = [
        find_sweeper(),
        "clearml",
        "serve" if as_service else "run",
        "--compat-output",
        f"--delete-threshold-days={args['delete_threshold_days']}",
        f"--cleanup-period-in-days={args['cleanup_period_in_days']}",
        f"--force-delete={str(is_true(args['force_delete'])).lower()}",
    ]
    sweeper = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sweeper.send_signal(number))
    sys.exit(sweeper.wait())


if __name__ == "__main__":
    main()
