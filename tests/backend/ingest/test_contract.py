"""What the backend answers to a sender."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, metric, post

from opentelemetry_guard.models import DynamicRules

LIMIT = 262_144
DAY = 86_400


@pytest.fixture(scope="module")
def backend(module_database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=module_database) as running:
        yield running


def stored(backend: RunningBackend, key: str) -> list[dict[str, Any]]:
    return [row for row in backend.events() if row["idempotency_key"] == key]


def counts(events: int = 0, metrics: int = 0, dropped: int = 0, accepted: int = 0) -> dict[str, Any]:
    """Return the answer to so many rows, of which so many were dropped for their timestamps and accepted anew."""
    return {
        "success": True,
        "events_received": events,
        "events_dropped_invalid_timestamp": dropped,
        "metrics_received": metrics,
        "events_processed": events - dropped,
        "metrics_processed": metrics,
        "errors": [],
        "accepted": accepted,
        "duplicates": events + metrics - dropped - accepted,
    }


def test_an_event_is_stored_with_every_field_and_unknown_keys(backend: RunningBackend) -> None:
    sent = event(
        ip_address="192.0.2.1",
        country="DE",
        user_agent="curl",
        action_taken="blocked",
        reason="banned",
        endpoint="/login",
        method="POST",
        status_code=403,
        response_time=0.25,
        decorator_type="d",
        rule_type="r",
        pattern_matched="p",
        handler_name="h",
        metadata={"nested": [1, None, "ü\u0000"], "big": 2**80},
        of_our_own={"a": 1},
    )
    answer = post(backend, "/api/v1/events", batch(events=[sent]))
    assert (answer.status_code, answer.json()) == (200, counts(events=1, accepted=1))
    assert stored(backend, sent["idempotency_key"]) == [sent]


def test_a_stored_row_names_its_batch_its_project_and_when_it_came(backend: RunningBackend) -> None:
    body = batch(events=[event(event_type="one_of_a_kind")])
    post(backend, "/api/v1/events", body)
    (entry,) = backend.stored("events", event_type="one_of_a_kind")
    assert (entry["batch_id"], entry["project_id"]) == (body["batch_id"], "test-project")
    assert isinstance(entry["received_at"], float)


def test_an_event_that_comes_again_is_stored_once(backend: RunningBackend) -> None:
    known, new = event(), event()
    post(backend, "/api/v1/events", batch(events=[known]))
    answer = post(backend, "/api/v1/events", batch(events=[known, new, new]))
    assert answer.json() == counts(events=3, accepted=1)
    assert len(stored(backend, known["idempotency_key"])) == len(stored(backend, new["idempotency_key"])) == 1


def test_a_metrics_batch_that_comes_again_is_stored_once(backend: RunningBackend) -> None:
    body = batch(metrics=[metric(endpoint="/once", tags={"p95": "0.5"}), metric(endpoint="/once")])
    first, second = (post(backend, "/api/v1/metrics", body).json() for _ in range(2))
    assert first == counts(metrics=2, accepted=2)
    assert second == counts(metrics=2, accepted=0)
    with_tags, without_tags = body["metrics"]
    kept = [row for row in backend.metrics() if row["endpoint"] == "/once"]
    assert kept == [with_tags, {**without_tags, "tags": {}}]


def test_a_gzip_body_is_taken(backend: RunningBackend) -> None:
    sent = event()
    body = gzip.compress(json.dumps(batch(events=[sent])).encode())
    assert post(backend, "/api/v1/events", body, Content_Encoding="gzip").status_code == 200
    assert len(stored(backend, sent["idempotency_key"])) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"no gzip",
        b"",
        gzip.compress(b"{}")[:-4],
        gzip.compress(b"{}") + b"more",
    ],
    ids=["other bytes", "empty", "cut", "trailing bytes"],
)
def test_a_bad_gzip_body_is_400(backend: RunningBackend, body: bytes) -> None:
    assert post(backend, "/api/v1/events", body, Content_Encoding="gzip").status_code == 400


def test_another_encoding_is_415(backend: RunningBackend) -> None:
    assert post(backend, "/api/v1/events", b"{}", Content_Encoding="br").status_code == 415


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_body_beyond_the_limit_is_413(backend: RunningBackend, connection: str) -> None:
    for size in (LIMIT + 1, 200 * LIMIT):
        answer = post(backend, "/api/v1/events", b" " * size, Connection=connection)
        assert answer.status_code == 413
        assert f"{LIMIT} bytes" in answer.json()["detail"]


def test_a_gzip_bomb_is_413(backend: RunningBackend) -> None:
    bomb = gzip.compress(b" " * (20 * LIMIT))
    assert post(backend, "/api/v1/events", bomb, Content_Encoding="gzip").status_code == 413


def test_a_body_at_the_limit_is_taken(backend: RunningBackend) -> None:
    body = json.dumps(batch(events=[event()])).encode()
    assert post(backend, "/api/v1/events", body + b" " * (LIMIT - len(body))).status_code == 200


def test_the_limit_is_a_setting() -> None:
    with running_backend(max_body_bytes="1000") as backend:
        body = json.dumps(batch(events=[event()])).encode()
        assert post(backend, "/api/v1/events", body.ljust(1000)).status_code == 200
        answer = post(backend, "/api/v1/events", gzip.compress(body.ljust(1001)), Content_Encoding="gzip")
        assert (answer.status_code, "1000 bytes" in answer.json()["detail"]) == (413, True)


def test_a_body_without_a_length_is_411_and_stores_nothing(backend: RunningBackend) -> None:
    sent = event()
    url = f"{backend.url}/api/v1/events"
    chunks = iter([json.dumps(batch(events=[sent])).encode()])
    answer = backend.http.post(url, data=chunks, headers=backend.headers, timeout=20)
    assert answer.status_code == 411
    assert "Content-Length" in answer.json()["detail"]
    assert stored(backend, sent["idempotency_key"]) == []


def test_without_a_window_events_of_any_time_are_taken(backend: RunningBackend) -> None:
    sent = [event(timestamp=f"{year}-01-01T00:00:00Z") for year in (1999, 2999)]
    answer = post(backend, "/api/v1/events", batch(events=sent)).json()
    assert answer == counts(events=2, accepted=2)


def test_events_outside_of_the_window_are_dropped_and_counted() -> None:
    now = datetime.now(timezone.utc)
    ages = {"old": 8 * DAY, "aged": 6 * DAY, "fresh": 0, "early": -200, "ahead": -400}
    sent = [event(event_type=name, timestamp=(now - timedelta(seconds=age)).isoformat()) for name, age in ages.items()]
    with running_backend(window_days="7") as backend:
        answer = post(backend, "/api/v1/events", batch(events=sent, metrics=[metric()])).json()
        assert answer == counts(events=5, metrics=1, dropped=2, accepted=4)
        assert [row["event_type"] for row in backend.events()] == ["aged", "fresh", "early"]


def test_an_agent_may_ask_whether_the_backend_is_ready(backend: RunningBackend) -> None:
    url = f"{backend.url}/api/v1/status"
    answer = backend.http.get(url, headers=backend.headers, timeout=60)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["success"], told["status"], told["project_id"]) == (True, "healthy", "test-project")
    assert backend.http.get(url, headers={"X-API-Key": "wrong"}, timeout=60).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"batch_id":"b","metrics":[{"metric_type":"threat_level","value":NaN}]}',
        b'{"batch_id":"b","metrics":[{"metric_type":"threat_level","value":Infinity}]}',
        b'{"batch_id":"b","metrics":[{"metric_type":"threat_level","value":1e999}]}',
        b'{"batch_id":"b","events":[{"event_type":"e","metadata":{"x":NaN}}]}',
        b'{"batch_id":"b","events":[{"event_type":"\\ud800"}]}',
        b'{"batch_id":"b","events":[{"event_type":"e","metadata":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}",
        b"\xff",
    ],
    ids=["empty", "cut", "NaN", "Infinity", "1e999", "NaN in metadata", "lone surrogate", "too deep", "not UTF-8"],
)
def test_what_is_not_json_is_400(backend: RunningBackend, body: bytes) -> None:
    answer = post(backend, "/api/v1/events", body)
    assert answer.status_code == 400
    assert answer.json()["success"] is False


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ([], "body"),
        ({}, "batch_id"),
        (batch(events=[event(), event(status_code="403")]), "events[1].status_code"),
        (batch(events=[event(timestamp="yesterday")]), "events[0].timestamp"),
        (batch(events=[{"idempotency_key": str(uuid4())}]), "events[0].event_type"),
        (batch(events=[event(idempotency_key="order-7")]), "events[0].idempotency_key"),
        (batch(events=[event(metadata=[])]), "events[0].metadata"),
        (batch(metrics=[metric(), metric(), metric(metric_type="latency")]), "metrics[2].metric_type"),
        (batch(metrics=[metric(value="1")]), "metrics[0].value"),
        (batch(metrics=[metric(tags={"code": 200})]), "metrics[0].tags.code"),
    ],
)
def test_a_schema_violation_is_422_and_names_row_and_field(backend: RunningBackend, body: Any, place: str) -> None:
    answer = post(backend, "/api/v1/events", json.dumps(body).encode())
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{place}: ")


def test_a_batch_with_one_bad_row_stores_nothing(backend: RunningBackend) -> None:
    good = event()
    post(backend, "/api/v1/events", batch(events=[good, event(status_code="403")]))
    assert stored(backend, good["idempotency_key"]) == []


def test_an_answer_does_not_repeat_the_values_of_a_row(backend: RunningBackend) -> None:
    answer = post(backend, "/api/v1/events", batch(events=[event(status_code="hunter2", response_time="hunter2")]))
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("path", ["/events", "/metrics", "/events/encrypted", "/status", "/rules"])
@pytest.mark.parametrize("key", [None, "", "wrong-hunter2"])
def test_without_a_known_key_every_call_is_401(backend: RunningBackend, path: str, key: str | None) -> None:
    method = "GET" if path == "/rules" else "POST"
    headers = {} if key is None else {"X-API-Key": key}
    answer = backend.http.request(method, f"{backend.url}/api/v1{path}", headers=headers, timeout=60)
    assert answer.status_code == 401
    assert "X-API-Key" in answer.json()["detail"]
    assert "hunter2" not in answer.text


def test_another_project_in_the_header_is_403(backend: RunningBackend) -> None:
    answer = post(backend, "/api/v1/events", batch(), X_Project_ID="other")
    assert answer.status_code == 403
    assert "X-Project-ID" in answer.json()["detail"]


def test_another_project_in_the_body_is_403(backend: RunningBackend) -> None:
    answer = post(backend, "/api/v1/events", {**batch(), "project_id": "other"})
    assert answer.status_code == 403
    assert "project_id" in answer.json()["detail"]


def test_a_batch_without_a_project_goes_to_the_project_of_the_key(backend: RunningBackend) -> None:
    sent = {"batch_id": "none-named", "events": [event(event_type="projectless")]}
    assert post(backend, "/api/v1/events", sent).status_code == 200
    assert backend.stored("events", event_type="projectless")[0]["project_id"] == "test-project"


def test_the_latest_status_of_an_installation_is_kept(backend: RunningBackend) -> None:
    for sent in (1, 2):
        status = {"timestamp": "2026-01-02T03:04:05Z", "status": "healthy", "uptime": 1.5, "events_sent": sent}
        answer = post(backend, "/api/v1/status", status, X_Agent_Install_Id="install-1", User_Agent="sender/1")
        assert (answer.status_code, answer.json()["success"]) == (200, True)
    (agent,) = backend.agents()
    assert (agent["install_id"], agent["user_agent"], agent["status"]["events_sent"]) == ("install-1", "sender/1", 2)
    assert isinstance(agent["last_seen"], float)


def test_a_status_outside_the_schema_is_422(backend: RunningBackend) -> None:
    answer = post(backend, "/api/v1/status", {"status": "fine", "uptime": 1}, X_Agent_Install_Id="install-2")
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (422, "status")


def test_a_status_without_an_installation_is_422(backend: RunningBackend) -> None:
    answer = post(backend, "/api/v1/status", {"status": "healthy", "uptime": 1})
    assert answer.status_code == 422
    assert "X-Agent-Install-Id" in answer.json()["detail"]


def test_an_encrypted_batch_without_a_key_at_the_backend_is_400(backend: RunningBackend) -> None:
    answer = post(backend, "/api/v1/events/encrypted", {"encrypted_payload": "AAAA", "batch_id": "b"})
    assert answer.status_code == 400
    assert "encryption key" in answer.json()["detail"]


def test_rules_have_an_etag_that_changes_with_them() -> None:
    with running_backend() as backend:

        def get(etag: str = "") -> requests.Response:
            headers = {**backend.headers, "If-None-Match": etag}
            return backend.http.get(backend.url + "/api/v1/rules", headers=headers, timeout=60)

        none_set = get()
        assert (none_set.status_code, DynamicRules.model_validate(none_set.json()).version) == (200, 0)
        unchanged = get(none_set.headers["ETag"])
        assert (unchanged.status_code, unchanged.content) == (304, b"")

        backend.set_rules(DynamicRules(ip_blacklist=["192.0.2.7"], endpoint_rate_limits={"/login": (5, 60)}))
        changed = get(none_set.headers["ETag"])
        rules = DynamicRules.model_validate(changed.json())
        assert (changed.status_code, rules.version, rules.ip_blacklist) == (200, 1, ["192.0.2.7"])
        assert rules.endpoint_rate_limits == {"/login": (5, 60)}

        backend.set_rules(DynamicRules())
        assert get(changed.headers["ETag"]).json()["version"] == 2
