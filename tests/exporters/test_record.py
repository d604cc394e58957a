"""An event is the same to our exporter whatever its log record went through: limits, a Collector, an older release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from support.guard_server import same
from support.otlp import hop
from support.pipeline import pipeline
from support.rows import decoded, without_enrichment
from support.strategies import events, python_values

from opentelemetry_guard import SecurityEvent, privacy
from opentelemetry_guard.events.attributes import TRUNCATED
from opentelemetry_guard.events.codec import Row
from opentelemetry_guard.events.enrichment import CORRELATION_KEY, RECENT_EVENT_COUNT, RESOURCE_KEYS
from opentelemetry_guard.exporters.event_rows import rows_of_records

EVENT = {
    "event_type": "penetration_attempt",
    "ip_address": "203.0.113.7",
    "method": "GET",
    "endpoint": "/search",
    "action_taken": "blocked",
    "reason": "SQL injection",
    "metadata": {"score": 7},
}


def recorded(event: Any, limits: LogRecordLimits | None = None) -> Sequence[ReadableLogRecord]:
    """Return the log records of an event within a span."""
    logs = InMemoryLogRecordExporter()
    with pipeline(logs=[logs], log_limits=limits) as made, made.tracer.start_as_current_span("GET /"):
        made.emitter.emit_event(event)
    return logs.get_finished_logs()


def somebody_elses(attributes: dict[str, str]) -> Sequence[ReadableLogRecord]:
    """Return the log record of an event that another library has made, without `Emitter`."""
    logs = InMemoryLogRecordExporter()
    with pipeline(logs=[logs]) as made:
        logger = made.logs.get_logger("another.library")
        logger.emit(event_name="guard.security_event", attributes={"guard.event_type": "x", **attributes})
    return logs.get_finished_logs()


def row_in(records: Sequence[ReadableLogRecord]) -> Row:
    """Return the row of the one record; without the trace, which is in it."""
    (row,) = decoded(rows_of_records(records))
    metadata: Any = row["metadata"]
    context = records[0].log_record
    assert metadata.pop("trace_id") == f"{context.trace_id:032x}"
    assert metadata.pop("span_id") == f"{context.span_id:016x}"
    for key in RESOURCE_KEYS.values():
        metadata.pop(key, None)
    orjson.dumps(row)
    return row


@given(events)
def test_an_event_comes_out_of_its_record_as_it_went_in_also_behind_a_collector(event: SecurityEvent) -> None:
    records = recorded(event)
    same(row_in(records), event)
    same(row_in(hop(records)), event)


@given(st.dictionaries(st.text(max_size=10), python_values, max_size=5))
def test_what_json_does_not_know_is_the_same_behind_a_collector(metadata: dict[str, Any]) -> None:
    records = recorded({**EVENT, "metadata": {"score": 7, **metadata}, "own": metadata})
    assert row_in(hop(records)) == row_in(records)


@pytest.mark.parametrize("variable", ["OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT"])
@pytest.mark.parametrize("limit", [0, 1, 3, 6])
def test_a_count_limit_costs_no_event_behind_a_collector(
    monkeypatch: pytest.MonkeyPatch, variable: str, limit: int
) -> None:
    monkeypatch.setenv(variable, str(limit))
    row = row_in(hop(recorded(EVENT)))
    assert row["event_type"] == ("penetration_attempt" if limit else "unknown")
    assert row["metadata"] == {TRUNCATED: {"cut_fields": [], "dropped_attributes": 11 - limit}}
    assert row["reason"] == ("SQL injection" if limit >= 6 else "GET /search from 203.0.113.7 blocked: SQL injection")


@pytest.mark.parametrize(
    "variable", ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT"]
)
def test_a_length_limit_costs_no_event(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "12")
    whole, first, second = (recorded({**EVENT, "own": {"a": ["b" * 20]}}) for _ in range(3))
    assert (row_in(whole)["reason"], row_in(whole)["own"]) == ("SQL injection", {"a": ["b" * 20]})
    first_row, second_row = row_in(hop(first)), row_in(hop(second))
    assert first_row["idempotency_key"] != second_row["idempotency_key"]
    assert (first_row["ip_address"], first_row["endpoint"]) == ("203.0.113.7", "/search")
    assert first_row["own"] == {"a": ["b" * 12]}
    metadata: Any = first_row["metadata"]
    assert without_enrichment(metadata) == {
        "score": 7,
        TRUNCATED: {
            "cut_fields": [
                "own",
                f"metadata.{CORRELATION_KEY}",
                "reason",
                "idempotency_key",
                "event_type",
            ],
            "dropped_attributes": 0,
        },
    }


@pytest.mark.parametrize("length", [0, 5, 20])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8])
def test_limits_of_count_and_length_together_make_no_two_events_one_behind_a_collector(count: int, length: int) -> None:
    limits = LogRecordLimits(max_log_record_attributes=count, max_log_record_attribute_length=length)
    first, second = (row_in(hop(recorded(EVENT, limits))) for _ in range(2))
    assert first["idempotency_key"] != second["idempotency_key"]
    metadata: Any = first["metadata"]
    assert metadata[TRUNCATED]["dropped_attributes"] > 0
    assert "invalid_fields" not in metadata
    if count >= 2:
        assert "idempotency_key" in metadata[TRUNCATED]["cut_fields"]


@pytest.mark.parametrize("scope", ["opentelemetry_guard", "somebody.else"])
def test_a_record_whose_body_is_a_map_is_read(scope: str) -> None:
    logs = InMemoryLogRecordExporter()
    body = {**EVENT, "idempotency_key": "5f0c1b2e-7f6b-4a52-8a55-3f4a8d3c9e10", "own": [1, {"a": None}]}
    with pipeline(logs=[logs]) as made:
        made.logs.get_logger(scope).emit(
            timestamp=1_000, event_name="guard.security_event", body=body, attributes={"client.address": "::1"}
        )
    for records in (logs.get_finished_logs(), hop(logs.get_finished_logs())):
        (row,) = decoded(rows_of_records(records))
        assert {**row, "metadata": without_enrichment(row["metadata"])}.items() >= body.items()
        assert row["timestamp"] == "1970-01-01T00:00:00.000001Z"


def test_the_body_has_no_secret_that_two_clean_fields_are_side_by_side() -> None:
    (record,) = recorded({"event_type": "x", "action_taken": "password", "reason": "hunter2secret"})
    assert record.log_record.body == "password: [REDACTED]"


def test_the_body_has_hashed_addresses_only() -> None:
    privacy.configure(address_key="k")
    (record,) = recorded(EVENT)
    assert "203.0.113.7" not in str((record.log_record.body, dict(record.log_record.attributes or {})))
    assert str(record.log_record.body).startswith("GET /search from ")


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_network_of_ipv6_is_one_client_also_where_its_addresses_are_hashed(is_ours: bool) -> None:
    privacy.configure(address_key=f"k {is_ours}")
    addresses = "2001:db8:5::1", "2001:db8:5::2", "2001:db8:5:1::1", "203.0.113.5", "::ffff:203.0.113.5"
    found: list[tuple[object, object, object]] = []
    for address in addresses:
        if is_ours:
            row = row_in(recorded({**EVENT, "ip_address": address}))
        else:
            (row,) = decoded(rows_of_records(somebody_elses({"client.address": address})))
        metadata: Any = row["metadata"]
        assert address not in str(row)
        found.append((row["ip_address"], metadata[CORRELATION_KEY], metadata[RECENT_EVENT_COUNT]))
    hashes, keys, counts = zip(*found, strict=True)
    assert len(set(hashes)) == 4, "each address stays one of its own"
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == keys[4] not in keys[:3]
    assert counts == (1, 2, 1, 1, 2)


def test_a_processor_that_changes_the_address_says_who_the_client_is() -> None:
    def anonymize(event: Any) -> Any:
        return event.model_copy(update={"ip_address": "2001:db8:6::"})

    privacy.configure(address_key="k", processors=[anonymize])
    one, other = (row_in(recorded({**EVENT, "ip_address": address})) for address in ("192.0.2.1", "192.0.2.2"))
    assert one["metadata"][CORRELATION_KEY] == other["metadata"][CORRELATION_KEY]  # type: ignore[index, call-overload]


def test_a_processor_of_the_pipeline_that_masks_an_attribute_is_heard() -> None:
    (record,) = recorded(EVENT)
    attributes: Any = record.log_record.attributes
    attributes["guard.reason"] = "***"
    del attributes["url.path"]
    row = row_in([record])
    assert (row["reason"], row["endpoint"], row["event_type"]) == ("***", None, "penetration_attempt")
