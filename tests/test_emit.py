"""Emitting: one log record, one span event, one count; never an exception, never poison, and every loss is counted."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import NoOpLoggerProvider, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from support.pipeline import Pipeline, pipeline
from support.rows import row_of
from support.strategies import RaisesWhenRead, bad_values, python_values

from opentelemetry_guard import Emitter, SecurityEvent, SecurityMetric, emit_event, record_metric, semconv
from opentelemetry_guard.emit import severity_of
from opentelemetry_guard.events.correlation import incident_key
from opentelemetry_guard.events.tally import EMISSION_ERROR, INVALID, NO_PIPELINE, TALLY
from opentelemetry_guard.instruments import INSTRUMENTS, SECONDS, SHARES
from opentelemetry_guard.models import MetricType

EVENT = {"event_type": "ip_blocked", "action_taken": "blocked", "ip_address": "192.0.2.1"}


class Recorded:
    """A pipeline in memory, and everything that it received."""

    def __init__(self, made: Pipeline, logs: InMemoryLogRecordExporter, spans: InMemorySpanExporter) -> None:
        self.pipeline = made
        self.emitter = made.emitter
        self.logs = logs
        self.spans = spans
        self.metrics = InMemoryMetricReader()

    def measured(self) -> dict[str, list[Any]]:
        """Collect, and return the data points by instrument, checking that OTLP encodes them."""
        data = self.metrics.get_metrics_data()
        if data is None:
            return {}
        encode_metrics(data).SerializeToString()
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    logs, spans = InMemoryLogRecordExporter(), InMemorySpanExporter()
    reader = InMemoryMetricReader()
    with pipeline(logs=[logs], spans=[spans], readers=[reader]) as made:
        recorded = Recorded(made, logs, spans)
        recorded.metrics = reader
        yield recorded


def test_an_event_is_a_log_record_a_span_event_and_a_count(recorded: Recorded) -> None:
    with recorded.pipeline.tracer.start_as_current_span("GET /"):
        recorded.emitter.emit_event(EVENT, timestamp="2026-01-02T03:04:05.000006Z")
    (record,) = recorded.logs.get_finished_logs()
    (span,) = recorded.spans.get_finished_spans()
    (event,) = span.events
    log = record.log_record
    assert log.event_name == event.name == "guard.security_event"
    assert log.timestamp == event.timestamp == 1_767_323_045_000_006_000
    assert (log.trace_id, log.span_id) == (span.context.trace_id, span.context.span_id)
    assert (log.severity_number, log.severity_text) == (SeverityNumber.WARN, "WARN")
    assert log.body == "from 192.0.2.1 blocked: ip_blocked"
    told = {
        "client.address": "192.0.2.1",
        "guard.action_taken": "blocked",
        "log.record.uid": row_of(log)["idempotency_key"],
        "guard.event_type": "ip_blocked",
        "guard.threat_score": 50,
        "guard.correlation_key": incident_key("192.0.2.1", "ip_blocked"),
        "guard.recent_event_count": 1,
    }
    assert dict(log.attributes or {}) == told
    assert dict(event.attributes or {}) == {**told, "guard.logged": True}
    (count,) = recorded.measured()["guard.security_events"]
    assert (count.value, dict(count.attributes)) == (
        1,
        {"guard.event_type": "ip_blocked", "guard.action_taken": "blocked"},
    )
    assert TALLY.read().emitted == {"events": 1}
    assert TALLY.read().dropped == {}


@pytest.mark.parametrize(
    ("event_type", "severity"),
    [
        ("penetration_attempt", SeverityNumber.ERROR),
        ("ip_banned", SeverityNumber.WARN),
        ("custom_rule_triggered", SeverityNumber.WARN),
        ("path_excluded", SeverityNumber.INFO),
    ],
)
def test_severity_follows_the_kind_of_event(event_type: str, severity: SeverityNumber) -> None:
    assert severity_of(event_type) == (severity, severity.name)


def guard_core_object(**data: object) -> object:
    """Return an event as guard-core makes some of its own: the fields are attributes of the class."""
    return type("SecurityEvent", (), data)()


@pytest.mark.parametrize(
    "event", [EVENT, SecurityEvent(**EVENT), guard_core_object(**EVENT)], ids=["mapping", "model", "object"]
)
def test_keywords_win_over_the_fields_of_an_event_of_any_form(recorded: Recorded, event: Any) -> None:
    recorded.emitter.emit_event(event)
    recorded.emitter.emit_event(event, reason="because", ip_address="192.0.2.2")
    plain, changed = (row_of(record.log_record) for record in recorded.logs.get_finished_logs())
    assert plain.items() >= EVENT.items()
    assert changed.items() >= {**EVENT, "ip_address": "192.0.2.2", "reason": "because"}.items()


def test_an_event_outside_a_span_and_without_logs_gets_a_span_of_its_own() -> None:
    spans = InMemorySpanExporter()
    with pipeline(spans=[spans]) as made:
        made.emitter.emit_event(EVENT)
        (span,) = spans.get_finished_spans()
    assert span.instrumentation_scope is not None
    assert (span.name, span.instrumentation_scope.name) == (semconv.SECURITY_EVENT, semconv.SCOPE_NAME)
    (event,) = span.events
    assert semconv.GUARD_LOGGED not in (event.attributes or {})
    assert TALLY.read().dropped == {}


def test_an_event_that_is_logged_makes_no_span(recorded: Recorded) -> None:
    recorded.emitter.emit_event(EVENT)
    assert recorded.spans.get_finished_spans() == ()


def test_an_unsampled_trace_costs_no_event_that_can_be_logged() -> None:
    logs = InMemoryLogRecordExporter()
    with pipeline(logs=[logs], sampler=ALWAYS_OFF) as made, made.tracer.start_as_current_span("GET /") as span:
        made.emitter.emit_event(EVENT)
    (record,) = logs.get_finished_logs()
    assert record.log_record.trace_id == span.get_span_context().trace_id


def test_an_event_that_nothing_takes_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with pipeline(sampler=ALWAYS_OFF) as made:
        for _ in range(3):
            made.emitter.emit_event(EVENT)
    assert TALLY.read().emitted == {"events": 3}
    assert TALLY.read().dropped == {"events": {NO_PIPELINE: 3}}
    assert len(caplog.messages) == 1
    assert "OTEL_LOGS_EXPORTER=guard" in caplog.text


def test_without_an_sdk_everything_is_counted_as_dropped_and_nothing_raises() -> None:
    emitter = Emitter(NoOpLoggerProvider(), trace.NoOpTracerProvider(), NoOpMeterProvider())
    emitter.emit_event(EVENT)
    emitter.record_metric(metric_type="threat_level", value=1)
    assert TALLY.read().dropped == {"events": {NO_PIPELINE: 1}, "metrics": {NO_PIPELINE: 1}}


def test_the_functions_of_the_package_use_the_global_providers_even_if_they_are_set_later() -> None:
    script = """
