"""A log record carries its event's JSON, and the attributes that others see are made of it when they look."""

from __future__ import annotations

import argparse
import copy
import pickle
import threading
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs._internal import _disable_logger_configurator
from opentelemetry.sdk.trace import Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan
from support.pipeline import pipeline
from support.strategies import any_events

from opentelemetry_guard import Emitter, SecurityEvent
from opentelemetry_guard.events import codec
from opentelemetry_guard.events import record as record_module
from opentelemetry_guard.events.attributes import to_attributes
from opentelemetry_guard.events.record import EventAttributes, EventRecord, add_to_span, emitter_to

EVENT = {"event_type": "ip_blocked", "ip_address": "192.0.2.1", "metadata": {"score": 7}}


def carrying(event: object = EVENT, most: int | None = 128, longest: int | None = None) -> EventAttributes:
    """Return the attributes of an event."""
    row, _ = codec.to_row(event)
    return EventAttributes(row, codec.encoded(row), True, most, longest)


def carried(attributes: EventAttributes) -> dict[str, Any] | None:
    """Return the row that attributes carry."""
    row = attributes.carried(0, 0)
    return None if row is None else row.decoded()


@given(any_events, st.integers(0, 30) | st.none(), st.integers(0, 30) | st.none())
def test_they_are_what_the_sdk_makes_of_an_event(event: SecurityEvent, most: int | None, longest: int | None) -> None:
    row, _ = codec.to_row(event)
    attributes = EventAttributes(row, codec.encoded(row), True, most, longest)
    made = BoundedAttributes(most, to_attributes(row), immutable=False, max_value_len=longest)
    told = dict(attributes)
    expected = dict(made)
    if told.pop("guard.truncated", None) is not None and len(expected) == most:
        del expected[next(iter(expected))]  # it takes a place
    assert told == expected
    assert attributes.dropped >= made.dropped
    assert isinstance(attributes, BoundedAttributes)


@given(any_events)
def test_a_row_is_carried_whole(event: SecurityEvent) -> None:
    row, _ = codec.to_row(event)
    attributes = carrying(event)
    if not codec.has_trace(row):
        assert carried(attributes) == codec.complete(row)


def test_looking_at_the_attributes_changes_nothing() -> None:
    attributes = carrying()
    assert attributes["client.address"] == "192.0.2.1"
    assert len(attributes) == 4
    assert carried(attributes) is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda attributes: attributes.__setitem__("guard.reason", "***"),
        lambda attributes: attributes.__delitem__("client.address"),
        lambda attributes: attributes.update({"own": 1}),
        lambda attributes: attributes.pop("client.address"),
        lambda attributes: attributes.clear(),
        lambda attributes: attributes.setdefault("own", 1),
    ],
)
def test_a_row_that_the_attributes_may_contradict_is_not_carried(change: Any) -> None:
    attributes = carrying()
    change(attributes)
    assert carried(attributes) is None


def test_a_map_that_somebody_has_seen_may_have_been_changed() -> None:
    attributes = carrying({**EVENT, "metadata": {"headers": {"accept": "*/*"}}})
    assert carried(attributes) is not None
    headers: Any = attributes["guard.metadata.headers"]
    headers["accept"] = "***"
    assert carried(attributes) is None


def test_an_event_with_a_trace_of_its_own_is_read_from_its_attributes() -> None:
    assert carrying({**EVENT, "metadata": {"trace_id": "mine"}}).carried(0xAB, 0xCD) is None


@pytest.mark.parametrize("metadata", [{}, {"k": 1}, {"k": {}}])
def test_the_trace_context_is_put_into_the_json(metadata: dict[str, object]) -> None:
    row, _ = codec.to_row({**EVENT, "metadata": metadata})
    json = codec.encoded(row)
    members = codec.trace_members(0xAB, 0xCD)
    assert orjson.loads(codec.with_members(json, members)) == codec.complete(row, 0xAB, 0xCD)


