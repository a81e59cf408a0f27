"""The file server: files below one directory, by GET, HEAD, DELETE and `/delete_many`, and POST to add one.

It must not touch anything outside its directory.
"""

import email
import email.policy
import json
import os
import shutil
import stat
import urllib.parse
from collections import defaultdict
from pathlib import Path

from errors import ApiError
from web import Answer


class Fileserver:
    """Which of its ways in are there depends on the server's version, and on the seed."""

    host = "files"

    def __init__(self, store, login, root):
        self.store = store
        self.login = login
        self.root = os.fspath(root)

    def _has(self, name, since):
        settings = self.store.settings.get("fileserver") or {}
        return settings.get(name, self.store.version >= since)

    def names(self, request):
        """What a fault may call a request."""
        return (f"files:{request.method}", "files:" + urllib.parse.unquote(request.path).lstrip("/"))

    def answer(self, request, faults):
        """Carries out a request."""
        method, path = request.method, urllib.parse.unquote(request.path).lstrip("/")
        if request.headers.get("content-encoding"):
            return _text(415, f"Content encoding is not supported ({request.headers['content-encoding']})")
        if method in ("GET", "HEAD") and not path:
            return _text(200, "OK")
        if method == "POST" and not path:
            return self._refused(request) or self._upload(request)
        if method == "POST" and path == "delete_many" and self._has("delete_many", (2, 21)):
            return self._refused(request) or self._delete_many(request, faults)
        if method == "DELETE" and path and self._has("delete", (2, 9)):
            return self._refused(request) or self._delete(path)
        if method in ("GET", "HEAD"):
            return self._refused(request) or self._get(path)
        return _text(405, "Method Not Allowed")

    def _refused(self, request):
        """Servers since 1.16 want a token of the API server."""
        if not self._has("auth", (2, 30)):
            return None
        header = request.headers.get("authorization") or ""
        try:
            if not header.startswith("Bearer "):
                raise ApiError(401, 20)
            self.login.check(header)
        except ApiError as error:
            return _text(401, error.message)
        return None

    def _place(self, path):
        """Where a path is below the root, or None if it would be elsewhere."""
        clean = os.path.normpath(path) if path else ""
        if not clean or "\0" in clean or clean == ".." or clean.startswith(("/", "../")):
            return None
        return f"{self.root}/{clean}"

    def _get(self, path):
        place = self._place(path)
        if not place or not os.path.isfile(place):
            return _text(404, "Not Found")
        return Answer(200, Path(place).read_bytes(), "application/octet-stream")

    def _upload(self, request):
        """A form, in which the name of each field is the path of a file."""
        head = f"Content-Type: {request.headers.get('content-type')}\r\n\r\n".encode()
        added = []
        for part in email.message_from_bytes(head + request.body, policy=email.policy.HTTP).iter_parts():
            path = part.get_param("name", header="content-disposition")
            place = self._place(path.lstrip("/"))
            if not place:
                return _text(404, "Not Found")
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            Path(place).write_bytes(part.get_payload(decode=True))
            added.append(path)
        return _text(200, json.dumps(added))

    def _delete(self, path):
        place = self._place(path)
        if not place or not os.path.isfile(place):
            return _text(404, f"File {path} not found")
        os.unlink(place)
        return _text(200, json.dumps(path))

    def _delete_many(self, request, faults):
        try:
            files = json.loads(request.body)["files"]
        except (ValueError, KeyError, TypeError):
            files = None
        if not files:
            return _text(400, "files are missing")
        deleted, errors = {}, defaultdict(list)
        for given in files:
            path = urllib.parse.unquote_plus(given)
            reason = self._remove(path, faults.get("refuse"))
            if reason == "":
                deleted[given] = path
            else:
                errors[reason].append(given)
        return _text(200, json.dumps({"deleted": deleted, "errors": errors}))

    def _remove(self, path, refuse):
        """Removes a file or a whole directory. An empty text means done; else it is the reason why not."""
        if refuse and refuse.get("text", "") in path:
            return refuse.get("reason", "Permission denied")
        if not path.strip("/"):
            return "Empty path not allowed"
        place = self._place(path)
        try:
            kind = os.stat(place).st_mode if place else None
        except OSError:
            kind = None
        if kind is None:
            return "Not found"
        try:
            if stat.S_ISREG(kind):
                os.unlink(place)
            else:
                shutil.rmtree(place)
        except OSError as error:
            # A symlink to a directory has no text of its own; the real server says null.
            return error.strerror
        return ""

    def instead(self, kind, fault, request, answer):
        """The answer of a fault."""
        if kind == "redirect":
            return Answer(fault.get("status", 302), b"", headers={"Location": fault["to"]})
        if kind == "status":
            body = fault.get("body", "failed")
            return _text(fault["status"], body if isinstance(body, str) else json.dumps(body))
        if kind == "wrong_envelope":
            return Answer(200, json.dumps(fault.get("body", [])).encode())
        return _text(200, "<!DOCTYPE html><html><body>ClearML</body></html>")


def _text(status, text):
    return Answer(status, text.encode(), "text/html; charset=utf-8")
