"""The backend that users test a transport against judges as the contract says."""

from __future__ import annotations

import gzip
import json

import pytest
import requests
from support.pipeline import pipeline

from opentelemetry_guard import DynamicRules, GuardLogExporter
from opentelemetry_guard.testing import FakeBackend

BATCH = {"batch_id": "1", "events": [{"event_type": "ip_blocked"}]}


def posted(backend: FakeBackend, path: str, body: bytes, **headers: str) -> requests.Response:
    return requests.post(backend.url + path, data=body, headers={"X-API-Key": backend.api_key, **headers}, timeout=60)


def test_an_exporter_delivers_to_it() -> None:
    with FakeBackend() as backend:
        exporter = GuardLogExporter(endpoint=backend.url, api_key=backend.api_key, queue_url="memory://")
        with pipeline(logs=[exporter]) as made:
            made.emitter.emit_event(event_type="ip_blocked", ip_address="192.0.2.7")
            (event,) = backend.wait_for_events(1)
    assert (event.event_type, event.ip_address) == ("ip_blocked", "192.0.2.7")
    assert backend.statuses[0].status == "healthy"


def test_a_batch_that_comes_twice_is_stored_once() -> None:
    body = json.dumps(
        {"batch_id": "1", "events": [{"event_type": "x", "idempotency_key": "0" * 8 + "-0000-4000-8000-" + "0" * 12}]}
    )
    with FakeBackend() as backend:
        for _ in range(2):
            assert posted(backend, "/api/v1/events", body.encode()).status_code == 200
    assert (len(backend.events), len(backend.requests)) == (1, 2)


def test_gzip_is_read_and_broken_gzip_refused() -> None:
    with FakeBackend() as backend:
        packed = gzip.compress(json.dumps(BATCH).encode())
        assert posted(backend, "/api/v1/events", packed, **{"Content-Encoding": "gzip"}).status_code == 200
        assert posted(backend, "/api/v1/events", b"?", **{"Content-Encoding": "gzip"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/events", b'{"events": []}', 422),
        ("/api/v1/metrics", b'{"batch_id": "1", "metrics": [{"metric_type": "nonsense", "value": 1}]}', 422),
        ("/api/v1/status", b"{}", 422),
        ("/api/v1/nowhere", b"{}", 404),
    ],
)
def test_what_the_contract_does_not_have_is_refused(path: str, body: bytes, status: int) -> None:
    with FakeBackend() as backend:
        answer = posted(backend, path, body)
    assert answer.status_code == status
    assert "detail" in answer.json()


def test_a_wrong_key_is_refused() -> None:
    with FakeBackend() as backend:
        answer = posted(backend, "/api/v1/events", json.dumps(BATCH).encode(), **{"X-API-Key": "another"})
    assert answer.status_code == 401


def test_it_answers_as_it_is_told_and_then_as_always() -> None:
    with FakeBackend() as backend:
        backend.answer(503, 429, headers={"Retry-After": "1"})
        body = json.dumps(BATCH).encode()
        assert [posted(backend, "/api/v1/events", body).status_code for _ in range(3)] == [503, 429, 200]
        assert len(backend.events) == 1


def test_rules_are_handed_out() -> None:
    with FakeBackend() as backend:
        key = {"X-API-Key": backend.api_key}
        assert requests.get(f"{backend.url}/api/v1/rules", headers=key, timeout=60).status_code == 204
        backend.rules = DynamicRules(ip_blacklist=["203.0.113.7"])
        answer = requests.get(f"{backend.url}/api/v1/rules", headers=key, timeout=60)
        assert answer.json()["ip_blacklist"] == ["203.0.113.7"]


def test_a_wait_that_is_in_vain_says_what_there_is() -> None:
    with FakeBackend() as backend, pytest.raises(TimeoutError, match="0 of 1 events"):
        backend.wait_for_events(1, timeout=0)
