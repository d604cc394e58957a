"""A backend that accepts everything, counts events and bytes, and notes how old each event was: bare sockets.

An event is known by the text ``sent.`` and the hexadecimal nanoseconds of its emission in two words, whichever format
carries it: JSON, protobuf or an envelope. It looks like no secret, as most of an event's texts do.
`GET /counted` tells and forgets what was counted, `GET /refuse` and `GET /accept` switch its answers.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

STAMP = re.compile(rb"sent\.([0-9a-f]{8})\.([0-9a-f]{8})")


def stamp() -> str:
    """Return the text by which the backend knows an event, and its age."""
    now = time.time_ns()
    return f"sent.{now >> 32:08x}.{now & 0xFFFF_FFFF:08x}"


@dataclass
class Counted:
    """What was accepted: events, requests, bytes on the wire, and the ages of the events in seconds."""

    events: int = 0
    requests: int = 0
    wire_bytes: int = 0
    ages: list[float] = field(default_factory=list)


_counted = Counted()
_lock = threading.Lock()


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while line := self.rfile.readline():
            method, path, _ = line.decode("latin-1").split(" ", 2)
            headers = dict(_headers(self.rfile))
            body = self._body(headers)
            answer, status = b'{"success": true}', b"200 OK"
            if method == "GET":
                answer = _CALLS[path]() if path in _CALLS else b"{}"
            elif _refuses.is_set():
                answer, status = b"{}", b"503 Service Unavailable"
            elif "/status" not in path:
                _count(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body, len(body))
            if path.endswith("/v1/logs"):
                answer = b""
            self.wfile.write(
                b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(answer), answer)
            )

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)


def _headers(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        yield name.lower(), value.strip().lower()


def _count(body: bytes, wire_bytes: int) -> None:
    now = time.time_ns()
    ages = [(now - int(high + low, 16)) / 1e9 for high, low in STAMP.findall(body)]
    with _lock:
        _counted.events += len(ages)
        _counted.requests += 1
        _counted.wire_bytes += wire_bytes
        _counted.ages += ages


def _told() -> bytes:
    global _counted
    with _lock:
        told, _counted = _counted, Counted()
    return json.dumps(vars(told)).encode()


def _refuse() -> bytes:
    _refuses.set()
    return b"{}"


def _accept() -> bytes:
    _refuses.clear()
    return b"{}"


_refuses = threading.Event()
_CALLS = {"/counted": _told, "/refuse": _refuse, "/accept": _accept}


class Backend:
    """A running backend."""

    def __init__(self, url: str) -> None:
        self.url = url

    def counted(self) -> Counted:
        """Return what was accepted since the last call."""
        return Counted(**self._call("counted"))

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Answer 503 to everything meanwhile."""
        self._call("refuse")
        try:
            yield
        finally:
            self._call("accept")

    def _call(self, name: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/{name}", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
            return told


@contextmanager
def running() -> Iterator[Backend]:
    """Run a backend in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Backend(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = socket.SOMAXCONN


if __name__ == "__main__":
    server = _Server(("127.0.0.1", 0), _Connection)
    print(server.server_address[1], flush=True)
    server.serve_forever()
