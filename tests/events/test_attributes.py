"""An event keeps its fields as flat attributes: within the SDK, under its limits, and after OTLP."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from support.otlp import through_otlp
from support.strategies import any_events, json_values, python_values

from opentelemetry_guard import semconv
from opentelemetry_guard.events import codec
from opentelemetry_guard.events.attributes import (
    EMPTY,
    MAX_FLAT_EXTRA,
    MAX_FLAT_METADATA,
    TRUNCATED,
    from_attributes,
    from_record,
    to_attributes,
)
from opentelemetry_guard.models import SecurityEvent

KEY = "5f0c1b2e-7f6b-4a52-8a55-3f4a8d3c9e10"
DEFAULT_COUNT = 128


def sorted_json(row: codec.Row) -> bytes:
    """Return a row in a form that tells 1, 1.0 and true apart."""
    return orjson.dumps(codec.complete(row), option=orjson.OPT_SORT_KEYS)


def written(event: object) -> tuple[codec.Row, dict[str, Any], int]:
    """Return an event's row, its attributes, and the time beside them."""
    row, nanoseconds = codec.to_row(event)
    return row, dict(to_attributes(row, exact_time=nanoseconds is not None)), nanoseconds or 0


@given(any_events)
def test_an_event_is_the_same_after_it_was_attributes_of_the_sdk(event: SecurityEvent) -> None:
    row, attributes, nanoseconds = written(event)
    kept = BoundedAttributes(DEFAULT_COUNT, attributes)
    assert kept.dropped == 0
    assert sorted_json(from_attributes(kept, nanoseconds)) == sorted_json(row)


@given(any_events)
def test_an_event_is_the_same_after_otlp(event: SecurityEvent) -> None:
    row, attributes, nanoseconds = written(event)
    assert sorted_json(from_attributes(through_otlp(attributes), nanoseconds)) == sorted_json(row)


@given(st.dictionaries(st.sampled_from(codec.FIELDS) | st.text(max_size=8), python_values, max_size=6))
def test_whatever_the_fields_hold_otlp_encodes_the_attributes_and_they_are_read_again(fields: dict[str, Any]) -> None:
    try:
        row, attributes, nanoseconds = written({"event_type": "a", **fields})
    except codec.NotAnEvent:
        return
    assert sorted_json(from_attributes(through_otlp(attributes), nanoseconds)) == sorted_json(row)