from opentelemetry import _logs, metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry_guard import emit_event, record_metric
emit_event(event_type="early"); record_metric(metric_type="threat_level", value=1)
logs, reader = InMemoryLogRecordExporter(), InMemoryMetricReader()
provider = LoggerProvider(); provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
_logs.set_logger_provider(provider); metrics.set_meter_provider(MeterProvider([reader]))
emit_event(event_type="late"); record_metric(metric_type="threat_level", value=2)
print([record.log_record.attributes["guard.event_type"] for record in logs.get_finished_logs()])
scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
print([m.data.data_points[0].sum for s in scopes for m in s.metrics if m.name == "guard.threat_level"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["['late']", "[2]"]


def test_the_functions_of_the_package_never_raise() -> None:
    emit_event()
    emit_event(5)  # type: ignore[arg-type]
    record_metric()
    record_metric("text")  # type: ignore[arg-type]
    assert TALLY.read().emitted == {"events": 2, "metrics": 2}
    assert TALLY.read().dropped == {"events": {INVALID: 2}, "metrics": {INVALID: 2}}


BAD_EVENTS: dict[str, Any] = {
    "nothing": None,
    "number": 5,
    "text": "text",
    "pairs": [("event_type", "x")],
    "empty mapping": {},
    "type that is null": {"event_type": None},
    "mapping that raises": RaisesWhenRead(),
    "generator": (item for item in "abc"),
    "object": object(),
    "proxy to nothing": bad_values["proxy to nothing"],
}


@pytest.mark.parametrize("name", BAD_EVENTS)
@pytest.mark.parametrize("fields", [{}, {"reason": "because"}], ids=["alone", "with keywords"])
def test_what_is_no_event_is_counted_and_never_raises(recorded: Recorded, name: str, fields: dict[str, str]) -> None:
    recorded.emitter.emit_event(BAD_EVENTS[name], **fields)
    assert recorded.logs.get_finished_logs() == ()
    assert TALLY.read().emitted == {"events": 1}
    assert TALLY.read().dropped == {"events": {INVALID: 1}}


@pytest.mark.parametrize("name", bad_values)
@pytest.mark.parametrize("field", ["event_type", "ip_address", "status_code", "timestamp", "metadata", "unknown"])
def test_a_bad_value_costs_neither_its_event_nor_the_pipeline(recorded: Recorded, name: str, field: str) -> None:
    with recorded.pipeline.tracer.start_as_current_span("GET /"):
        recorded.emitter.emit_event({**EVENT, "user_agent": "kept", field: bad_values[name]})
    dropped = TALLY.read().dropped.get("events", {})
    records = recorded.logs.get_finished_logs()
    assert len(records) + sum(dropped.values()) == 1
    assert dropped.keys() <= {INVALID}
    if field in ("metadata", "unknown"):
        assert dropped == {}
    encode_logs(records).SerializeToString()
    encode_spans(recorded.spans.get_finished_spans()).SerializeToString()


@given(st.dictionaries(st.sampled_from(tuple(SecurityEvent.model_fields)) | st.text(max_size=5), python_values))
def test_no_event_is_poison_for_another_exporter_of_the_same_pipeline(fields: dict[str, Any]) -> None:
    logs, spans = InMemoryLogRecordExporter(), InMemorySpanExporter()
    with pipeline(logs=[logs], spans=[spans]) as made:
        with made.tracer.start_as_current_span("GET /"):
            made.emitter.emit_event({"event_type": "x", **fields})
        encode_logs(logs.get_finished_logs()).SerializeToString()
        encode_spans(spans.get_finished_spans()).SerializeToString()


def test_refusals_of_different_data_are_said_once(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        recorded.emitter.record_metric(metric_type=f"unknown-{number}", value=1)
        recorded.emitter.record_metric(metric_type="threat_level", value=f"wrong-{number}")
    assert len(caplog.messages) == 1
    assert TALLY.read().dropped == {"metrics": {INVALID: 40}}


class FailingProcessor(LogRecordProcessor):
    """A processor of somebody else's that raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or RuntimeError("out of order")

    def on_emit(self, log_record: Any) -> None:
        raise self.error

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def test_a_log_pipeline_that_raises_leaves_the_event_to_a_span() -> None:
    spans = InMemorySpanExporter()
    with pipeline(spans=[spans]) as made:
        made.logs.add_log_record_processor(FailingProcessor())
        made.emitter.emit_event(EVENT)
    (span,) = spans.get_finished_spans()
    assert [event.name for event in span.events] == [semconv.SECURITY_EVENT]
    assert TALLY.read().dropped == {}


def test_a_pipeline_that_raises_is_counted_and_the_caller_sees_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with pipeline(sampler=ALWAYS_OFF) as made:
        made.logs.add_log_record_processor(FailingProcessor())
        made.emitter.emit_event(EVENT)
        made.emitter.emit_event(EVENT)
    assert TALLY.read().dropped == {"events": {EMISSION_ERROR: 2}}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


class UnreadableError(Exception):
    """An exception of somebody else's that can't be shown."""

    def __repr__(self) -> str:
        raise self

    __str__ = __repr__


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("https://bob:hunter2@collector.example.com"), "https://bob:[REDACTED]@collector.example.com"),
        (UnreadableError(), "UnreadableError"),
    ],
)
def test_what_a_pipeline_raises_is_told_without_the_secrets_that_it_quotes(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pipeline(sampler=ALWAYS_OFF) as made:
        made.logs.add_log_record_processor(FailingProcessor(error))
        made.emitter.emit_event(EVENT)
    assert told in caplog.text
    assert "hunter2" not in caplog.text


def test_a_metric_whose_reading_raises_what_can_not_be_shown_is_counted(recorded: Recorded) -> None:
    class Unreadable(RaisesWhenRead):
        def __getitem__(self, name: str) -> object:
            raise UnreadableError

        __iter__ = keys = get = __getitem__  # type: ignore[assignment]

    recorded.emitter.record_metric(Unreadable())  # type: ignore[arg-type]
    assert TALLY.read().dropped == {"metrics": {INVALID: 1}}


UNITS = {
    "request_count": "{request}",
    "error_rate": "{request}",
    "bandwidth_usage": "By",
    "response_time": "s",
    "threat_level": "1",
    "block_rate": "1",
    "cache_hit_rate": "1",
}
COUNTERS = {"request_count", "error_rate", "bandwidth_usage"}


def test_every_metric_type_has_an_instrument_with_its_unit() -> None:
    assert {name: spec.unit for name, spec in INSTRUMENTS.items()} == UNITS
    assert {name for name, spec in INSTRUMENTS.items() if spec.adds_up} == COUNTERS


@pytest.mark.parametrize("metric_type", UNITS)
def test_a_metric_is_a_measurement_with_its_endpoint_and_tags(recorded: Recorded, metric_type: str) -> None:
    fields: dict[str, Any] = {"metric_type": metric_type, "value": 2, "endpoint": "/a", "tags": {"k": "v"}}
    recorded.emitter.record_metric(fields)
    recorded.emitter.record_metric(SecurityMetric(**fields))
    recorded.emitter.record_metric(guard_core_object(**fields))  # type: ignore[arg-type]
    recorded.emitter.record_metric(fields, value=4.0)
    (point,) = recorded.measured()[f"guard.{metric_type}"]
    assert (point.value if metric_type in COUNTERS else point.sum) == 10
    assert dict(point.attributes) == {"http.route": "/a", "guard.tag.k": "v"}
    assert TALLY.read().emitted == {"metrics": 4}
    assert TALLY.read().dropped == {}


@pytest.mark.parametrize("value", [None, "x", math.nan, math.inf, -math.inf, 10**400, [], object()])
@pytest.mark.parametrize("metric_type", ["request_count", "threat_level"])
def test_a_value_that_is_no_finite_number_is_counted(recorded: Recorded, metric_type: str, value: Any) -> None:
    recorded.emitter.record_metric(metric_type=metric_type, value=value)
    assert TALLY.read().dropped == {"metrics": {INVALID: 1}}
    assert f"guard.{metric_type}" not in recorded.measured()


def test_what_adds_up_is_never_negative(recorded: Recorded) -> None:
    recorded.emitter.record_metric(metric_type="bandwidth_usage", value=-1)
    recorded.emitter.record_metric(metric_type="threat_level", value=-1)
    assert TALLY.read().dropped == {"metrics": {INVALID: 1}}


@pytest.mark.parametrize("metric_type", ["bandwidth_usage", "response_time"])
def test_huge_integers_are_measured_and_no_poison_for_otlp(recorded: Recorded, metric_type: str) -> None:
    for _ in range(3):
        recorded.emitter.record_metric(metric_type=metric_type, value=2**63 - 1)
    (point,) = recorded.measured()[f"guard.{metric_type}"]
    assert (point.value if metric_type == "bandwidth_usage" else point.sum) == pytest.approx(3 * 2.0**63)


@pytest.mark.parametrize("name", bad_values)
def test_bad_tags_and_endpoints_are_no_poison(recorded: Recorded, name: str) -> None:
    recorded.emitter.record_metric(metric_type="threat_level", value=1, tags=bad_values[name])
    recorded.emitter.record_metric(metric_type="threat_level", value=1, tags={"k": bad_values[name]})
    recorded.emitter.record_metric(metric_type="threat_level", value=1, endpoint=bad_values[name])
    points = recorded.measured().get("guard.threat_level", [])
    dropped = TALLY.read().dropped.get("metrics", {})
    assert sum(point.count for point in points) + sum(dropped.values()) == 3


@pytest.mark.parametrize(
    ("metric_type", "edges"),
    [("threat_level", SHARES), ("block_rate", SHARES), ("cache_hit_rate", SHARES), ("response_time", SECONDS)],
)
def test_explicit_buckets_tell_values_apart_that_occur(
    recorded: Recorded, metric_type: MetricType, edges: tuple[float, ...]
) -> None:
    for value in (0.02, 0.07, 0.6):
        recorded.emitter.record_metric(metric_type=metric_type, value=value)
    ((point,),) = recorded.measured().values()
    assert point.explicit_bounds == edges
    assert max(point.bucket_counts) == 1
