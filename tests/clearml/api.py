"""The API server: paths, versions, who may call, and the envelope around each answer."""

import itertools
import json
import re
import urllib.parse
from dataclasses import dataclass

from errors import ApiError
from events import Events
from login import Login
from making import Making
from models import Models
from projects import Projects
from store import version_of
from tasks import Tasks
from web import Answer

_PATH = re.compile(r"/(?:v(\d+\.?\d+)/)?([a-zA-Z_]\w*\.[a-zA-Z_]\w*)/?")
# The ids of calls.
_numbers = itertools.count(1)


@dataclass
class Call:
    """One call of an endpoint."""

    name: str
    body: dict
    version: tuple
    faults: dict


class Api:
    """Answers the calls that the service and its replacement make, and those that make records for tests.

    No other endpoint is there.
    """

    host = "api"

    def __init__(self, store):
        self.store = store
        self.login = Login(store)
        tasks, models, events, making = Tasks(store), Models(store), Events(store), Making(store)
        # Each endpoint with the API version that it came with.
        self.endpoints = {
            "auth.login": ((1, 5), self.login.login),
            "tasks.get_all": ((1, 0), tasks.get_all),
            "tasks.get_by_id": ((1, 0), tasks.get_by_id),
            "tasks.delete": ((1, 0), tasks.delete),
            "tasks.delete_many": ((2, 13), tasks.delete_many),
            "events.get_task_events": ((1, 0), events.get_task_events),
            "models.get_all": ((1, 0), models.get_all),
            "models.get_by_id": ((1, 0), models.get_by_id),
            "models.delete": ((1, 0), models.delete),
            "projects.get_all": ((1, 0), Projects(store).get_all),
            "server.info": ((2, 8), self._info),
            "tasks.create": ((1, 0), making.create_task),
            "tasks.started": ((1, 0), making.to_status("in_progress", ("created", "queued"))),
            "tasks.stopped": ((1, 0), making.to_status("stopped", ("in_progress",))),
            "tasks.publish": ((1, 0), making.to_status("published", ("stopped", "completed", "closed"))),
            "models.create": ((1, 0), making.create_model),
            "events.add": ((1, 0), making.add_event),
        }

    def _info(self, _call):
        return {"version": self.store.server_version, "build": "0", "commit": ""}

    @staticmethod
    def _parse(path):
        found = _PATH.fullmatch(path)
        return found.groups() if found else (None, None)

    def names(self, request):
        """What a fault may call a request."""
        name = self._parse(request.path)[1] or request.path
        return (name, f"api:{name}")

    def answer(self, request, faults):
        """Carries out a request."""
        if request.headers.get("content-encoding"):
            text = f"Content encoding is not supported ({request.headers['content-encoding']})"
            return Answer(415, text.encode(), "text/html; charset=utf-8")
        version, name = self._parse(request.path)
        highest = self.store.version
        # A version above the server's own is resolved downward.
        asked = min(version_of(version), highest) if version else highest
        meta = {"name": name, "requested_version": "{}.{}".format(*asked), "actual_version": None}
        try:
            with self.store.lock:
                data = self._call(request, name, asked, faults, meta)
                return envelope(200, 0, "OK", data, meta)
        except ApiError as error:
            return envelope(error.code, error.subcode, error.message, {}, meta, error.data)

    def _call(self, request, name, version, faults, meta):
        since, function = self.endpoints.get(name, ((99, 0), None))
        if not function or since > version:
            number = "{}.{}".format(*version)
            raise ApiError(404, 0, f"Unable to find endpoint for name {name} and version {number}")
        meta["actual_version"] = "{}.{}".format(*since)
        self.login.check(request.headers.get("authorization"))
        vanish = faults.get("vanish", {})
        if vanish.get("before"):
            self.store.vanish(vanish["ids"])
        data = function(Call(name, self._body(request), version, faults))
        if vanish and not vanish.get("before"):
            self.store.vanish(vanish["ids"])
        return data

    @staticmethod
    def _body(request):
        body = {key: values[-1] for key, values in urllib.parse.parse_qs(request.query).items()}
        if request.body:
            try:
                sent = json.loads(request.body)
            except ValueError:
                raise ApiError(400, 0, "failed parsing request") from None
            if not isinstance(sent, dict):
                raise ApiError(400, 0, "failed parsing request")
            body.update(sent)
        return body

    def instead(self, kind, fault, request, answer):
        """The answer of a fault."""
        if kind == "not_json":
            return Answer(200, b"<!DOCTYPE html><html><body>ClearML</body></html>", "text/html")
        if kind == "redirect":
            return Answer(fault.get("status", 302), b"", headers={"Location": fault["to"]})
        if kind == "wrong_envelope":
            # The data is right, so that a client that does not look at the envelope would use it.
            name = self._parse(request.path)[1] or ""
            if not answer.body and "delete" not in name:
                answer = self.answer(request, {})
            data = json.loads(answer.body or b"{}").get("data", {})
            return Answer(200, json.dumps(fault.get("body", {"data": data})).encode())
        status, body = fault["status"], fault.get("body")
        if isinstance(body, str):
            return Answer(status, body.encode(), "text/html")
        if body is not None:
            return Answer(status, json.dumps(body).encode())
        error = ApiError(status, fault.get("subcode", 0), fault.get("message", ""))
        endpoint = {"name": self._parse(request.path)[1]}
        return envelope(status, error.subcode, error.message or "failed", {}, endpoint)


def envelope(code, subcode, message, data, endpoint, error_data=None):
    """An answer as the API server makes it."""
    meta = {
        "id": f"{next(_numbers):032x}",
        "trx": f"{next(_numbers):032x}",
        "endpoint": endpoint,
        "result_code": code,
        "result_subcode": subcode,
        "result_msg": message,
        "error_stack": None,
        "error_data": error_data or {},
    }
    return Answer(code, json.dumps({"meta": meta, "data": data}).encode())
