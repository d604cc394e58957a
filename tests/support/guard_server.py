"""A strict Guard backend inside the test's process: it validates every request, keeps it, and answers as it is told."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

from opentelemetry_guard.models import AgentStatus, EventBatch, SecurityEvent, SecurityMetric

from .rows import without_enrichment

API_KEY = "server-test-key"
PATHS = ("/api/v1/events", "/api/v1/metrics")
STATUS_PATH = "/api/v1/status"
RULES_PATH = "/api/v1/rules"
STREAM_PATH = "/api/v1/rules/stream"
WAIT_SECONDS = 60.0
"""When a wait is given up as failed."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request as it came in; `body` is uncompressed, `document` what it says, `status` how it was answered."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    document: Json
    status: int

    @property
    def accepted(self) -> bool:
        """Whether the answer took the rows over."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Answer:
    """How to answer one request: after `delay` seconds, whole, one byte each `drip` seconds, or with a reset."""

    status: int = 200
    body: bytes = b'{"success": true}'
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    reset: bool = False


class GuardServer:
    """What a test sees of the server. `_changed` guards everything that changes.

    `requests` and `answer` are about rows. Status reports and questions for
    rules are kept apart, in `statuses` and `questions`; `control` says how
    both are answered, None as the contract says. `decide` answers requests
    that keep the contract, in the place of `answer`.
    """

    def __init__(self, api_key: str) -> None:
        self.api_key = api_key
        self.url = ""
        self.violations: list[str] = []
        self.closing = threading.Event()
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._answers: list[Answer] = []
        self._always = Answer()
        self._bodies: dict[str, bytes] = {}
        self._statuses: list[Request] = []
        self._questions: list[Request] = []
        self._rules: bytes | None = None
        self.control: Answer | None = None
        self.decide: Callable[[bytes, Json], Answer] | None = None

    @property
    def settings(self) -> dict[str, object]:
        """Keyword arguments of an exporter that sends here from memory, and reports no status."""
        return {
            "endpoint": self.url,
            "api_key": self.api_key,
            "project_id": "test-project",
            "queue_url": "memory://",
            "status_interval": 0,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables, with the default store."""
        return {
            "OTEL_EXPORTER_GUARD_ENDPOINT": self.url,
            "OTEL_EXPORTER_GUARD_API_KEY": self.api_key,
            "OTEL_EXPORTER_GUARD_PROJECT_ID": "test-project",
        }

    @property
    def requests(self) -> list[Request]:
        """Every request so far."""
        with self._changed:
            return list(self._requests)

    @property
    def events(self) -> list[Json]:
        """Every event of an accepted request, duplicates included."""
        return self._rows("events")

    @property
    def metrics(self) -> list[Json]:
        """Every metric row of an accepted request."""
        return self._rows("metrics")

    @property
    def statuses(self) -> list[Request]:
        """Every status report so far."""
        with self._changed:
            return list(self._statuses)

    @property
    def questions(self) -> list[Request]:
        """Every question for rules so far; `status` says how it was answered."""
        with self._changed:
            return list(self._questions)

    def serve_rules(self, rules: Json | bytes | None) -> None:
        """Answer questions for rules with a document (or with bytes that are none); None is 404."""
        with self._changed:
            self._rules = json.dumps(rules).encode() if isinstance(rules, dict) else rules

    def answer(
        self,
        status: int = 200,
        body: bytes | Json | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        drip: float = 0.0,
        reset: bool = False,
        times: int | None = 1,
    ) -> None:
        """Answer the next `times` requests like this, every one from now on where `times` is None."""
        if body is None:
            body = {"success": 200 <= status < 300}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = Answer(status, raw, headers or {}, delay, drip, reset)
        with self._changed:
            if times is None:
                self._always = answer
                self._answers.clear()
            else:
                self._answers += [answer] * times

    def wait_for_events(self, count: int, timeout: float = WAIT_SECONDS) -> list[Json]:
        """Return the events as soon as there are `count` of them."""
        self.wait_until(lambda: len(self.events) >= count, f"{count} events", timeout)
        return self.events

    def wait_for_metrics(self, count: int, timeout: float = WAIT_SECONDS) -> list[Json]:
        """Return the metric rows as soon as there are `count` of them."""
        self.wait_until(lambda: len(self.metrics) >= count, f"{count} metrics", timeout)
        return self.metrics

    def wait_for_requests(self, count: int, timeout: float = WAIT_SECONDS) -> list[Request]:
        """Return the requests as soon as there are `count` of them, accepted or not."""
        self.wait_until(lambda: len(self.requests) >= count, f"{count} requests", timeout)
        return self.requests

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = WAIT_SECONDS) -> None:
        """Return as soon as `condition` holds, which is asked again after every request."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"{what} expected within {timeout} s, got {len(self.events)} events, {len(self.metrics)} metrics in "
                f"{[(request.path, request.status) for request in self.requests]}; {self.violations}"
            )

    def receive(self, path: str, headers: Mapping[str, str], raw: bytes) -> Answer:
        """Judge one request and return the answer to it."""
        try:
            body = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
            document = _parse(body)
            problem = _problem(path, headers, body, document)
        except (ValueError, OSError, EOFError) as error:
            body, document, problem = raw, {}, f"{type(error).__name__}: {error}"
        with self._changed:
            batch_id = str(document.get("batch_id"))
            if self._bodies.setdefault(batch_id, body) != body:
                problem = f"batch {batch_id} came again with another body"
            answer = self._answers.pop(0) if self._answers else self._always
            if problem is None and self.decide is not None:
                answer = self.decide(body, document)
            if problem is not None:
                self.violations.append(f"{path}: {problem}")
                answer = Answer(422, json.dumps({"detail": problem}).encode())
            elif headers.get("x-api-key") != self.api_key:
                answer = Answer(401, b"unknown API key")
            status = 0 if answer.reset else answer.status
            self._requests.append(Request(path, headers, body, document, status))
            self._changed.notify_all()
        return answer

    def receive_status(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Judge one status report and return the answer to it."""
        answer, document = Answer(), {}
        try:
            document = _parse(body)
            AgentStatus.model_validate_json(body, strict=True)
            problem = _problem_with_headers(headers)
        except ValueError as error:
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            self.violations.append(f"{path}: {problem}")
            answer = Answer(422, json.dumps({"detail": problem}).encode())
        return self._keep(self._statuses, answer, path, headers, body, document)

    def receive_question(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Judge one question for rules and return the answer to it; a stream of them is not offered."""
        if path == STREAM_PATH:
            return Answer(404, b'{"detail": "no stream"}')
        if path != RULES_PATH:
            self.violations.append(f"{path}: no such path")
        with self._changed:
            rules = self._rules
        tag = f'"{hashlib.sha256(rules or b"").hexdigest()[:16]}"'
        if rules is None:
            answer = Answer(404, b'{"detail": "no rules"}')
        elif headers.get("if-none-match") == tag:
            answer = Answer(304, b"", {"ETag": tag})
        else:
            answer = Answer(200, rules, {"ETag": tag})
        return self._keep(self._questions, answer, path, headers, b"", {})

    def _keep(
        self,
        kept: list[Request],
        answer: Answer,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        document: Json,
    ) -> Answer:
        if headers.get("x-api-key") != self.api_key:
            answer = Answer(401, b"unknown API key")
        with self._changed:
            if self.control is not None:
                answer = self.control
            kept.append(Request(path, headers, body, document, 0 if answer.reset else answer.status))
            self._changed.notify_all()
        return answer

    def _rows(self, kind: str) -> list[Json]:
        return [row for request in self.requests if request.accepted for row in request.document[kind]]


def same(received: Json, event: SecurityEvent) -> None:
    """Check that the server has the event that was emitted, types included, apart from what emission adds to it."""
    told, meant = dict(received), event.model_dump()
    assert datetime.fromisoformat(told.pop("timestamp").replace("Z", "+00:00")) == meant.pop("timestamp")
    added = without_enrichment(told["metadata"])
    told["metadata"] = {k: v for k, v in added.items() if k not in ("trace_id", "span_id")}
    assert json.dumps(told, sort_keys=True) == json.dumps(meant, sort_keys=True)


def _parse(body: bytes) -> Json:
    """Read JSON as the standard has it: no NaN, no key twice."""

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    def unique(pairs: Sequence[tuple[str, Any]]) -> Json:
        keys = [key for key, _ in pairs]
        if len(keys) != len(set(keys)):
            raise ValueError(f"a key is there twice: {keys}")
        return dict(pairs)

    document: Json = json.loads(body.decode(), parse_constant=no_constant, object_pairs_hook=unique)
    return document


def _problem(path: str, headers: Mapping[str, str], body: bytes, document: Json) -> str | None:
    """Return what the contract has against a request, None where it has nothing."""
    if path not in PATHS:
        return "no such path"
    if problem := _problem_with_headers(headers):
        return problem
    if unknown := document.keys() - EventBatch.model_fields:
        return f"unknown keys {sorted(unknown)}"
    EventBatch.model_validate_json(body, strict=True)
    if headers.get("x-project-id", "default") != document["project_id"]:
        return f"X-Project-ID is {headers.get('x-project-id')!r}, project_id {document['project_id']!r}"
    other = "metrics" if path.endswith("events") else "events"
    if document[other]:
        return f"{other} on the wrong path"
    for event in document["events"]:
        if missing := SecurityEvent.model_fields.keys() - event:
            return f"an event without {sorted(missing)}"
        if not event["idempotency_key"] or not event["timestamp"].endswith("Z"):
            return f"an event with key {event['idempotency_key']!r} and time {event['timestamp']!r}"
    for metric in document["metrics"]:
        if metric.keys() != SecurityMetric.model_fields.keys():
            return f"a metric with the keys {sorted(metric)}"
    return None


def _problem_with_headers(headers: Mapping[str, str]) -> str | None:
    """Return what the contract has against a request's headers."""
    if not re.fullmatch(r"opentelemetry-guard/\d\S*", headers.get("user-agent", "")):
        return f"User-Agent is {headers.get('user-agent')!r}"
    if headers.get("content-type") != "application/json":
        return f"Content-Type is {headers.get('content-type')!r}"
    if headers.get("content-encoding", "gzip") != "gzip":
        return f"Content-Encoding is {headers['content-encoding']!r}"
    UUID(headers.get("x-agent-install-id", "missing X-Agent-Install-Id"))
    return None


@contextmanager
def guard_server(api_key: str = API_KEY, port: int = 0) -> Iterator[GuardServer]:
    """Serve on a loopback port until the block ends; a request that broke the contract fails the test then."""
    server = GuardServer(api_key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.headers["Content-Length"] is None:
                server.violations.append(f"{self.path}: no Content-Length")
                self._give(Answer(411))
                self.close_connection = True
                return
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receive = server.receive_status if self.path == STATUS_PATH else server.receive
            self._give(receive(self.path, headers, raw))

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._give(server.receive_question(self.path, headers))

        def _give(self, answer: Answer) -> None:
            self.close_connection = bool(answer.reset or answer.drip) or server.closing.wait(answer.delay)
            if answer.reset:
                # Lingering for zero seconds makes close() send a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            try:
                self.send_response_only(answer.status)
                if "Date" not in answer.headers:
                    self.send_header("Date", self.date_time_string())
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if not answer.drip:
                    self.wfile.write(answer.body)
                    return
                for byte in answer.body:
                    self.wfile.write(bytes([byte]))
                    if server.closing.wait(answer.drip):
                        return
            except ConnectionError:
                self.close_connection = True  # the client has given up, as some tests mean it to

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()
    assert not server.violations, server.violations
