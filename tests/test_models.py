"""The models are the wire contract's schema: its defaults, its closed sets and its openness."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from pydantic import ValidationError
from support.strategies import events

from opentelemetry_guard.models import (
    AgentState,
    AgentStatus,
    DynamicRules,
    EventBatch,
    SecurityEvent,
    SecurityMetric,
    new_idempotency_key,
)
from opentelemetry_guard.utils import get_current_timestamp


def test_an_event_needs_a_type_and_nothing_else() -> None:
    event = SecurityEvent(event_type="ip_banned")
    assert str(UUID(event.idempotency_key)) == event.idempotency_key
    assert event.timestamp.utcoffset() == timedelta(0)
    assert (event.ip_address, event.action_taken, event.reason) == ("", "", "")
    assert event.metadata == {}
    others = event.model_dump(
        exclude={"idempotency_key", "timestamp", "event_type", "ip_address", "action_taken", "reason", "metadata"}
    )
    assert set(others.values()) == {None}


def test_an_event_without_a_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="event_type"):
        SecurityEvent()  # type: ignore[call-arg]


def test_every_event_has_a_key_of_its_own() -> None:
    assert SecurityEvent(event_type="a").idempotency_key != SecurityEvent(event_type="a").idempotency_key


@given(events)
def test_an_event_survives_json_with_its_unknown_keys(event: SecurityEvent) -> None:
    assert SecurityEvent.model_validate_json(json.dumps(event.model_dump(mode="json"))) == event


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00+00:00"),
        (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:00:00+00:00"),
        ("1901-01-02T03:00:00Z", "1901-01-02T03:00:00+00:00"),
    ],
)
def test_timestamps_are_in_utc_and_naive_ones_are_taken_for_utc(given: datetime | str, expected: str) -> None:
    assert SecurityEvent(event_type="a", timestamp=given).timestamp.isoformat() == expected  # type: ignore[arg-type]


def test_a_timestamp_that_utc_can_not_express_is_a_validation_error() -> None:
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        SecurityEvent.model_validate_json('{"event_type": "a", "timestamp": "9999-12-31T23:59:59-01:00"}')


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_is_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        SecurityMetric(metric_type="threat_level", value=value)
    with pytest.raises(ValidationError):
        SecurityEvent(event_type="a", response_time=value)


def test_metric_types_are_a_closed_set() -> None:
    with pytest.raises(ValidationError, match="metric_type"):
        SecurityMetric(metric_type="latency", value=1.0)  # type: ignore[arg-type]


def test_a_batch_has_the_default_project_and_no_rows() -> None:
    batch = EventBatch(batch_id="1-a")
    assert (batch.project_id, batch.compressed, batch.events, batch.metrics) == ("default", False, [], [])


def test_a_status_knows_the_old_word_for_failed() -> None:
    assert AgentStatus(status="error", uptime=1.0).model_dump(mode="json")["status"] == "error"
    with pytest.raises(ValidationError):
        AgentStatus(status="asleep", uptime=1.0)  # type: ignore[arg-type]


def test_rules_have_a_default_for_every_field() -> None:
    rules = DynamicRules()
    assert (rules.ttl, rules.ip_ban_duration, rules.emergency_mode) == (300, 3600, False)
    assert DynamicRules.model_validate({"endpoint_rate_limits": {"/login": [5, 60]}}).endpoint_rate_limits == {
        "/login": (5, 60)
    }


def test_the_current_timestamp_is_aware_and_in_utc() -> None:
    assert get_current_timestamp().utcoffset() == timedelta(0)


def test_keys_are_different_uuids_of_version_7_in_the_order_of_their_time() -> None:
    keys = [UUID(new_idempotency_key()) for _ in range(10_000)]
    assert len(set(keys)) == len(keys)
    assert {(key.version, key.variant) for key in keys} == {(7, RFC_4122)}
    milliseconds = [key.int >> 80 for key in keys]
    assert milliseconds == sorted(milliseconds)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_makes_other_keys_than_its_parent() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_idempotency_key().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as told:
        # All but the time: with the parent's numbers these would be the same.
        assert told.read()[14:] != new_idempotency_key()[14:]


@pytest.mark.parametrize("word", ["failed", "error"])
def test_a_failed_status_equals_the_word_of_either_document(word: AgentState) -> None:
    status = AgentStatus(status=word, uptime=1.0)
    assert status.status == "failed"
    assert status.status == "error"
    assert status.status != "healthy"
    assert "failed" == status.status  # noqa: SIM300  the other operand asks first
    assert AgentStatus.model_validate_json(status.model_dump_json()) == status