nested = st.recursive(
    st.integers(0, 1),
    lambda inner: (
        st.dictionaries(st.sampled_from(["", EMPTY, EMPTY * 2, f"{EMPTY}x", "x"]), inner, max_size=4)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)


@given(nested)
def test_names_that_the_sdk_would_drop_keep_their_values(value: Any) -> None:
    row, attributes, _ = written({"event_type": "a", "metadata": {"": value, EMPTY: 1}, "own": value})
    kept = BoundedAttributes(DEFAULT_COUNT, attributes)
    assert sorted_json(from_attributes(kept, 0)) == sorted_json({**row, "timestamp": codec.format_nanoseconds(0)})


@given(st.dictionaries(st.text(max_size=3), json_values, min_size=60, max_size=70))
def test_many_values_fit_within_the_default_count(values: dict[str, Any]) -> None:
    everything = {field: field for field in codec.FIELDS if field not in ("timestamp", "status_code", "response_time")}
    row, attributes, nanoseconds = written({**values, **everything, "metadata": {**values, "user": "u"}})
    assert len(attributes) <= MAX_FLAT_METADATA + MAX_FLAT_EXTRA + len(semconv.EVENT_ATTRIBUTES) + 2
    kept = BoundedAttributes(DEFAULT_COUNT, attributes)
    assert kept.dropped == 0
    assert sorted_json(from_attributes(kept, nanoseconds)) == sorted_json(row)


def test_the_stable_names_come_first() -> None:
    event = {
        "event_type": "penetration_attempt",
        "idempotency_key": KEY,
        "ip_address": "203.0.113.7",
        "action_taken": "blocked",
        "endpoint": "/search",
        "method": "GET",
        "status_code": 403,
        "user_agent": "curl",
        "country": "DE",
        "rule_type": "sql",
        "pattern_matched": "union",
        "reason": "SQL injection",
        "response_time": 0.5,
        "metadata": {
            "score": 7,
            "user": "bob",
            "category": "sqli",
            "error_type": "ValueError",
            "list": [1, {"a": None}],
        },
        "tenant": "acme",
    }
    assert written(event)[1] == {
        "guard.extra.tenant": "acme",
        "guard.metadata.score": 7,
        "guard.metadata.list": [1, {"a": None}],
        "guard.response_time": 0.5,
        "error.type": "ValueError",
        "security_rule.category": "sqli",
        "geo.country.iso_code": "DE",
        "enduser.id": "bob",
        "guard.pattern_matched": "union",
        "security_rule.name": "sql",
        "user_agent.original": "curl",
        "http.response.status_code": 403,
        "http.request.method": "GET",
        "url.path": "/search",
        "guard.reason": "SQL injection",
        "client.address": "203.0.113.7",
        "guard.action_taken": "blocked",
        "log.record.uid": KEY,
        "guard.event_type": "penetration_attempt",
    }


@pytest.mark.parametrize(
    ("endpoint", "attribute"),
    [
        ("/items/{number}", semconv.HTTP_ROUTE),
        ("/files/{path:path}", semconv.HTTP_ROUTE),
        ("/items", semconv.URL_PATH),
        ("/${jndi:ldap://192.0.2.1/a}", semconv.URL_PATH),
        ("/{{7*7}}", semconv.URL_PATH),
        ("/{", semconv.URL_PATH),
        ("", semconv.URL_PATH),
    ],
)
def test_a_template_is_a_route_and_what_a_client_sent_is_a_path(endpoint: str, attribute: str) -> None:
    attributes = written({"event_type": "a", "endpoint": endpoint})[1]
    assert attributes[attribute] == endpoint
    assert {semconv.HTTP_ROUTE, semconv.URL_PATH} & attributes.keys() == {attribute}
    assert from_attributes(attributes, 0)["endpoint"] == endpoint


def test_a_user_that_is_no_text_has_no_attribute_of_the_conventions() -> None:
    attributes = written({"event_type": "a", "metadata": {"user": {"id": 5}}})[1]
    assert attributes["guard.metadata.user"] == {"id": 5}
    assert from_attributes(attributes, 0)["metadata"] == {"user": {"id": 5}}


def test_an_empty_text_and_nothing_stay_apart() -> None:
    _, attributes, nanoseconds = written({"event_type": "a", "country": "", "own": None, "metadata": {"k": None}})
    read = codec.complete(from_attributes(through_otlp(attributes), nanoseconds))
    assert (read["country"], read["user_agent"], read["own"], read["metadata"]) == ("", None, None, {"k": None})


@given(any_events, st.integers(0, 60))
def test_a_length_limit_never_costs_the_event_nor_makes_it_invalid(event: SecurityEvent, limit: int) -> None:
    _, attributes, nanoseconds = written(event)
    cut = BoundedAttributes(DEFAULT_COUNT, attributes, max_value_len=limit)
    read = codec.complete(from_attributes(cut, nanoseconds))
    SecurityEvent.model_validate_json(orjson.dumps(read), strict=True)
    assert read["event_type"] == event.event_type[:limit]
    if len(event.reason) > limit:
        assert "reason" in read["metadata"][TRUNCATED]["cut_fields"]  # type: ignore[index,call-overload,operator]


@given(any_events, st.integers(0, 20))
def test_a_count_limit_never_costs_the_event(event: SecurityEvent, limit: int) -> None:
    _, attributes, nanoseconds = written(event)
    kept = BoundedAttributes(limit, attributes)
    read = codec.complete(from_attributes(kept, nanoseconds, kept.dropped))
    SecurityEvent.model_validate_json(orjson.dumps(read), strict=True)
    if limit >= 3:
        assert (read["event_type"], read["idempotency_key"]) == (event.event_type, event.idempotency_key)
    if len(attributes) > limit:
        assert read["metadata"][TRUNCATED] == {  # type: ignore[index,call-overload]
            "cut_fields": [],
            "dropped_attributes": len(attributes) - limit,
        }


def test_what_a_length_limit_may_have_cut_is_named() -> None:
    _, attributes, _ = written(
        {
            "event_type": "authentication_failed",
            "reason": "short",
            "metadata": {"deep": {"list": ["v" * 50]}, "user": "u" * 50},
            "own": "o" * 50,
        }
    )
    cut = BoundedAttributes(DEFAULT_COUNT, attributes, max_value_len=18)
    assert from_attributes(cut, 0)["metadata"] == {
        "deep": {"list": ["v" * 18]},
        "user": "u" * 18,
        TRUNCATED: {
            "cut_fields": ["own", "metadata.deep", "metadata.user", "idempotency_key", "event_type"],
            "dropped_attributes": 0,
        },
    }


def test_events_whose_keys_were_cut_to_the_same_text_stay_different_events() -> None:
    _, attributes, _ = written({"event_type": "a", "idempotency_key": KEY})
    cut = BoundedAttributes(DEFAULT_COUNT, attributes, max_value_len=10)
    first, second = from_attributes(cut, 0), from_attributes(cut, 0)
    assert first["idempotency_key"] != second["idempotency_key"]


def test_a_key_that_a_limit_left_whole_is_kept() -> None:
    _, attributes, _ = written({"event_type": "a", "idempotency_key": KEY})
    for limit in (36, 37, None):
        whole = BoundedAttributes(DEFAULT_COUNT, attributes, max_value_len=limit)
        assert from_attributes(whole, 0)["idempotency_key"] == KEY


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(known.name for known in semconv.EVENT_ATTRIBUTES),
                semconv.GUARD_METADATA,
                semconv.GUARD_EXTRA,
                semconv.GUARD_TIMESTAMP,
                semconv.GUARD_TRUNCATED,
                "guard.extra.status_code",
                "guard.extra.timestamp",
                "guard.metadata.\ud800",
                "guard.extra.\ud800",
                "somebody.else",
            ]
        ),
        python_values,
        max_size=6,
    )
)
def test_attributes_of_a_stranger_make_a_valid_row(attributes: dict[str, Any]) -> None:
    row = codec.complete(from_attributes(attributes, 0))
    SecurityEvent.model_validate_json(orjson.dumps(row), strict=True)


def test_a_value_of_another_type_is_kept_as_text() -> None:
    attributes = {"guard.event_type": "a", "http.response.status_code": "four", "guard.response_time": float("nan")}
    row = from_attributes({**attributes, "log.record.uid": KEY, "guard.metadata.own": 1}, 0)
    assert row["metadata"] == {"own": 1, "invalid_fields": {"status_code": "four", "response_time": "nan"}}
    assert row["idempotency_key"] == KEY


@pytest.mark.parametrize("told", [None, "bogus", {"a": 1}])
def test_a_map_without_a_time_is_of_the_time_of_its_record(told: Any) -> None:
    row = from_record({"event_type": "a", "timestamp": told}, {}, 1_700_000_000_000_000_000)
    assert row["timestamp"] == "2023-11-14T22:13:20.000000Z"