def test_they_are_copied_and_pickled_like_any_other() -> None:
    unseen, seen = carrying(), carrying()
    dict(seen)
    for before in (unseen, seen):
        assert dict(copy.deepcopy(before)) == dict(copy.copy(before)) == dict(before)
    written = pickle.dumps(carrying())
    assert pickle.loads(written)["client.address"] == "192.0.2.1"


def test_threads_that_look_first_at_once_see_the_same() -> None:
    for _ in range(50):
        attributes = carrying()
        barrier = threading.Barrier(4)
        seen: list[object] = []

        def look(attributes: EventAttributes, barrier: threading.Barrier, seen: list[object]) -> None:
            barrier.wait()
            seen.append(attributes._dict)

        threads = [threading.Thread(target=look, args=(attributes, barrier, seen)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(each) for each in seen}) == 1


class Kept(LogRecordProcessor):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[ReadWriteLogRecord] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.records.append(log_record)

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def test_the_sdks_logger_has_the_limits_that_its_user_allows() -> None:
    """A private attribute of the SDK, which is looked for and not relied on; without it events are plain records."""
    limits = LogRecordLimits(max_log_record_attributes=3)
    with pipeline(log_limits=limits) as made:
        made.logs.add_log_record_processor(kept := Kept())
        made.emitter.emit_event(EVENT)
    (record,) = kept.records
    assert isinstance(record.log_record.attributes, EventAttributes)
    assert (len(record.log_record.attributes), record.dropped_attributes) == (3, 4)
    assert record.resource is made.logs.resource
    assert record.instrumentation_scope is not None
    assert record.instrumentation_scope.name == "opentelemetry_guard"


def test_a_logger_that_is_not_the_sdks_gets_plain_records() -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(kept := Kept())
    sdks = provider.get_logger("x")

    class Wrapper:
        def emit(self, record: Any) -> None:
            sdks.emit(record)

        def enabled(self, **_: object) -> bool:
            return True

    class Wrapping:
        def get_logger(self, *_: object) -> Wrapper:
            return Wrapper()

    Emitter(Wrapping(), None, None).emit_event(EVENT)  # type: ignore[arg-type]
    emitter_to(Wrapper())  # type: ignore[arg-type]
    (record,) = kept.records
    assert type(record.log_record.attributes) is BoundedAttributes
    assert record.log_record.attributes["client.address"] == "192.0.2.1"


