"""The file server: files below one directory, by GET, HEAD, DELETE and `/delete_many`.

It must not touch anything outside its directory.
"""

import json
import os
import shutil
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
        self.root = Path(root)

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
        return self.root / clean

    def _get(self, path):
        place = self._place(path)
        if not place or not place.is_file():
            return _text(404, "Not Found")
        return Answer(200, place.read_bytes(), "application/octet-stream")

    def _delete(self, path):
        place = self._place(path)
        if not place or not place.is_file():
            return _text(404, f"File {path} not found")
        place.unlink()
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
            reason = self._remove(given, faults.get("refuse"))
            if reason == "":
                deleted[given] = urllib.parse.unquote_plus(given)
            else:
                errors[reason].append(given)
        return _text(200, json.dumps({"deleted": deleted, "errors": errors}))

    def _remove(self, given, refuse):
        """Removes a file or a whole directory. An empty text means done; else it is the reason why not."""
        path = urllib.parse.unquote_plus(given)
        if refuse and refuse.get("text", "") in path:
            return refuse.get("reason", "Permission denied")
        if not path.strip("/"):
            return "Empty path not allowed"
        place = self._place(path)
        if not place or not place.exists():
            return "Not found"
        try:
            if place.is_file():
                place.unlink()
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
