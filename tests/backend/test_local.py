"""What the backend shows to whoever sits at the machine, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import requests
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend

from opentelemetry_guard.backend.hosts import names_loopback

KEYS = [str(UUID(int=number)) for number in range(11)]


@pytest.fixture(scope="module")
def backend(module_database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=module_database) as running:
        events = [
            {"idempotency_key": key, "event_type": "even" if number % 2 == 0 else "odd", "reason": f"r{number}"}
            for number, key in enumerate(KEYS[:10])
        ]
        events.append({"idempotency_key": KEYS[10], "event_type": "<script>alert(1)</script>", "reason": "\"&'"})
        metrics = [{"metric_type": "threat_level", "value": value} for value in (0.1, 0.2)]
        body = {"batch_id": "b", "events": events, "metrics": metrics}
        answer = running.http.post(
            running.url + "/api/v1/events", data=json.dumps(body), headers=running.headers, timeout=10
        )
        assert answer.status_code == 200
        yield running


def listed(backend: RunningBackend, **parameters: str | int) -> list[int]:
    answer = backend.http.get(backend.url + "/local/events", params=parameters, timeout=60)
    return [KEYS.index(entry["event"]["idempotency_key"]) for entry in answer.json()["events"]]


def test_without_a_cursor_the_latest_events_are_listed_newest_last(backend: RunningBackend) -> None:
    assert listed(backend, limit=3) == [8, 9, 10]


def test_a_cursor_pages_forward_through_everything(backend: RunningBackend) -> None:
    everything = backend.stored("events")
    assert [entry["event"]["idempotency_key"] for entry in everything] == KEYS
    assert listed(backend, after=everything[3]["id"], limit=2) == [4, 5]


def test_events_are_listed_by_type(backend: RunningBackend) -> None:
    assert listed(backend, event_type="odd") == [1, 3, 5, 7, 9]


def test_the_summary_counts_by_type(backend: RunningBackend) -> None:
    assert backend.summary() == {
        "events": {"even": 5, "odd": 5, "<script>alert(1)</script>": 1},
        "metrics": {"threat_level": 2},
        "agents": 0,
    }


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=10001", "limit=x", "limit=1.0", "limit=1_0", "limit=", "after=-1", "after=%D9%A3", "after=0.0"],
)
def test_a_bad_parameter_is_422(backend: RunningBackend, query: str) -> None:
    assert backend.http.get(f"{backend.url}/local/events?{query}", timeout=60).status_code == 422


@pytest.mark.parametrize("path", ["/", "/local/events", "/local/summary", "/api/v1/rules", "/openapi.json"])
def test_a_foreign_host_name_is_403(backend: RunningBackend, path: str) -> None:
    headers = {**backend.headers, "Host": "rebound.example"}
    assert backend.http.get(backend.url + path, headers=headers, timeout=60).status_code == 403


def test_no_answer_opens_the_backend_to_other_origins(backend: RunningBackend) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": "https://other.example", "Access-Control-Request-Method": "GET"}
        answer: requests.Response = backend.http.request(
            method, backend.url + "/local/events", headers=headers, timeout=10
        )
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    "header", ["127.0.0.1", "127.0.0.1:8317", "127.8.9.1", "localhost", "LOCALHOST:80", "guard.localhost", "[::1]:8317"]
)
def test_loopback_names_pass(header: str) -> None:
    assert names_loopback(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "notlocalhost",
        "192.168.0.1",
        "0.0.0.0",
        "example.com@localhost",
        "localhost:80:80",
        "[::1",
        "[::ffff:1.2.3.4]",
        "2130706433",
    ],
)
def test_other_names_do_not_pass(header: str) -> None:
    assert not names_loopback(header)
