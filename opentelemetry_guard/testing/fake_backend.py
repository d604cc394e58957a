"""A Guard backend within a test's process: it validates what it is sent, keeps it, and answers as it is told."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from pydantic import ValidationError
from typing_extensions import Self

from ..models import AgentStatus, DynamicRules, EventBatch, SecurityEvent, SecurityMetric

API_KEY = "fake-backend-key"
"""The key that it takes."""

_BATCHES = ("/api/v1/events", "/api/v1/metrics")
_STATUS = "/api/v1/status"
_RULES = "/api/v1/rules"


@dataclass(frozen=True, slots=True)
class Received:
    """One request: its path, headers by lower-case name, decompressed body, and the status of its answer."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int


class FakeBackend:
    """A backend on a free loopback port, for the time of a ``with`` block.

    It takes the contract's calls: batches that are valid are kept, others are
    answered with 422, a wrong key with 401. Encrypted batches are not known.

    Attributes:
        requests: every request, in the order of its arrival.
        rules: what it hands out; None answers 204.

    Example::

        with FakeBackend() as backend:
            exporter = GuardLogExporter(endpoint=backend.url, api_key=backend.api_key)
            ...
            assert backend.wait_for_events(1)[0].event_type == "ip_blocked"

    .. versionadded:: 1.0
    """

    api_key = API_KEY

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.rules: DynamicRules | None = None
        self._events: list[SecurityEvent] = []
        self._metrics: list[SecurityMetric] = []
        self._statuses: list[AgentStatus] = []
        self._answers: deque[tuple[int, bytes, Mapping[str, str]]] = deque()
        # Guards all of these, and tells of each arrival.
        self._arrived = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        """Begin to answer."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="FakeBackend", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of an application that sends here."""
        return {"OTEL_EXPORTER_GUARD_ENDPOINT": self.url, "OTEL_EXPORTER_GUARD_API_KEY": self.api_key}

    @property
    def events(self) -> list[SecurityEvent]:
        """The events that were taken, each key once."""
        with self._arrived:
            return list({event.idempotency_key: event for event in self._events}.values())

    @property
    def metrics(self) -> list[SecurityMetric]:
        """The metrics that were taken."""
        with self._arrived:
            return list(self._metrics)

    @property
    def statuses(self) -> list[AgentStatus]:
        """The status reports that were taken."""
        with self._arrived:
            return list(self._statuses)

    def answer(self, *statuses: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer the next batches with these statuses, one each, before they are looked at; then as always."""
        with self._arrived:
            self._answers.extend((status, body, headers or {}) for status in statuses)

    def wait_for_events(self, count: int, timeout: float = 10.0) -> list[SecurityEvent]:
        """Return the events as soon as there are `count`.

        Raises:
            TimeoutError: there are fewer after `timeout` seconds.
        """
        with self._arrived:
            enough = self._arrived.wait_for(
                lambda: len({event.idempotency_key for event in self._events}) >= count, timeout
            )
        if not enough:
            raise TimeoutError(f"{len(self.events)} of {count} events have arrived within {timeout:g} seconds")
        return self.events

    def take(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Judge one request and return status, body and headers of the answer."""
        with self._arrived:
            status, answer, more = self._judged(method, path, headers, body)
            self.requests.append(Received(path, headers, body, status))
            self._arrived.notify_all()
        return status, answer, more

    def _judged(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, Mapping[str, str]]:
        if path in _BATCHES and self._answers:
            return self._answers.popleft()
        if headers.get("x-api-key") != self.api_key:
            return 401, b'{"detail": "unknown key"}', {}
        if (method, path) == ("GET", _RULES):
            return (204, b"", {}) if self.rules is None else (200, self.rules.model_dump_json().encode(), {})
        try:
            if method == "POST" and path in _BATCHES:
                batch = EventBatch.model_validate_json(body)
                self._events += batch.events
                self._metrics += batch.metrics
                return 200, b'{"success": true}', {}
            if (method, path) == ("POST", _STATUS):
                self._statuses.append(AgentStatus.model_validate_json(body))
                return 200, b'{"success": true}', {}
        except ValidationError as error:
            return 422, b'{"detail": ' + error.json(include_url=False).encode() + b"}", {}
        return 404, b'{"detail": "there is no such call"}', {}


def _handler_of(backend: FakeBackend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                try:
                    body = gzip.decompress(body)
                except (OSError, EOFError, zlib.error):
                    self._send(400, b'{"detail": "the gzip can not be read"}', {})
                    return
            self._answer(body)

        def _answer(self, body: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._send(*backend.take(self.command, self.path.partition("?")[0], headers, body))

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print no line for each request."""

    return Handler
