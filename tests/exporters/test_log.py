"""The log exporter: every security event among the log records arrives as it was emitted, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import Phase, given, settings
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from support.guard_server import GuardServer, Json, guard_server, same
from support.pipeline import Pipeline, pipeline
from support.strategies import events

from opentelemetry_guard import GuardLogExporter, GuardSpanExporter, SecurityEvent
from opentelemetry_guard.events.tally import INVALID, TALLY

EVENT = {"event_type": "ip_blocked", "ip_address": "192.0.2.1"}


@pytest.fixture(scope="module")
def server() -> Iterator[GuardServer]:
    with guard_server() as made:
        yield made


@pytest.fixture(scope="module")
def road(server: GuardServer) -> Iterator[Pipeline]:
    with pipeline(logs=[GuardLogExporter(**server.settings)]) as made:
        yield made


def received(server: GuardServer, key: str) -> Json:
    """Return the event with this key as soon as it is there."""
    found: list[Json] = []

    def is_there() -> bool:
        found[:] = [event for event in server.events if event["idempotency_key"] == key]
        return bool(found)

    server.wait_until(is_there, f"the event {key}")
    (event,) = found
    return event


@given(events)
@settings(phases=[Phase.generate])
def test_any_event_arrives_unchanged(road: Pipeline, server: GuardServer, event: SecurityEvent) -> None:
    event.idempotency_key = str(uuid4())  # hypothesis repeats its keys, and an event with a known key is left out
    with road.tracer.start_as_current_span("GET /") as span:
        road.emitter.emit_event(event)
    told = received(server, event.idempotency_key)
    same(told, event)
    context = span.get_span_context()
    assert told["metadata"]["trace_id"] == f"{context.trace_id:032x}"
    assert told["metadata"]["span_id"] == f"{context.span_id:016x}"


def test_records_of_others_are_left_alone(road: Pipeline, server: GuardServer) -> None:
    logger = road.logs.get_logger("the.application")
    before = len(server.requests)
    logger.emit(body="hello")
    logger.emit(body={"event_type": "x"}, event_name="somebody.else")
    key = str(uuid4())
    road.emitter.emit_event(EVENT, idempotency_key=key)
    received(server, key)
    assert len(server.requests) == before + 1
    assert TALLY.read().dropped == {}


def test_a_record_of_somebody_else_with_our_name_is_read(road: Pipeline, server: GuardServer) -> None:
    logger = road.logs.get_logger("another.library")
    with_body, with_attributes = str(uuid4()), str(uuid4())
    logger.emit(
        timestamp=1_500,
        event_name="guard.security_event",
        body={"event_type": "a", "idempotency_key": with_body, "status_code": "403", "more": {"k": None}},
    )
    logger.emit(
        timestamp=2_000_000_000,
        event_name="guard.security_event",
        attributes={"guard.event_type": "b", "log.record.uid": with_attributes, "client.address": "::1"},
    )
    told = received(server, with_body)
    assert (told["event_type"], told["status_code"], told["more"]) == ("a", 403, {"k": None})
    assert told["timestamp"] == "1970-01-01T00:00:00.000001Z"
    told = received(server, with_attributes)
    assert (told["event_type"], told["ip_address"], told["timestamp"]) == ("b", "::1", "1970-01-01T00:00:02.000000Z")


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, True),
        ({"event_type": None}, True),
        ({"event_type": "x", "timestamp": "never", "metadata": "no object", "status_code": {"a": 1}}, False),
        ({"event_type": {"nested": True}, "metadata": {"b": b"\xff"}}, False),
        ("text", False),
        (None, False),
        ([1, 2], False),
    ],
)
def test_a_strange_record_with_our_name_costs_nothing_but_itself(
    road: Pipeline, server: GuardServer, body: Any, refused: bool
) -> None:
    before = len(server.events)
    road.logs.get_logger("another.library").emit(event_name="guard.security_event", body=body)
    road.emitter.emit_event(EVENT)
    told = server.wait_for_events(before + (1 if refused else 2))[before:]
    assert "ip_blocked" in [event["event_type"] for event in told]
    assert TALLY.read().dropped == ({"events": {INVALID: 1}} if refused else {})


def test_a_stranger_in_the_same_pipeline_sees_valid_otlp() -> None:
    stranger = InMemoryLogRecordExporter()
    with guard_server() as own, pipeline(logs=[stranger, GuardLogExporter(**own.settings)]) as made:
        made.emitter.emit_event(EVENT, metadata={"amount": 10**30, "raw": b"\xff"})
        own.wait_for_events(1)
        assert encode_logs(stranger.get_finished_logs()).SerializeToString()


def test_events_of_unsampled_traces_arrive() -> None:
    with (
        guard_server() as own,
        pipeline(
            logs=[GuardLogExporter(**own.settings)], spans=[GuardSpanExporter(**own.settings)], sampler=ALWAYS_OFF
        ) as made,
    ):
        for _ in range(5):
            with made.tracer.start_as_current_span("GET /"):
                made.emitter.emit_event(EVENT)
        assert len({event["idempotency_key"] for event in own.wait_for_events(5)}) == 5


def test_a_large_body_is_compressed_and_a_small_one_is_not() -> None:
    with guard_server() as own, pipeline(logs=[GuardLogExporter(**own.settings)]) as made:
        made.emitter.emit_event(EVENT)
        own.wait_for_events(1)
        made.emitter.emit_event(EVENT, reason="r" * 2000)
        own.wait_for_events(2)
        assert [request.headers.get("content-encoding") for request in own.requests] == [None, "gzip"]


def test_a_refused_answer_is_tried_again_with_the_same_body() -> None:
    with guard_server() as own, pipeline(logs=[GuardLogExporter(**own.settings)]) as made:
        own.answer(503, times=2)
        made.emitter.emit_event(EVENT)
        own.wait_for_events(1)
        assert [request.status for request in own.requests] == [503, 503, 200]
        assert len({request.document["batch_id"] for request in own.requests}) == 1
