"""What the tests of the double share: a double of their own for each test, and a client of one call."""

import base64
import http.client
import json
import tempfile
import unittest
from pathlib import Path
from urllib.parse import urlsplit

import seed
from double import Double

OLD = "2020-01-01 00:00:00"


class Reply:
    """An answer of a server."""

    def __init__(self, status, body, headers):
        self.status, self.body, self.headers = status, body, headers

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        return self.json["data"]

    @property
    def code(self):
        """`400/101`, after a check that the status says the same."""
        meta = self.json["meta"]
        assert meta["result_code"] == self.status, self.body
        return f"{meta['result_code']}/{meta['result_subcode']}"


def send(url, method, path, body=None, headers=None, seconds=10):
    """One request on a connection of its own. The path is sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=seconds)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), dict(answer.getheaders()))
    finally:
        connection.close()


def basic(key, secret):
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()}


class DoubleCase(unittest.TestCase):
    """A test with a double. `self.files` writes below the directory of its file server."""

    maxDiff = None

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.dir = Path(directory.name)
        self.files = seed.Files(self.dir / "files")
        self.files.root.mkdir()
        self.log = self.dir / "log"
        self.double = None
        self._token = None

    def start(self, tasks=(), models=(), events=None, **more):
        """Starts the double with these records."""
        self.double = Double(seed.state(tasks, models, events, **more), self.files.root, self.log)
        self.addCleanup(self.double.stop)
        self._token = None

    @property
    def token(self):
        if not self._token:
            answer = send(self.double.api.url, "POST", "/auth.login", "{}", basic("key", "secret"))
            self._token = {"Authorization": "Bearer " + answer.data["token"]}
        return self._token

    def call(self, endpoint, headers=None, /, **body):
        """Calls an endpoint of the API, with a token if no other headers are given."""
        headers = self.token if headers is None else headers
        return send(self.double.api.url, "POST", f"/{endpoint}", json.dumps(body), headers)

    def to_files(self, method, path, body=None):
        """A request to the file server with a token."""
        return send(self.double.files.url, method, path, body, self.token)

    def ids(self, **body):
        """The ids that a listing of tasks gives."""
        return [task["id"] for task in self.call("tasks.get_all", **body).data["tasks"]]

    def left(self, kind="tasks"):
        """The ids of the records that are left."""
        return sorted(record["id"] for record in self.double.state()[kind])

    def logged(self):
        """The lines of the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]
