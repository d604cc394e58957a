"""An OTLP/HTTP receiver in a process of its own, which decodes protobuf, counts, and fails as it is told.

``python -m support.otlp_receiver [PORT]`` prints its port. Items are told apart by the number in their attribute ``n``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from support.faults import python_environment, read_line

KINDS: Mapping[str, tuple[str, type, type]] = {
    "/v1/traces": ("spans", ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/logs": ("logs", ExportLogsServiceRequest, ExportLogsServiceResponse),
    "/v1/metrics": ("points", ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}
REJECTED = {"spans": "rejected_spans", "logs": "rejected_log_records", "points": "rejected_data_points"}
POISON = 666
"""The item that a receiver in the mode ``poison`` refuses, with all that came with it."""


def items(kind: str, request: Any) -> list[int]:
    """Return the numbers of a request's items, in their order."""
    if kind == "spans":
        found = [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
    elif kind == "logs":
        found = [record for r in request.resource_logs for s in r.scope_logs for record in s.log_records]
    else:
        metrics = [
            m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics if m.WhichOneof("data")
        ]
        found = [point for metric in metrics for point in getattr(metric, metric.WhichOneof("data")).data_points]
    return [next((a.value.int_value for a in item.attributes if a.key == "n"), -1) for item in found]


class State:
    """What was seen. `lock` guards all of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.mode: dict[str, Any] = {"name": "ok"}
        self.items: dict[str, Counter[int]] = {kind: Counter() for kind, _, _ in KINDS.values()}
        self.bodies: dict[str, Counter[str]] = {kind: Counter() for kind, _, _ in KINDS.values()}
        self.came_in: dict[int, str] = {}
        self.torn = 0
        self.rejected: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []

    def next_mode(self) -> dict[str, Any]:
        """Return the mode of one request; one that is for so many `times` ends then."""
        with self.lock:
            mode = self.mode
            if "times" in mode:
                mode["times"] -= 1
                if mode["times"] <= 0:
                    self.mode = {"name": "ok"}
            return dict(mode)

    def store(self, kind: str, numbers: list[int], body: bytes) -> None:
        """Note what was accepted."""
        with self.lock:
            self.items[kind].update(numbers)
            digest = hashlib.sha256(body).hexdigest()
            self.bodies[kind][digest] += 1
            for number in numbers:
                self.torn += self.came_in.setdefault(number, digest) != digest

    def document(self, numbers: bool) -> dict[str, Any]:
        """Return counts, and with `numbers` each item's number."""
        with self.lock:
            return {
                "received": {kind: sum(found.values()) for kind, found in self.items.items()},
                "distinct": {kind: len(found) for kind, found in self.items.items()},
                "numbers": {kind: sorted(found) for kind, found in self.items.items()} if numbers else {},
                "twice": {kind: sum(n > 1 for n in found.values()) for kind, found in self.items.items()},
                "bodies_twice": {kind: sum(n > 1 for n in found.values()) for kind, found in self.bodies.items()},
                "torn": self.torn,
                "rejected": dict(self.rejected),
                "requests": dict(self.requests),
                "attempts_of_one": max(self.attempts.values(), default=0),
                "headers": self.headers[-5:],
            }


STATE = State()


class Handler(BaseHTTPRequestHandler):
    """Answers as the mode says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200, json.dumps(STATE.document("numbers" in self.path)).encode(), "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/forget":
            with STATE.lock:
                STATE.reset()
            self._answer(200, b"{}", "application/json")
            return
        if self.path == "/mode":
            with STATE.lock:
                STATE.mode = json.loads(body)
            self._answer(200, b"{}", "application/json")
            return
        encoding = self.headers.get("content-encoding", "")
        plain = (
            gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body) if encoding == "deflate" else body
        )
        if self.path.endswith("/track"):
            self._track(plain)
            return
        kind, request_type, response_type = KINDS[self.path]
        numbers = items(kind, request_type.FromString(plain))
        with STATE.lock:
            STATE.requests[kind] += 1
            STATE.attempts[hashlib.sha256(plain).hexdigest()] += 1
            STATE.headers.append({name.lower(): value for name, value in self.headers.items()})
        self._behave(STATE.next_mode(), kind, numbers, plain, response_type())

    def _track(self, body: bytes) -> None:
        """Take what Azure's exporters send: JSON in the place of protobuf, and always with success."""
        found = json.loads(body)
        told = [envelope["data"]["baseData"].get("properties", {}).get("n") for envelope in found]
        STATE.store("spans", [int(number) for number in told if number is not None], body)
        answer = {"itemsReceived": len(found), "itemsAccepted": len(found), "errors": []}
        self._answer(200, json.dumps(answer).encode(), "application/json")

    def _behave(self, mode: dict[str, Any], kind: str, numbers: list[int], plain: bytes, response: Any) -> None:
        name = mode["name"]
        if name == "status" or (name == "poison" and POISON in numbers):
            status = ExportTracePartialSuccess(rejected_spans=3, error_message=mode.get("message", "no"))
            retry = {"retry-after": str(mode["retry_after"])} if "retry_after" in mode else {}
            self._answer(mode.get("status", 400), status.SerializeToString(), "application/x-protobuf", retry)
            return
        if name == "limit" and len(plain) > mode["bytes"]:
            self._answer(413, b"too large", "text/plain")
            return
        if name in ("hang", "reset"):
            if name == "hang":
                time.sleep(mode.get("seconds", 3600))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if name == "partial":
            rejected = min(mode["rejected"], len(numbers))
            setattr(response.partial_success, REJECTED[kind], rejected)
            response.partial_success.error_message = "too old"
            with STATE.lock:
                STATE.rejected[kind] += rejected
            numbers = numbers[rejected:]
        STATE.store(kind, numbers, plain)
        if name == "slow":
            time.sleep(mode["seconds"])
        if name == "garbage":
            self._answer(200, b"\xff\xfe not protobuf", "application/x-protobuf")
        elif name == "page":
            self._answer(200, b"<html>welcome</html>", "text/html")
        elif name == "json":
            document = {"partialSuccess": {"rejectedSpans": str(mode["rejected"]), "errorMessage": "too old"}}
            self._answer(200, json.dumps(document).encode(), "application/json")
        else:
            self._answer(200, response.SerializeToString(), "application/x-protobuf")

    def _answer(self, status: int, body: bytes, media: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": media, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        with suppress(OSError):  # whoever asked was killed
            self.end_headers()
            self.wfile.write(body)


class Receiver:
    """The test's hand on a receiver."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def set_mode(self, name: str, **more: object) -> None:
        """Change how it behaves."""
        body = json.dumps({"name": name, **more}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/mode", body), timeout=30).close()

    def forget(self) -> None:
        """Have it forget what it has seen, and take everything."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/forget", b"{}"), timeout=30).close()

    def seen(self, numbers: bool = False) -> dict[str, Any]:
        """Return what it has received."""
        with urllib.request.urlopen(f"{self.url}/{'numbers' if numbers else ''}", timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def wait(self, enough: Any, timeout: float = 60.0) -> dict[str, Any]:
        """Return what it has received when that is `enough`, or the time is up."""
        ends = time.monotonic() + timeout
        pause = threading.Event()
        while not enough(seen := self.seen()) and time.monotonic() < ends:
            pause.wait(0.05)
        return seen


@contextmanager
def otlp_receiver(port: int = 0) -> Iterator[Receiver]:
    """Run a receiver for the block."""
    command = [sys.executable, "-m", "support.otlp_receiver", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=python_environment())
    try:
        said = read_line(process)
        assert said is not None
        yield Receiver(process, said["port"])
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if __name__ == "__main__":
    server = _Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()
