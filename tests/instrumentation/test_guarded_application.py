"""A guarded application that knows nothing of us: a real uvicorn under ``opentelemetry-instrument``, a real backend."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from support.application import ZERO_CODE, RunningApplication, running_application
from support.backend import RunningBackend, running_backend
from support.redis import redis_server

pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")

INJECTION = "/items/1?q=1' UNION SELECT password FROM users--"


@contextmanager
def guarded(backend: RunningBackend, **settings: str) -> Iterator[RunningApplication]:
    """Run the application; guard-core, and not uvicorn, reads X-Forwarded-For."""
    environment = {**ZERO_CODE, **backend.environment, **settings}
    with running_application("support.guarded_app:app", environment, "--no-proxy-headers") as application:
        yield application


def send(application: RunningApplication, path: str, address: str, trace: int, **headers: str) -> int:
    """Send a request as a client at `address` and a part of `trace`; return the answer's status."""
    headers |= {"X-Forwarded-For": address, "traceparent": f"00-{trace:032x}-00000000000000aa-01"}
    with requests.Session() as http:
        http.trust_env = False
        return http.get(application.url + path, headers=headers, timeout=30).status_code


def told(backend: RunningBackend) -> list[tuple[Any, ...]]:
    """Return what arrived about clients, in the order of the traces: trace, type, address, status, endpoint."""
    return sorted(
        (
            int(event["metadata"]["trace_id"], 16),
            event["event_type"],
            event["ip_address"],
            event["status_code"],
            event["endpoint"],
        )
        for event in backend.events()
        if event["ip_address"] not in ("", "system")
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"GUARDED_APP_MIDDLEWARE": "asgi"}, {"GUARDED_APP_OTEL": "true"}],
    ids=["classic", "asgi", "with-guard-cores-own-otel"],
)
def test_each_incident_arrives_once_with_its_trace_and_status(settings: dict[str, str]) -> None:
    with running_backend() as backend:
        with guarded(backend, **settings) as app:
            assert send(app, "/items/1", "198.51.100.1", trace=1) == 200
            assert send(app, "/items/2", "203.0.113.66", trace=2) == 403
            assert send(app, INJECTION, "198.51.100.3", trace=3) == 400
            assert send(app, "/items/4", "198.51.100.4", trace=4, **{"User-Agent": "evilbot/1.0"}) == 403
            assert send(app, "/private", "198.51.100.5", trace=5) == 401
            assert [send(app, "/scarce", "198.51.100.6", trace=6) for _ in range(3)] == [200, 200, 429]
            assert [send(app, INJECTION, "198.51.100.7", trace=7 + n) for n in range(4)] == [400, 400, 403, 403]
            app.stop()
        assert told(backend) == [
            (2, "ip_blocked", "203.0.113.66", 403, "/items/2"),
            (3, "penetration_attempt", "198.51.100.3", 400, "/items/1"),
            (4, "user_agent_blocked", "198.51.100.4", 403, "/items/4"),
            (5, "authentication_failed", "198.51.100.5", 401, "/private"),
            (6, "rate_limited", "198.51.100.6", 429, "/scarce"),
            (7, "penetration_attempt", "198.51.100.7", 400, "/items/1"),
            (8, "penetration_attempt", "198.51.100.7", 400, "/items/1"),
            (9, "ip_banned", "198.51.100.7", 403, "/items/1"),
            (10, "ip_blocked", "198.51.100.7", 403, "/items/1"),
        ]
        assert len(backend.events("security_headers_applied")) == 1, "noise arrives once a minute"
        counted = sum(row["value"] for row in backend.metrics() if row["metric_type"] == "request_count")
        assert counted == 12, "each request is counted once, by the HTTP instrumentation"


def test_concurrent_requests_keep_their_traces_apart() -> None:
    requests_at_once = 100
    with running_backend() as backend:
        with guarded(backend) as app, ThreadPoolExecutor(20) as clients:
            numbers = range(1, requests_at_once + 1)
            blocked = list(clients.map(lambda n: send(app, f"/items/{n}", "203.0.113.66", trace=n), numbers))
            assert blocked == [403] * requests_at_once
            app.stop()
        assert told(backend) == [(n, "ip_blocked", "203.0.113.66", 403, f"/items/{n}") for n in numbers]


def test_an_attack_in_a_trace_that_is_not_sampled_arrives() -> None:
    with running_backend() as backend, guarded(backend, OTEL_TRACES_SAMPLER="always_off") as app:
        assert send(app, INJECTION, "198.51.100.3", trace=3) == 400
        app.stop()
        assert told(backend) == [(3, "penetration_attempt", "198.51.100.3", 400, "/items/1")]


def test_with_redis_its_connection_and_the_limits_that_it_counts_arrive() -> None:
    with redis_server() as server, running_backend() as backend:
        with guarded(backend, GUARDED_APP_REDIS=f"redis://127.0.0.1:{server.port}") as app:
            assert [send(app, "/scarce", "198.51.100.6", trace=6) for _ in range(3)] == [200, 200, 429]
            app.stop()
        assert told(backend) == [(6, "rate_limited", "198.51.100.6", 429, "/scarce")]
        assert backend.events("redis_connection")
