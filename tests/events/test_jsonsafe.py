"""Whatever Python value an event carries, what goes into the pipeline is JSON and OTLP, and converting never raises."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from support.strategies import TextColour, bad_values, cycle, json_values, nested, python_values

from opentelemetry_guard.events.jsonsafe import MAX_NODES, describe, json_safe, key_text


def through_otlp(body: Any) -> None:
    """Encode a log record with this body as OTLP does, and read it again as a collector does."""
    record = ReadableLogRecord(LogRecord(timestamp=1, observed_timestamp=1, body=body), Resource.get_empty())
    ExportLogsServiceRequest.FromString(encode_logs([record]).SerializeToString())


@given(python_values)
def test_any_value_becomes_one_that_json_and_otlp_encode(value: Any) -> None:
    safe = json_safe(value)
    orjson.dumps(safe)
    through_otlp({"event_type": "x", "metadata": safe})


@given(json_values)
def test_a_json_value_stays_as_it_is(value: Any) -> None:
    assert orjson.dumps(json_safe(value)) == orjson.dumps(value)


@given(python_values)
def test_a_value_that_was_made_safe_is_safe(value: Any) -> None:
    safe = json_safe(value)
    assert json_safe(safe) == safe


@pytest.mark.parametrize("name", bad_values)
def test_one_bad_value_costs_no_other_value_beside_it(name: str) -> None:
    safe = json_safe({"before": 1, "bad": bad_values[name], "after": [2]})
    assert isinstance(safe, dict)
    assert (safe["before"], safe["after"]) == (1, [2])
    orjson.dumps(safe)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Decimal", "1.5"),
        ("bytes", "\\xff\x00raw"),
        ("datetime", "2026-01-02T03:04:05"),
        ("date", "2026-01-02"),
        ("set", ["a", "b"]),
        ("lone surrogate", "\\ud800"),
        ("huge integer", "18446744073709551616"),
        ("NaN", "NaN"),
        ("infinity", "-Infinity"),
        ("cycle", {"itself": ["[circular]"]}),
        ("text that raises", "<RaisesAsText>"),
        ("mapping that raises", "[unreadable: RuntimeError]"),
        ("hostile string", "x"),
        ("hostile integer", 5),
        ("enumeration", "NaN"),
        ("keys that are not text", {"None": 1, "2": 3, "b'k'": 4, "('t',)": 5, "green": 6, "\\udfff": 7}),
    ],
)
def test_the_nearest_json_value_is_found(name: str, expected: Any) -> None:
    assert json_safe(bad_values[name]) == expected


def test_deep_nesting_is_cut_where_a_protobuf_parser_still_follows() -> None:
    safe = json_safe(nested(500))
    assert "[nested too deep]" in orjson.dumps(safe).decode()
    through_otlp({"metadata": {"deep": safe}})


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = [1]
    assert json_safe([shared, shared]) == [[1], [1]]


def test_a_cycle_of_two_is_found() -> None:
    made = cycle()
    assert json_safe({"a": made}) == {"a": {"itself": ["[circular]"]}}


def test_an_endless_or_huge_value_is_cut_at_a_number_of_values() -> None:
    safe = json_safe([list(range(100))] * MAX_NODES)
    assert isinstance(safe, list)
    assert safe[-1] == "[too many values]"
    assert sum(len(item) for item in safe if isinstance(item, list)) <= MAX_NODES + 1


def test_texts_are_exact_strings_for_encoders_that_refuse_subclasses() -> None:
    assert type(key_text(TextColour.GREEN)) is str
    assert key_text(TextColour.GREEN) == "green"
    assert describe(TextColour.GREEN.value) == "green"