def test_an_event_is_put_in_words_when_somebody_reads_its_body_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[codec.Row] = []

    def counting(row: codec.Row) -> str:
        said.append(row)
        return "in words"

    monkeypatch.setattr(record_module, "sentence", counting)
    records: list[ReadWriteLogRecord] = []

    class Keeping(LogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            records.append(log_record)

        def shutdown(self) -> None:
            """Do nothing."""

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(Keeping())
    Emitter(logs).emit_event(EVENT)
    assert said == []
    assert [records[0].log_record.body for _ in range(2)] == ["in words"] * 2
    assert [row["ip_address"] for row in said] == ["192.0.2.1"]


def test_a_record_is_what_its_class_makes_of_the_same_values() -> None:
    with pipeline() as made, made.tracer.start_as_current_span("request") as span:
        made.logs.add_log_record_processor(kept := Kept())
        made.emitter.emit_event(EVENT)
        quick = kept.records[0].log_record
        usual = LogRecord(
            timestamp=quick.timestamp,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=quick.body,
            attributes=quick.attributes,
            event_name="guard.security_event",
        )
    told = {name: getattr(quick, name) for name in vars(usual)}
    assert told.pop("observed_timestamp") <= usual.observed_timestamp
    assert told == {name: value for name, value in vars(usual).items() if name != "observed_timestamp"}
    assert quick.trace_id == span.get_span_context().trace_id != 0


def test_a_record_has_what_another_release_of_the_sdk_keeps_of_it() -> None:
    class Ready:
        known = 1

    kept = argparse.Namespace(known=2, more=3)
    record_module._take_defaults(Ready, kept)
    assert (Ready.known, Ready().more) == (1, 3)  # type: ignore[attr-defined]


@given(any_events, st.integers(0, 30) | st.none(), st.integers(0, 30) | st.none(), st.booleans())
def test_a_span_event_has_the_attributes_that_the_sdk_would_make(
    event: SecurityEvent, most: int | None, longest: int | None, logged: bool
) -> None:
    limits = SpanLimits(max_event_attributes=most, max_attribute_length=longest)
    row, nanoseconds = codec.to_row(event)
    span = TracerProvider(span_limits=limits, shutdown_on_exit=False).get_tracer("test").start_span("request")
    assert isinstance(span, Span)
    add_to_span(span, row, nanoseconds, logged=logged)
    span.add_event("guard.security_event", to_attributes(row, exact_time=nanoseconds is not None, logged=logged))
    quick, usual = span.events
    told = dict(quick.attributes or {})
    told.pop("guard.truncated", None)
    assert told.items() <= dict(usual.attributes or {}).items()
    if "guard.truncated" not in (quick.attributes or {}):
        assert told == dict(usual.attributes or {})
    assert (quick.name, type(quick)) == (usual.name, type(usual))
    assert nanoseconds is None or quick.timestamp == nanoseconds
    with pytest.raises(TypeError):
        quick.attributes["more"] = 1  # type: ignore[index]


def test_the_attributes_of_a_span_event_are_made_when_somebody_looks() -> None:
    kept = InMemorySpanExporter()
    with pipeline(spans=[kept]) as made, made.tracer.start_as_current_span("request"):
        made.emitter.emit_event(EVENT)
    ((event,),) = (span.events for span in kept.get_finished_spans())
    attributes = event.attributes
    assert isinstance(attributes, EventAttributes)
    assert "_dict" not in vars(attributes)
    assert attributes["client.address"] == "192.0.2.1"


def test_a_span_that_is_not_the_sdks_gets_plain_attributes() -> None:
    class Wrapper(NonRecordingSpan):
        added: Any = None

        def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
            self.added = (name, attributes, timestamp)

    span = Wrapper(INVALID_SPAN_CONTEXT)
    row, nanoseconds = codec.to_row(EVENT)
    add_to_span(span, row, nanoseconds, logged=False)
    assert span.added == ("guard.security_event", to_attributes(row), nanoseconds)


def unsaid(cleaned: Any = str.upper) -> EventRecord:
    """Return the record of an event that nobody has read."""
    made = EventRecord(event_name="guard.security_event")
    made._event, made._cleaned = carrying(), cleaned
    return made


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda record: pickle.loads(pickle.dumps(record))])
def test_a_copy_has_the_same_words(copied: Any) -> None:
    assert copied(unsaid()).body == "FROM 192.0.2.1: IP_BLOCKED"
    assert copied(unsaid(None)).body == "from 192.0.2.1: ip_blocked"


def test_a_body_that_a_processor_sets_stays() -> None:
    made = unsaid()
    made.body = "***"
    assert (made.body, copy.copy(made).body) == ("***", "***")


class Unwilling(Kept):
    """Takes nothing while it is told not to."""

    willing = False

    def enabled(self, **asked: object) -> bool:
        assert asked["event_name"] == "guard.security_event"
        return self.willing


def test_a_record_is_made_where_one_processor_takes_it() -> None:
    with pipeline() as made:
        first, second = Unwilling(), Unwilling()
        made.logs.add_log_record_processor(first)
        made.logs.add_log_record_processor(second)
        made.emitter.emit_event(EVENT)
        second.willing = True
        made.emitter.emit_event(EVENT)
        second.willing = False
        made.emitter.emit_event(EVENT)
        assert len(first.records) == 1
        made.logs.add_log_record_processor(Kept())
        made.emitter.emit_event(EVENT)
        assert len(first.records) == 2


def test_a_logger_that_is_switched_off_gets_nothing() -> None:
    with pipeline() as made:
        made.logs.add_log_record_processor(kept := Kept())
        made.emitter.emit_event(EVENT)
        made.logs._set_logger_configurator(logger_configurator=_disable_logger_configurator)
        made.emitter.emit_event(EVENT)
    assert len(kept.records) == 1
