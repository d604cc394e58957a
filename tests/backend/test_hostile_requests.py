"""Whatever a request's target and headers are, its answer is never a 500, and the log has no traceback."""

from __future__ import annotations

import itertools
import random
import socket

import pytest
from support.backend import RunningBackend, running_backend

PATHS = [
    "/",
    "/login",
    "/events",
    "/events/1",
    "/events/rows",
    "/events/export",
    "/overview/figures",
    "/agents",
    "/agents/list",
    "/rules",
    "/rules/ban",
    "/rules/restore",
    "/logout",
    "/local/events",
    "/local/feed",
    "/local/metrics",
    "/local/agents",
    "/local/summary",
    "/api/v1/rules",
    "/api/v1/events",
    "/api/v1/status",
    "/api/v1/events/encrypted",
    "/openapi.json",
    "/static/dashboard.css",
    "/static/../app.py",
    "/static/%2e%2e/app.py",
    "/static/%00",
    "/%ff%fe",
    "//[x",
    "/events/%00",
    "/events/9999999999999999999999",
]
NAMES = [
    "next",
    "project",
    "window",
    "after",
    "before",
    "limit",
    "event_type",
    "address",
    "endpoint",
    "action",
    "within",
    "since",
    "until",
    "saved",
    "metric_type",
]
VALUES = [
    "//[x",
    "///host/x",
    "%",
    "%00",
    "%ff",
    "%ed%a0%80",
    "1e999",
    "-1",
    "999999999999999999999999999999",
    "0001-01-01T00:00%2b23:59",
    "9999-12-31T23:59-23:59",
    "%D9%A1",
    "NaN",
    "*",
    "1.0_1",
    "1e999_1",
    "1e308_1",
    "[]",
    "{}",
    "%0d%0aX:y",
    "'",
    "%5c",
]
HEADERS = [
    *[f"Origin: {origin}" for origin in ("http://[", "http://[::1", "null", "//", "\xff")],
    *[f"Host: {host}" for host in ("[", "[::1", "", "127.0.0.1:99999999", "127.0.0.1:abc", "a@b", "\xff")],
    *[f"Cookie: {cookie}" for cookie in ("\xff=;;;", "guard_session_1=a.b.c", "=")],
    *[f"{name}: \xff" for name in ("If-None-Match", "Content-Type", "X-API-Key", "Sec-Fetch-Site", "Content-Encoding")],
    *["Range: bytes=9-1", "Range: bytes=a", "If-Modified-Since: x", "Accept: ///", "Authorization: Basic \xff"],
]


def status(backend: RunningBackend, method: str, target: str, header: str = "Accept: */*") -> int:
    host = "" if header.startswith("Host") else "Host: 127.0.0.1\r\n"
    with socket.create_connection(("127.0.0.1", int(backend.url.rpartition(":")[2])), timeout=60) as connection:
        head = f"{method} {target} HTTP/1.1\r\n{host}{header}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("latin-1"))
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("password", [None, "correct horse"], ids=["open", "with a password"])
def test_no_request_makes_an_internal_error(password: str | None) -> None:
    chosen = random.Random(1).sample(list(itertools.product(PATHS, NAMES, VALUES)), 300)
    asked = [("GET", f"{path}?{name}={value}") for path, name, value in chosen]
    asked += [("GET", f"/login?next={value}") for value in VALUES]
    asked += [(method, path) for method in ("GET", "HEAD", "OPTIONS", "POST") for path in PATHS]
    headed = itertools.product(("GET", "POST"), ("/", "/login", "/local/events", "/api/v1/events", "/rules"), HEADERS)
    with running_backend(**({"password": password} if password else {})) as backend:
        failed = [one for one in (*asked, *headed) if status(backend, *one) >= 500]
        assert failed == []
        assert "Traceback" not in backend.stderr()


@pytest.mark.parametrize(
    ("when", "status"),
    [
        ("until=9999-12-31T23:59&zone=America/New_York", 422),
        ("since=0001-01-01T00:00&zone=Asia/Tokyo", 422),
        ("until=9999-12-31T23:59:59.999999", 200),
        ("since=0001-01-01T00:00", 200),
    ],
)
def test_the_first_and_the_last_moments_are_taken_or_refused(when: str, status: int) -> None:
    with running_backend() as backend:
        for path in ("/events", "/events/export", "/local/feed"):
            answer = backend.http.get(f"{backend.url}{path}?{when}", headers=backend.headers, timeout=60)
            assert (path, answer.status_code) == (path, status)
