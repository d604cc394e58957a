"""An event keeps its fields as a row, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import RaisesWhenRead, TextColour, bad_values, events, python_values

from opentelemetry_guard.events import codec
from opentelemetry_guard.models import SecurityEvent

KEY = "5f0c1b2e-7f6b-4a52-8a55-3f4a8d3c9e10"
UTC = timezone.utc


def same(row: Mapping[str, Any], event: SecurityEvent) -> None:
    """Check that a row says the same as an event, types included (JSON tells 1, 1.0 and true apart)."""
    told = {**row, "timestamp": codec.parse_timestamp(row["timestamp"])}
    meant = event.model_dump()
    assert told.pop("timestamp") == meant.pop("timestamp")
    assert orjson.dumps(told, option=orjson.OPT_SORT_KEYS) == orjson.dumps(meant, option=orjson.OPT_SORT_KEYS)


@given(events)
def test_an_event_is_the_same_as_a_row(event: SecurityEvent) -> None:
    row, _ = codec.to_row(event)
    same(codec.complete(row), event)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 11, 22, 0, 7, 33, 620457, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_every_time_keeps_its_microsecond(moment: datetime) -> None:
    row, nanoseconds = codec.to_row({"event_type": "a", "timestamp": moment})
    assert codec.parse_timestamp(row["timestamp"]) == moment
    assert nanoseconds is None or codec.format_nanoseconds(nanoseconds) == row["timestamp"]


@given(st.integers(0, 2**63 - 1))
def test_nanoseconds_are_written_as_the_time_that_they_are(nanoseconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    assert codec.format_nanoseconds(nanoseconds) == codec.format_timestamp(moment)


def test_a_key_and_a_time_that_are_made_are_of_the_same_moment() -> None:
    found = codec.whole(None, {"event_type": "a"})
    assert found is not None
    fields, made_at = found
    assert made_at is not None
    assert made_at == codec.to_nanoseconds(datetime.fromisoformat(str(fields["timestamp"]).replace("Z", "+00:00")))
    assert UUID(str(fields["idempotency_key"])).int >> 80 == made_at // 1_000_000


def test_a_time_that_otlp_has_no_number_for_is_carried_beside_it() -> None:
    for year in (1, 1969, 2263, 9999):
        assert codec.to_nanoseconds(datetime(year, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04:05.123+02:00", "2026-01-02T01:04:05.123000Z"),
        (datetime(2026, 1, 2), "2026-01-02T00:00:00.000000Z"),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), "2026-01-01T23:00:00.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
    ],
)
def test_times_are_read_in_the_forms_that_people_write(given: object, expected: str) -> None:
    assert codec.to_row({"event_type": "a", "timestamp": given})[0]["timestamp"] == expected


@pytest.mark.parametrize(
    "given", ["soon", "", float("nan"), 1e300, 10**400, True, [], datetime.max.replace(tzinfo=UTC)]
)
def test_a_time_that_can_not_be_read_is_now_and_kept_as_text(given: object) -> None:
    row, _ = codec.to_row({"event_type": "a", "timestamp": given})
    if isinstance(given, datetime):
        assert row["timestamp"] == "9999-12-31T23:59:59.999999Z"
    else:
        assert row["metadata"]["invalid_fields"].keys() == {"timestamp"}  # type: ignore[index,call-overload,union-attr]


def test_a_value_of_the_wrong_type_is_converted_or_kept_as_text() -> None:
    row, _ = codec.to_row(
        {
            "event_type": 7,
            "ip_address": b"192.0.2.1",
            "status_code": "403",
            "response_time": "0.5",
            "reason": ["two", "reasons"],
            "method": TextColour.GREEN,
        }
    )
    assert (row["event_type"], row["ip_address"], row["status_code"], row["response_time"]) == (
        "7",
        "192.0.2.1",
        403,
        0.5,
    )
    assert (row["reason"], row["method"]) == ("['two', 'reasons']", "green")
    row, _ = codec.to_row({"event_type": "a", "status_code": "teapot", "response_time": float("nan")})
    assert "status_code" not in row
    assert row["metadata"] == {"invalid_fields": {"status_code": "teapot", "response_time": "nan"}}


@given(st.dictionaries(st.sampled_from(codec.FIELDS) | st.text(max_size=8), python_values, max_size=6))
def test_whatever_the_fields_hold_the_row_is_valid_or_the_event_is_refused(fields: dict[str, Any]) -> None:
    try:
        row, _ = codec.to_row({"event_type": "a", **fields})
    except codec.NotAnEvent:
        assert fields["event_type"] is None
        return
    SecurityEvent.model_validate_json(orjson.dumps(codec.complete(row)), strict=True)


@pytest.mark.parametrize("name", bad_values)
def test_metadata_may_be_anything(name: str) -> None:
    row, _ = codec.to_row({"event_type": "a", "metadata": bad_values[name]})
    assert isinstance(row.get("metadata", {}), dict)
    orjson.dumps(row)


def test_an_empty_key_is_no_key() -> None:
    first, second = (codec.to_row({"event_type": "a", "idempotency_key": key})[0] for key in ("", None))
    assert first["idempotency_key"]
    assert second["idempotency_key"]


@pytest.mark.parametrize("value", [None, 5, "text", [], {}, object(), {"ip_address": "x"}, {"event_type": None}])
def test_what_has_no_event_type_is_no_event(value: object) -> None:
    with pytest.raises(codec.NotAnEvent, match="event_type"):
        codec.to_row(value)


def test_an_object_with_class_attributes_is_read_like_guard_core_makes_it() -> None:
    data = {"event_type": "decoding_error", "ip_address": "192.0.2.1", "metadata": {"k": 1}, "timestamp": 0}
    row, _ = codec.to_row(type("SecurityEvent", (), data)())
    assert (row["event_type"], row["ip_address"], row["metadata"]) == ("decoding_error", "192.0.2.1", {"k": 1})


def test_a_model_of_the_users_own_keeps_the_fields_that_it_adds() -> None:
    class TenantEvent(SecurityEvent):
        tenant: str = "t"

    row, _ = codec.to_row(TenantEvent(event_type="a", order=5))  # type: ignore[call-arg]
    assert (row["tenant"], row["order"]) == ("t", 5)


def test_names_of_fields_may_be_members_of_an_enumeration() -> None:
    class Name(str, Enum):
        TYPE = "event_type"
        OTHER = "other"

    row, _ = codec.to_row({Name.TYPE: "a", Name.OTHER: 1})
    assert (row["event_type"], row["other"]) == ("a", 1)


def test_a_row_shares_nothing_with_the_event_that_the_caller_may_change_later() -> None:
    metadata: dict[str, Any] = {"list": [1]}
    row, _ = codec.to_row({"event_type": "a", "metadata": metadata})
    metadata["list"].append(2)
    assert row["metadata"] == {"list": [1]}


def test_a_mapping_that_can_not_be_read_raises_its_own_error() -> None:
    with pytest.raises(RuntimeError, match="no iteration"):
        codec.to_row(RaisesWhenRead())


def test_the_trace_context_goes_into_the_metadata_unless_the_event_has_its_own() -> None:
    row, _ = codec.to_row({"event_type": "a", "metadata": {"trace_id": "mine"}})
    completed = codec.complete(row, trace_id=0xAB, span_id=0xCD)
    assert completed["metadata"] == {"trace_id": "mine", "span_id": f"{0xCD:016x}"}
    assert codec.complete({"event_type": "a"}, 0xAB, 0xCD)["metadata"] == {
        "trace_id": f"{0xAB:032x}",
        "span_id": f"{0xCD:016x}",
    }
    assert codec.complete(row)["metadata"] == {"trace_id": "mine"}


def test_a_key_that_is_no_uuid_becomes_the_same_uuid_everywhere_and_is_kept_as_text() -> None:
    first, _ = codec.to_row({"event_type": "a", "idempotency_key": "order-42"})
    again, _ = codec.to_row({"event_type": "b", "idempotency_key": "order-42"})
    other, _ = codec.to_row({"event_type": "a", "idempotency_key": "order-43"})
    assert str(UUID(str(first["idempotency_key"]))) == first["idempotency_key"] == again["idempotency_key"]
    assert other["idempotency_key"] != first["idempotency_key"]
    assert first["metadata"] == {"invalid_fields": {"idempotency_key": "order-42"}}


def test_a_row_is_encoded_in_the_contracts_order_however_it_was_made() -> None:
    whole: dict[str, Any] = {**dict.fromkeys(codec.FIELDS, "x"), "metadata": {"a": 1}}
    another = {**{name: whole[name] for name in reversed(codec.FIELDS) if name != "metadata"}, "metadata": {"a": 1}}
    assert codec.encoded(another) == codec.encoded(whole) == codec.encoded(whole, is_whole=True)


def test_a_model_whose_metadata_are_not_the_last_of_its_fields_is_read_the_thorough_way() -> None:
    event = SecurityEvent(event_type="a", reason="r")
    assert codec.whole(event, {}) is not None
    event.__dict__["reason"] = event.__dict__.pop("reason")
    assert codec.whole(event, {}) is None
    assert codec.encoded(codec.to_row(event)[0]).endswith(b'"metadata":{}}')
