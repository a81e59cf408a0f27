#!/usr/bin/env python3
"""A double of ClearML's API server and file server, for tests.

    python3 double.py --state STATE.json --files DIR [--log REQUESTS.jsonl]

It listens on two free ports of 127.0.0.1 and prints one line of JSON when it is ready:
`{"api": "http://127.0.0.1:PORT", "files": "http://127.0.0.1:PORT"}`. `STATE.json` has `tasks`, `models`,
`events` (by task), `projects`, `credentials` and `version`, in the shapes of the real API, and may have
`now`, `token_seconds`, `fileserver` and `async_delete`. In it `{files}` is the URL of the file server.

The tests steer it on the API port: GET `/_double/state`, POST `/_double/state` (a new state), GET and POST
`/_double/faults` (see `faults.py`). These are not logged and need no token.
"""

import argparse
import json
import sys
import threading

# The folder of the tests holds text only.
sys.dont_write_bytecode = True

from api import Api
from faults import Faults
from fileserver import Fileserver
from store import Store
from web import Answer, Log, Server


class Double:
    """Both servers over one state."""

    def __init__(self, seed, files, log=None, ports=(0, 0)):
        self.faults = Faults()
        self.store = Store({})
        self.log = log = Log(log)
        api = Api(self.store)
        self.api = Server(api, self.faults, log, self._control, ports[0])
        self.files = Server(Fileserver(self.store, api.login, files), self.faults, log, self._control, ports[1])
        self.load(seed)
        self.api.start()
        self.files.start()

    def load(self, seed):
        """Replaces the state."""
        text = json.dumps(seed).replace("{files}", self.files.url)
        with self.store.lock:
            self.store.load(json.loads(text))

    def state(self):
        """The present state, as an object of its own."""
        with self.store.lock:
            return json.loads(json.dumps(self.store.as_json()))

    def stop(self):
        """Ends both servers. An error of the double itself is raised here."""
        for server in (self.api, self.files):
            server.shutdown()
            server.server_close()
        self.log.close()
        errors = self.api.errors + self.files.errors
        if errors:
            raise AssertionError("the double failed:\n" + "\n".join(errors))

    def _control(self, request):
        """The requests of the tests."""
        what = request.path.removeprefix("/_double/")
        try:
            if request.method != "GET":
                {"faults": self.faults.set, "state": self.load}[what](json.loads(request.body))
            shown = {"faults": self.faults.as_json, "state": self.state}[what]()
        except (KeyError, ValueError, TypeError) as error:
            return Answer(400, json.dumps({"error": repr(error)}).encode())
        return Answer(200, json.dumps(shown).encode())


def main():
    parser = argparse.ArgumentParser(description="A double of ClearML's API and file servers.")
    parser.add_argument("--state", required=True, help="the seed, as JSON")
    parser.add_argument("--files", required=True, help="the directory of the file server")
    parser.add_argument("--log", help="where each request is written, as a line of JSON")
    args = parser.parse_args()
    with open(args.state, encoding="utf-8") as file:
        double = Double(json.load(file), args.files, args.log)
    print(json.dumps({"api": double.api.url, "files": double.files.url}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
