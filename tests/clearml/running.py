"""Runs the official SDK against a double, in a process of its own. What the tests of the SDK share.

The SDK is the one of the Python that `SWEEPER_TESTS_PYTHON` names, or of this one. `SWEEPER_TESTS_SDKS` names
Pythons with older versions, as `1.7.0=PATH 0.17.4=PATH`.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import defects
import seed
from double import Double

PYTHON = os.environ.get("SWEEPER_TESTS_PYTHON") or sys.executable
DRIVER = Path(__file__).with_name("sdk.py")


def older():
    """The older versions that are installed, each with its Python."""
    return dict(pair.split("=", 1) for pair in os.environ.get("SWEEPER_TESTS_SDKS", "").split())


def need_sdk(python=PYTHON):
    """Without the SDK a test is left out, but not where everything must be there."""
    found = subprocess.run([python, "-c", "import clearml"], capture_output=True, text=True)
    if found.returncode != 0:
        leave_out(f"{python} has no SDK of ClearML: {found.stderr[-500:]}")


def need_sweeper():
    """The sweeper to test: `SWEEPER_TESTS_STATIC` names it, which `tests/run` builds."""
    binary = os.environ.get("SWEEPER_TESTS_STATIC")
    if not binary:
        leave_out("SWEEPER_TESTS_STATIC names no sweeper")
    return binary


def need_older(version):
    """The Python with an older SDK."""
    if version not in older():
        if sys.version_info >= (3, 12):
            raise unittest.SkipTest(f"the SDK {version} does not run on this Python")
        leave_out(f"SWEEPER_TESTS_SDKS does not name the SDK {version}")
    return older()[version]


def leave_out(reason):
    """Ends a test that lacks something. Where everything must be there, that is a failure."""
    if os.environ.get("SWEEPER_TESTS_ALL"):
        raise AssertionError(reason)
    raise unittest.SkipTest(reason)


class End:
    """What is left, by name: tasks, models and files; and the requests until then."""

    def __init__(self, place):
        self.requests = [json.loads(line) for line in place.log.read_text().splitlines()]
        self.state = place.double.state()
        self.tasks = {task["name"]: task for task in self.state["tasks"]}
        self.models = {model["name"]: model for model in self.state["models"]}
        self.files = set(place.files.left())

    def calls(self, name):
        """The requests of one endpoint, whatever version is in the path."""
        return [r for r in self.requests if r["host"] == "api" and r["path"].endswith("/" + name)]


class Run(End):
    """What the SDK did with a state: its result, its messages, and what is left."""

    def __init__(self, place, python=PYTHON, sequence="task-delete", more=()):
        command = [python, "-B", str(DRIVER), "--files-root", str(place.files.root)]
        command += ["--api", place.double.api.url, "--files", place.double.files.url]
        command += ["--sequence", sequence, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"the SDK ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        super().__init__(place)
        self.messages = done.stdout + done.stderr
        self.result = json.loads(done.stdout.splitlines()[-1])
        self.deleted, self.not_deleted = (
            {place.names[task] for task in self.result[key]} for key in ("deleted", "not_deleted")
        )


class Sweep(End):
    """What `sweeper clearml run` did with a state: its exit code, its report, and what is left."""

    def __init__(self, place, *flags):
        hosts = {"CLEARML_API_HOST": place.double.api.url, "CLEARML_FILES_HOST": place.double.files.url}
        keys = {"CLEARML_API_ACCESS_KEY": "key", "CLEARML_API_SECRET_KEY": "secret"}
        env = {"PATH": os.environ["PATH"], "HOME": str(place.dir), **hosts, **keys}
        command = [need_sweeper(), "clearml", "run", "--state", str(place.dir / "journal"), *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
        super().__init__(place)
        self.code = done.returncode
        self.messages = done.stdout + done.stderr


class Place:
    """A directory with a double and its files, for as long as a test needs it."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory()
        self.dir = Path(self._directory.name)
        self.files = seed.Files(self.dir / "files")
        self.files.root.mkdir()
        self.log = self.dir / "log"
        self.double = self.other = None
        self.names = {}

    def start(self, state):
        self.names = {task["id"]: task["name"] for task in state["tasks"]}
        self.double = Double(state, self.files.root, self.log)

    def start_with_defects(self):
        """Starts with the state in which every defect shows, and another file server without a token."""
        self.local = self.dir / "local"
        self.local.mkdir()
        self.other = Place()
        self.other.start(seed.state(fileserver={"auth": False}))
        url = self.other.files.add("elsewhere.bin").replace("{files}", self.other.double.files.url)
        self.start(defects.build(self.files, self.local, url))
        self.double.faults.set(defects.FAULTS)

    def run(self, python=PYTHON, sequence="task-delete", more=()):
        return Run(self, python, sequence, more)

    def sweep(self, *flags):
        return Sweep(self, *flags)

    def close(self):
        if self.double:
            self.double.stop()
        if self.other:
            self.other.close()
        self._directory.cleanup()
