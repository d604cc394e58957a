"""A plain application under attack: a real uvicorn under ``opentelemetry-instrument``, a real backend, no guard."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from support.application import ZERO_CODE, RunningApplication, running_application
from support.asgi import BROWSER
from support.backend import RunningBackend, running_backend
from support.normal_traffic import normal_traffic

pytestmark = pytest.mark.slow

BEHIND_A_PROXY = {"OTEL_PYTHON_GUARD_TRUSTED_PROXIES": "127.0.0.1"}
"""The tests are the proxy, so that they can be many clients."""


@contextmanager
def plain(backend: RunningBackend, settings: Mapping[str, str]) -> Iterator[RunningApplication]:
    environment = {**ZERO_CODE, **BEHIND_A_PROXY, **backend.environment, **settings}
    with running_application("support.unguarded_app:app", environment, "--no-proxy-headers") as application:
        yield application


class Clients:
    """Sends requests as anybody, each a part of the trace of its number; the first trace is 1."""

    def __init__(self, application: RunningApplication) -> None:
        parts = urlsplit(application.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._traces = itertools.count(1)
        self.flags = "01"

    def send(self, address: str, path: str, *, body: object = None, agent: str = BROWSER, token: str = "") -> int:
        """Send a request, its path as it is, and return the answer's status."""
        headers = {
            "X-Forwarded-For": f"192.0.2.66, {address}",
            "User-Agent": agent,
            "traceparent": f"00-{next(self._traces):032x}-00000000000000aa-{self.flags}",
        }
        if token:
            headers["Authorization"] = token
        data = None if body is None else orjson.dumps(body)
        if data is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request("GET" if data is None else "POST", path, data, headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def told(backend: RunningBackend) -> list[tuple[Any, ...]]:
    """Return the events but the analysis's, in the order of their traces."""
    return sorted(
        (
            int(event["metadata"]["trace_id"], 16),
            event["event_type"],
            event["ip_address"],
            event["endpoint"],
            event["status_code"],
            event["metadata"]["rule"],
        )
        for event in backend.events()
        if event["event_type"] != "behavioral_violation"
    )


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({}, "01"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "01"),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, "00"),
        ({"OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup"}, "01"),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi"}, "01"),
    ],
    ids=["recorded", "sampled-out", "unsampled-parent", "both-conventions", "fastapis-own-telemetry"],
)
def test_an_attack_arrives_as_what_it_was_each_request_in_its_trace(settings: dict[str, str], flags: str) -> None:
    brute, scanner, climber, greedy = (f"203.0.113.{number}" for number in (1, 2, 3, 4))
    with running_backend() as backend:
        with plain(backend, settings) as app:
            clients = Clients(app)
            clients.flags = flags
            guesses = [{"user": "ann", "password": f"guess {number}"} for number in range(15)]
            assert {clients.send(brute, "/login", body=guess) for guess in guesses} == {401}
            assert clients.send(scanner, "/.env") == 404
            assert clients.send(scanner, "/blog/wp-login.php") == 404
            assert clients.send(scanner, "/items/1", agent="sqlmap/1.9#stable") == 200
            assert {clients.send(scanner, f"/backup-{name}") for name in "abcdefghijkl"} == {404}
            assert clients.send(climber, "/static/..%2f..%2fetc/passwd") == 404
            assert clients.send(climber, "/static/%252e%252e/secret") == 404
            assert [clients.send(greedy, "/scarce") for _ in range(7)] == [200] * 5 + [429] * 2
            assert clients.send(greedy, "/admin/reports") == 403
            assert clients.send(greedy, "/search?q=x") == 422
            clients.close()
            app.stop()
        suspicious, attempt = "suspicious_request", "penetration_attempt"
        scan = [
            event for event in backend.events() if event["metadata"].get("folded") and event["ip_address"] == scanner
        ]
        assert [event["metadata"]["folded"] for event in scan] == [2], "three more, of which the last one tells"
        assert told(backend) == [
            *((number, "authentication_failed", brute, "/login", 401, "logins") for number in range(1, 16)),
            (16, suspicious, scanner, "/.env", 404, "scanner_paths"),
            (28, suspicious, scanner, "/backup-j", 404, "not_found_burst"),
            (31, attempt, climber, "/static/../../etc/passwd", 404, "signatures"),
            (32, attempt, climber, "/static/%2e%2e/secret", 404, "signatures"),
            (38, "rate_limited", greedy, "/scarce", 429, "statuses"),
            (39, "rate_limited", greedy, "/scarce", 429, "statuses"),
            (40, "access_denied", greedy, "/admin/reports", 403, "statuses"),
        ]
        analysed = {event["ip_address"] for event in backend.events("behavioral_violation")}
        assert brute in analysed
        assert "203.0.113.9" not in analysed
        blocked = [row for row in backend.metrics() if row["metric_type"] == "block_rate"]
        assert {row["endpoint"]: row["value"] for row in blocked}["/login"] == 1.0
        counted = sum(row["value"] for row in backend.metrics() if row["metric_type"] == "request_count")
        assert counted == 41, "each request is counted once"


def test_ordinary_requests_make_no_event_but_their_own_refusals() -> None:
    traffic = [sent for sent in normal_traffic() if sent.address != "198.51.100.1"][:1000]
    with running_backend() as backend:
        with plain(backend, {}) as app:
            clients = Clients(app)
            for sent in traffic:
                body = orjson.loads(sent.body) if sent.body else None
                status = clients.send(sent.address, sent.path, body=body, agent=sent.agent, token=sent.authorization)
                assert status == sent.expected
            clients.close()
            app.stop()
        refused = {("/login", 401): "authentication_failed", ("/admin/reports", 403): "access_denied"}
        expected = [refused[key] for sent in traffic if (key := (sent.path, sent.expected)) in refused]
        assert sorted(event["event_type"] for event in backend.events()) == sorted(expected)


def test_an_error_is_counted_by_the_http_instrumentation_alone() -> None:
    with running_backend() as backend:
        with plain(backend, {}) as app:
            clients = Clients(app)
            assert clients.send("203.0.113.9", "/broken") == 503
            clients.close()
            app.stop()
        errors = [(row["endpoint"], row["value"]) for row in backend.metrics() if row["metric_type"] == "error_rate"]
        assert errors == [("/broken", 1.0)]
        assert backend.events() == []
