"""Running the guarded application (`support.guarded_app`), attacking it, and what has to arrive then."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from .application import ZERO_CODE, RunningApplication, running_application
from .backend import RunningBackend

SQL = "1' UNION SELECT password FROM users--"
INJECTION = f"/items/1?q={SQL}"


@contextmanager
def guarded(backend: RunningBackend, **settings: str) -> Iterator[RunningApplication]:
    """Run the application; guard-core, and not uvicorn, reads X-Forwarded-For."""
    environment = {**ZERO_CODE, **backend.environment, **settings}
    with running_application("support.guarded_app:app", environment, "--no-proxy-headers") as application:
        yield application


def configured(**fields: object) -> dict[str, str]:
    return {"GUARDED_APP_CONFIG": json.dumps(fields)}


def traceparent(trace: int) -> str:
    return f"00-{trace:032x}-00000000000000aa-01"


def send(
    application: RunningApplication,
    path: str,
    address: str,
    trace: int,
    method: str = "GET",
    body: object = None,
    data: dict[str, str] | None = None,
    **headers: str,
) -> int:
    """Send a request as a client at `address` and a part of `trace`; return the answer's status."""
    headers |= {"X-Forwarded-For": address, "traceparent": traceparent(trace)}
    with requests.Session() as http:
        http.trust_env = False
        url = application.url + path
        return http.request(method, url, headers=headers, json=body, data=data, timeout=30).status_code


def connect(application: RunningApplication, path: str, address: str, trace: int) -> int:
    """Open a WebSocket as a client at `address` and a part of `trace`; return the handshake's status."""
    client = pytest.importorskip("websockets.sync.client")
    headers = {"X-Forwarded-For": address, "traceparent": traceparent(trace)}
    url = application.url.replace("http", "ws", 1) + path
    try:
        with client.connect(url, additional_headers=headers, proxy=None):
            return 101
    except client.InvalidStatus as refused:
        return int(refused.response.status_code)


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


def attack(app: RunningApplication) -> list[tuple[Any, ...]]:
    """Send one of each kind that fastapi-guard refuses; return what has to arrive."""
    assert send(app, "/items/1", "198.51.100.1", trace=1) == 200
    assert send(app, "/items/2", "203.0.113.66", trace=2) == 403
    assert send(app, INJECTION, "198.51.100.3", trace=3) == 400
    assert send(app, "/items", "198.51.100.31", trace=31, method="POST", body={"q": SQL}) == 400
    assert send(app, "/items/1", "198.51.100.32", trace=32, **{"X-Search": SQL}) == 400
    assert send(app, "/items/4", "198.51.100.4", trace=4, **{"User-Agent": "evilbot/1.0"}) == 403
    assert send(app, "/private", "198.51.100.5", trace=5) == 401
    assert [send(app, "/scarce", "198.51.100.6", trace=6) for _ in range(3)] == [200, 200, 429]
    assert [send(app, INJECTION, "198.51.100.7", trace=7 + n) for n in range(4)] == [400, 400, 403, 403]
    assert send(app, "/contact", "198.51.100.11", trace=11, method="POST", data={"website": "https://x"}) == 403
    assert send(app, "/contact", "198.51.100.12", trace=12, method="POST", data={"name": "x"}) == 200
    expected: list[tuple[Any, ...]] = [
        (2, "ip_blocked", "203.0.113.66", 403, "/items/{number}"),
        (3, "penetration_attempt", "198.51.100.3", 400, "/items/{number}"),
        (4, "user_agent_blocked", "198.51.100.4", 403, "/items/{number}"),
        (5, "authentication_failed", "198.51.100.5", 401, "/private"),
        (6, "rate_limited", "198.51.100.6", 429, "/scarce"),
        (7, "penetration_attempt", "198.51.100.7", 400, "/items/{number}"),
        (8, "penetration_attempt", "198.51.100.7", 400, "/items/{number}"),
        (9, "ip_banned", "198.51.100.7", 403, "/items/{number}"),
        (10, "ip_blocked", "198.51.100.7", 403, "/items/{number}"),
        (11, "decorator_violation", "198.51.100.11", 403, "/contact"),
        (31, "penetration_attempt", "198.51.100.31", 400, "/items"),
        (32, "penetration_attempt", "198.51.100.32", 400, "/items/{number}"),
    ]
    if importlib.util.find_spec("guard.websocket"):
        assert connect(app, "/socket?q=<script>alert(1)</script>", "198.51.100.13", trace=13) == 403
        assert connect(app, "/socket", "198.51.100.14", trace=14) == 101
        expected.append((13, "penetration_attempt", "198.51.100.13", 403, "/socket"))
    return sorted(expected)


HTTP_REQUESTS = 16
"""Requests of `attack` that are no WebSocket handshakes."""
