"""The span exporter: the events that spans carry arrive once and as they were emitted; plain spans are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import Phase, given, settings
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags
from support.guard_server import GuardServer, guard_server, same
from support.pipeline import Pipeline, pipeline
from support.rows import decoded, without_enrichment
from support.strategies import events

from opentelemetry_guard import GuardLogExporter, GuardSpanExporter, SecurityEvent
from opentelemetry_guard.events import capture
from opentelemetry_guard.events.attributes import to_attributes
from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.events.tally import INVALID, TALLY
from opentelemetry_guard.exporters.event_rows import rows_of_spans

EVENT = {"event_type": "ip_blocked", "ip_address": "192.0.2.1"}


@pytest.fixture(scope="module")
def server() -> Iterator[GuardServer]:
    with guard_server() as made:
        yield made


@pytest.fixture(scope="module")
def road(server: GuardServer) -> Iterator[Pipeline]:
    with pipeline(spans=[GuardSpanExporter(**server.settings)]) as made:
        yield made


@given(events)
@settings(phases=[Phase.generate])
def test_any_event_on_a_span_arrives_unchanged(road: Pipeline, server: GuardServer, event: SecurityEvent) -> None:
    event.idempotency_key = str(uuid4())  # hypothesis repeats its keys, and an event with a known key is left out
    before = len(server.events)
    with road.tracer.start_as_current_span("GET /") as span:
        road.emitter.emit_event(event)
    told = server.wait_for_events(before + 1)[before]
    same(told, event)
    context = span.get_span_context()
    assert told["metadata"]["trace_id"] == f"{context.trace_id:032x}"
    assert told["metadata"]["span_id"] == f"{context.span_id:016x}"


def test_plain_spans_and_other_span_events_are_left_alone(road: Pipeline, server: GuardServer) -> None:
    before = len(server.requests)
    with road.tracer.start_as_current_span("GET /") as span:
        span.add_event("exception", {"guard.event_type": "x"})
        span.set_attribute("guard.event_type", "x")
    with road.tracer.start_as_current_span("guard.event.ip_blocked"):
        pass  # the name alone makes it no span of guard-core's
    with road.tracer.start_as_current_span("GET /"):
        road.emitter.emit_event(EVENT)
    server.wait_for_requests(before + 1)
    assert len(server.requests) == before + 1
    assert len(server.requests[-1].document["events"]) == 1


def test_a_span_with_several_events_gives_each(road: Pipeline, server: GuardServer) -> None:
    before = len(server.events)
    with road.tracer.start_as_current_span("GET /"):
        for number in range(3):
            road.emitter.emit_event(EVENT, reason=str(number))
    assert [event["reason"] for event in server.wait_for_events(before + 3)[before:]] == ["0", "1", "2"]


def test_a_strangers_event_that_can_not_be_read_costs_nothing_but_itself(road: Pipeline, server: GuardServer) -> None:
    before = len(server.events)
    with road.tracer.start_as_current_span("GET /") as span:
        span.add_event("guard.security_event", {"guard.event_type": "far future"}, timestamp=10**30)
        span.add_event("guard.security_event", {"http.response.status_code": "teapot"})
        road.emitter.emit_event(EVENT)
    told = server.wait_for_events(before + 2)[before:]
    assert [(event["event_type"], event["status_code"]) for event in told] == [("unknown", None), ("ip_blocked", None)]
    assert TALLY.read().dropped == {"events": {INVALID: 1}}


@pytest.mark.parametrize("limit", [1, 10, 35])
def test_an_attribute_length_limit_costs_no_event(limit: int) -> None:
    limits = SpanLimits(max_attribute_length=limit)
    with (
        guard_server() as own,
        pipeline(spans=[GuardSpanExporter(**own.settings)], span_limits=limits) as made,
        made.tracer.start_as_current_span("GET /"),
    ):
        for _ in range(20):
            made.emitter.emit_event(EVENT, metadata={"k": "v" * 50}, timestamp="1960-01-01T00:00:00Z")
        made.tracer.start_span("unrelated").end()
        assert own.requests == []
    assert len({event["idempotency_key"] for event in own.events}) == 20


@pytest.mark.parametrize("variable", ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
def test_a_length_limit_of_the_environment_costs_no_event(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "8")
    with guard_server() as own, pipeline(spans=[GuardSpanExporter(**own.settings)]) as made:
        for _ in range(2):
            with made.tracer.start_as_current_span("GET /"):
                made.emitter.emit_event(EVENT)
        assert {event["event_type"][:8] for event in own.wait_for_events(2)} == {"ip_block"}


def test_an_attribute_count_limit_costs_an_event_nothing() -> None:
    limits = SpanLimits(max_event_attributes=3)
    key = str(uuid4())
    with guard_server() as own, pipeline(spans=[GuardSpanExporter(**own.settings)], span_limits=limits) as made:
        with made.tracer.start_as_current_span("GET /"):
            made.emitter.emit_event(EVENT, metadata={"k": 1}, idempotency_key=key, action_taken="blocked")
        (event,) = own.wait_for_events(1)
    assert (event["event_type"], event["idempotency_key"]) == ("ip_blocked", key)
    assert (event["action_taken"], event["ip_address"], event["metadata"]["k"]) == ("blocked", "192.0.2.1", 1)


@pytest.mark.parametrize("logged", [False, True])
def test_an_event_whose_attributes_somebody_has_made_anew_is_read_from_them(logged: bool) -> None:
    """As by a processor that makes spans of its own."""
    kept = InMemorySpanExporter()
    limits = SpanLimits(max_event_attributes=5)
    with pipeline(spans=[kept], span_limits=limits) as made, made.tracer.start_as_current_span("GET /") as span:
        row, nanoseconds = to_row({**EVENT, "action_taken": "blocked"})
        span.add_event("guard.security_event", to_attributes(row, logged=logged), timestamp=nanoseconds)
    rows = decoded(rows_of_spans(kept.get_finished_spans(), include_logged=False, include_guard_core=False))
    assert [row["action_taken"] for row in rows] == ([] if logged else ["blocked"])


def test_an_event_that_goes_through_both_signals_is_delivered_once() -> None:
    with guard_server() as own:
        with pipeline(logs=[GuardLogExporter(**own.settings)], spans=[GuardSpanExporter(**own.settings)]) as made:
            for _ in range(5):
                with made.tracer.start_as_current_span("GET /"):
                    made.emitter.emit_event(EVENT)
        assert len(own.events) == len({event["idempotency_key"] for event in own.events}) == 5


def test_a_span_that_ends_after_the_log_exporter_was_shut_down_does_not_deliver_its_event_again() -> None:
    with guard_server() as own:
        with pipeline(logs=[GuardLogExporter(**own.settings)], spans=[GuardSpanExporter(**own.settings)]) as made:
            with made.tracer.start_as_current_span("GET /"):
                made.emitter.emit_event(EVENT)
                made.logs.shutdown()
                own.wait_for_events(1)
            made.spans.force_flush()
        assert len(own.events) == 1


def test_events_that_somebody_elses_log_pipeline_took_are_delivered_from_spans_too() -> None:
    with (
        guard_server() as own,
        pipeline(logs=[InMemoryLogRecordExporter()], spans=[GuardSpanExporter(**own.settings)]) as made,
    ):
        with made.tracer.start_as_current_span("GET /"):
            made.emitter.emit_event(EVENT)
        assert len(own.wait_for_events(1)) == 1


def test_a_span_exporter_that_is_alone_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with guard_server() as own, pipeline(spans=[GuardSpanExporter(**own.settings)]) as made:
        for _ in range(3):
            made.tracer.start_span("GET /").end()
    assert [text for text in caplog.messages if "alone" in text] == caplog.messages
    assert len(caplog.messages) == 1
    assert "OTEL_LOGS_EXPORTER=guard" in caplog.text


def test_a_span_exporter_beside_a_log_exporter_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with (
        guard_server() as own,
        pipeline(logs=[GuardLogExporter(**own.settings)], spans=[GuardSpanExporter(**own.settings)]) as made,
    ):
        made.tracer.start_span("GET /").end()
        made.logs.shutdown()
        made.tracer.start_span("GET /").end()
    assert caplog.messages == []


def guard_core_span(name: str = "guard.event.ip_banned", **attributes: Any) -> ReadableSpan:
    """Return a span as guard-core makes one for each of its events."""
    return ReadableSpan(
        name,
        context=SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=TraceFlags(1)),
        attributes={f"guard.{key}": value for key, value in attributes.items()},
        start_time=1_000_000_000,
        end_time=1_000_000_001,
        instrumentation_scope=InstrumentationScope("guard_core.otel"),
    )


def test_guard_cores_spans_become_events_with_their_enrichment_as_metadata() -> None:
    with guard_server() as own:
        exporter = GuardSpanExporter(**own.settings)
        span = guard_core_span(
            event_type="ip_banned",
            ip_address="192.0.2.1",
            action_taken=None,
            reason=None,
            endpoint="/login",
            method="POST",
            status_code=403,
            threat_score=0.9,
        )
        assert exporter.export([span, guard_core_span("guard.event.csp_violation")]) is SpanExportResult.SUCCESS
        first, second = own.wait_for_events(2)
        exporter.shutdown()
    assert (first["event_type"], first["ip_address"], first["action_taken"]) == ("ip_banned", "192.0.2.1", "")
    assert (first["endpoint"], first["method"], first["status_code"]) == ("/login", "POST", 403)
    assert first["timestamp"] == "1970-01-01T00:00:01.000000Z"
    assert first["metadata"]["guard.threat_score"] == 0.9
    assert without_enrichment(first["metadata"]) == {
        "trace_id": f"{0xAB:032x}",
        "span_id": f"{0xCD:016x}",
    }
    assert second["event_type"] == "csp_violation"


def test_where_addresses_are_hashed_guard_cores_key_made_of_one_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GUARD_ADDRESS_KEY", "k")
    with guard_server() as own:
        exporter = GuardSpanExporter(**own.settings)
        given = {"ip_address": "192.0.2.1", "behavior.correlation_key": "cafe"}
        exporter.export([guard_core_span(**given), guard_core_span(**given)])
        first, second = own.wait_for_events(2)
        exporter.shutdown()
    key = first["metadata"]["guard.behavior.correlation_key"]
    assert key == second["metadata"]["guard.behavior.correlation_key"] != "cafe"
    assert first["ip_address"].startswith("ip-hmac-")


def test_guard_cores_spans_are_left_alone_while_our_instrumentation_captures_its_events() -> None:
    with guard_server() as own:
        exporter = GuardSpanExporter(**own.settings)
        capture.begin("guard_core")
        try:
            exporter.export([guard_core_span(reason="captured")])
        finally:
            capture.end("guard_core")
        exporter.export([guard_core_span(reason="on its own")])
        exporter.shutdown()
    assert [event["reason"] for event in own.events] == ["on its own"]


def test_a_stranger_in_the_same_pipeline_sees_valid_otlp() -> None:
    stranger = InMemorySpanExporter()
    with guard_server() as own, pipeline(spans=[stranger, GuardSpanExporter(**own.settings)]) as made:
        with made.tracer.start_as_current_span("GET /"):
            made.emitter.emit_event(EVENT, metadata={"amount": 10**30, "raw": b"\xff"}, other="\ud800")
        own.wait_for_events(1)
        assert encode_spans(stranger.get_finished_spans()).SerializeToString()
