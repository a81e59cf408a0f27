"""HTTP for both servers: reads requests, writes answers and the log, and applies the faults of the wire.

An application has `host` (its name in the log), `names(request)`, `answer(request, faults)` and
`instead(kind, fault, request, answer)`.
It must not know what a task or a file is.
"""

import json
import socket
import threading
import time
import traceback
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import responses
from socketserver import StreamRequestHandler, ThreadingTCPServer

from faults import INSTEAD

GIB = 1024**3


@dataclass
class Request:
    """What came in."""

    method: str
    target: str
    headers: dict
    body: bytes

    @property
    def path(self):
        return self.target.partition("?")[0]

    @property
    def query(self):
        return self.target.partition("?")[2]

    @property
    def text(self):
        """What a fault may look for."""
        return self.target + " " + self.body.decode("utf-8", "replace")


@dataclass
class Answer:
    """What goes out."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: dict = field(default_factory=dict)


class Log:
    """One JSON line for each request. A token or password is never in it."""

    def __init__(self, path):
        self._lock = threading.Lock()
        self._file = open(path, "a", encoding="utf-8") if path else None

    def add(self, host, request, status):
        if not self._file:
            return
        text = request.body.decode("utf-8", "replace")
        try:
            body = json.loads(text) if text else None
        except ValueError:
            body = text
        line = {
            "method": request.method,
            "host": host,
            "path": request.target,
            "body": body,
            "authorization": "authorization" in request.headers,
            "status": status,
        }
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()

    def close(self):
        with self._lock:
            if self._file:
                self._file.close()


class Handler(StreamRequestHandler):
    """One connection. It reads HTTP by itself: the parser of the standard library takes most of the time."""

    disable_nagle_algorithm = True
    wbufsize = -1

    def handle(self):
        self.is_open = True
        try:
            while self.is_open and (request := self._read()):
                self._respond(request)
                self.wfile.flush()
        except (ConnectionError, TimeoutError):
            pass

    def finish(self):
        try:
            super().finish()
        except (ConnectionError, ValueError):
            pass

    def _read(self):
        """The next request, or None at the end of the connection."""
        first = self.rfile.readline().split()
        if len(first) != 3:
            return None
        headers = {}
        while (line := self.rfile.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        self.is_open = first[2] != b"HTTP/1.0" and headers.get("connection", "").lower() != "close"
        return Request(first[0].decode(), first[1].decode("latin-1"), headers, self._body(headers))

    def _respond(self, request):
        if request.path.startswith("/_double/"):
            self._send(request, self.server.control(request))
            return
        app = self.server.app
        faults = self.server.faults.take(app.names(request), request.text)
        if "slow" in faults:
            time.sleep(faults["slow"]["seconds"])
        if "hang" in faults:
            self.server.log.add(app.host, request, None)
            time.sleep(faults["hang"].get("seconds", 3600))
            return self._drop()
        if "close" in faults:
            self.server.log.add(app.host, request, None)
            return self._drop()
        answer = self._answer(app, request, faults)
        self.server.log.add(app.host, request, answer.status)
        if "close_after" in faults:
            return self._drop()
        self._send(request, answer, faults)

    def _body(self, headers):
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(headers.get("content-length") or 0))

    @staticmethod
    def _answer(app, request, faults):
        kind = next((kind for kind in INSTEAD if kind in faults), None)
        is_replaced = kind or "huge" in faults
        is_carried_out = not is_replaced or any(fault.get("after") for fault in faults.values())
        answer = app.answer(request, faults) if is_carried_out else Answer(200)
        return app.instead(kind, faults[kind], request, answer) if kind else answer

    def _drop(self):
        """Ends the connection without an answer."""
        self.is_open = False
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _send(self, request, answer, faults=()):
        huge = faults["huge"] if "huge" in faults else None
        length = huge.get("bytes", 10 * GIB) if huge else len(answer.body)
        headers = {"Content-Type": answer.kind, "Content-Length": length, **answer.headers}
        if not self.is_open:
            headers["Connection"] = "close"
        if "clock" in faults:
            headers["Date"] = formatdate(time.time() + faults["clock"]["seconds"], usegmt=True)
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
        if huge:
            self._send_huge(length)
        elif "slow_drip" in faults:
            self._send_slowly(answer.body, faults["slow_drip"])
        elif "truncate" in faults:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.wfile.flush()
            self._drop()
        elif request.method != "HEAD":
            self.wfile.write(answer.body)

    def _send_huge(self, length):
        """A body that starts like a listing and has blanks for the rest."""
        start = b'{"meta": {"result_code": 200, "result_subcode": 0}, "data": {"tasks": ['
        self.wfile.write(start)
        left = length - len(start)
        while left > 0:
            self.wfile.write(b" " * min(left, 1 << 20))
            left -= 1 << 20

    def _send_slowly(self, body, fault):
        for at in range(0, len(body), fault.get("bytes", 1)):
            self.wfile.write(body[at : at + fault.get("bytes", 1)])
            self.wfile.flush()
            time.sleep(fault.get("seconds", 1))


class Server(ThreadingTCPServer):
    """A server on a free port of the loopback address."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, app, faults, log, control, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.app, self.faults, self.log, self.control = app, faults, log, control
        self.errors = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def handle_error(self, request, client_address):
        """Keeps what went wrong in the double itself, so that no test takes it for a fault on request."""
        super().handle_error(request, client_address)
        self.errors.append(traceback.format_exc())
