"""A processor for our exporter holds security events alone, and they say what they do behind the SDK's processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordLimits, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from support.rows import decoded
from support.strategies import events

from opentelemetry_guard import Emitter, GuardLogExporter, GuardLogProcessor, SecurityEvent
from opentelemetry_guard.events import codec
from opentelemetry_guard.events.codec import EncodedRow
from opentelemetry_guard.events.sifting import Sifter
from opentelemetry_guard.exporters.event_rows import rows_of_records
from opentelemetry_guard.instrumentation import GuardInstrumentor, idle_records
from opentelemetry_guard.privacy import logs
from opentelemetry_guard.semconv import SCOPE_NAME
from opentelemetry_guard.version import __version__

SETTINGS: dict[str, Any] = {
    "endpoint": "http://127.0.0.1:9",
    "api_key": "k",
    "project_id": "p",
    "queue_url": "memory://",
}
EVENT = {"event_type": "ip_blocked", "ip_address": "192.0.2.1", "reason": "on a list", "metadata": {"score": 7}}
KEY = "5f0c1b2e-7f6b-4a52-8a55-3f4a8d3c9e10"
NEVER = 3_600_000
"""Milliseconds in which a processor hands on nothing unasked."""


class Seeing(GuardLogExporter):
    """A Guard exporter of whose `export` is noted what it is given."""

    reads_events_alone = True

    def __init__(self) -> None:
        super().__init__(**SETTINGS)
        self.batches: list[Sequence[Any]] = []

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        self.batches.append(batch)
        return LogRecordExportResult.SUCCESS

    @property
    def records(self) -> list[Any]:
        """All that it was given."""
        return [record for batch in self.batches for record in batch]

    @property
    def rows(self) -> list[Any]:
        """What the real one would make of it."""
        return decoded(rows_of_records(self.records))


class Derived(Seeing):
    """One that may do more with records, as it is somebody else's."""


class Changing(LogRecordProcessor):
    """Does something with each record."""

    def __init__(self, change: Callable[[Any], object]) -> None:
        self._change = change

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._change(log_record.log_record)

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


@pytest.fixture
def exporter() -> Iterator[Seeing]:
    made = Seeing()
    yield made
    made.shutdown()


def provider_with(*processors: LogRecordProcessor, limits: LogRecordLimits | None = None) -> LoggerProvider:
    """Return a provider with processors."""
    resource = Resource({"service.name": "shop"})
    provider = LoggerProvider(resource, shutdown_on_exit=False, log_record_limits=limits)
    for processor in processors:
        provider.add_log_record_processor(processor)
    return provider


@given(events)
def test_an_event_is_the_same_through_either_processor(event: SecurityEvent) -> None:
    ours, sdks = Seeing(), InMemoryLogRecordExporter()
    provider = provider_with(
        GuardLogProcessor(ours, schedule_delay_millis=NEVER),
        BatchLogRecordProcessor(sdks, schedule_delay_millis=NEVER),
    )
    try:
        provider.get_logger("the.application").emit(body="begun")
        with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("GET /"):
            Emitter(provider).emit_event(event)
        provider.force_flush()
        assert isinstance(ours.records[-1], EncodedRow) or codec.has_trace({"metadata": event.metadata})
        assert ours.rows == decoded(rows_of_records(sdks.get_finished_logs()))
        assert ours.rows[0]["metadata"]["guard.service.name"] == "shop" or "guard.service.name" in event.metadata
    finally:
        provider.shutdown()


COUNTED = ("guard.behavior.recent_event_count", "guard.threat_score")
"""What a second event of the same client has more of."""


def without_counts(rows: list[Any]) -> list[Any]:
    """Return rows without what depends on how often their client was met."""
    return [
        {**row, "metadata": {key: value for key, value in row["metadata"].items() if key not in COUNTED}}
        for row in rows
    ]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The records that loggers of the SDK are given."""
    records: list[Any] = []
    emit = Logger.emit

    def noting(self: Logger, record: Any = None, **fields: Any) -> None:
        records.append(record)
        emit(self, record, **fields)

    monkeypatch.setattr(Logger, "emit", noting)
    return records


@given(events, st.booleans())
def test_an_event_is_the_same_whether_or_not_others_take_its_record(event: SecurityEvent, is_traced: bool) -> None:
    alone, beside = Seeing(), Seeing()
    providers = [
        provider_with(GuardLogProcessor(alone, schedule_delay_millis=NEVER)),
        provider_with(GuardLogProcessor(beside, schedule_delay_millis=NEVER), Changing(lambda record: None)),
    ]
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    try:
        with tracer.start_as_current_span("GET /") if is_traced else nullcontext():
            for provider in providers:
                provider.get_logger("the.application").emit(body="begun")
                Emitter(provider).emit_event(event)
        for provider in providers:
            provider.force_flush()
        assert without_counts(alone.rows) == without_counts(beside.rows)
        assert len(alone.rows) == 1
    finally:
        for provider in providers:
            provider.shutdown()


def test_an_event_that_nobody_else_takes_need_not_become_a_record(exporter: Seeing, recorded: list[Any]) -> None:
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER))
    logs.install(provider)
    emitter = Emitter(provider)
    for _ in range(3):
        emitter.emit_event(EVENT)
    assert len(recorded) == 1, "the first tells the exporter which service it works for"
    provider.force_flush()
    assert [row["reason"] for row in exporter.rows] == ["on a list"] * 3
    provider.shutdown()


def test_a_processor_that_is_added_later_gets_records(exporter: Seeing) -> None:
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER))
    emitter, seen = Emitter(provider), list[Any]()
    for _ in range(2):
        emitter.emit_event(EVENT)
    provider.add_log_record_processor(Changing(lambda record: seen.append(dict(record.attributes))))
    emitter.emit_event(EVENT)
    provider.force_flush()
    assert [attributes["client.address"] for attributes in seen] == ["192.0.2.1"]
    assert len(exporter.rows) == 3
    provider.shutdown()


def test_a_method_that_is_put_in_the_place_of_ours_gets_records(
    exporter: Seeing, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = GuardLogProcessor(exporter, schedule_delay_millis=NEVER)
    provider = provider_with(processor)
    emitter, seen = Emitter(provider), list[Any]()
    emitter.emit_event(EVENT)
    monkeypatch.setattr(processor, "on_emit", seen.append)
    emitter.emit_event(EVENT)
    assert [record.log_record.event_name for record in seen] == ["guard.security_event"]
    provider.shutdown()


def test_the_sdk_counts_events_that_become_no_record(exporter: Seeing, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER))
    counted: list[int] = []
    made = provider.get_logger(SCOPE_NAME, __version__)
    monkeypatch.setattr(made, "_logger_metrics", SimpleNamespace(emit_log=lambda: counted.append(1)))
    monkeypatch.setattr(provider, "get_logger", lambda *_: made)
    emitter = Emitter(provider)
    for _ in range(3):
        emitter.emit_event(EVENT)
    assert len(counted) == 3
    provider.shutdown()


def test_nothing_is_held_behind_the_end_of_a_processor(exporter: Seeing) -> None:
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER))
    emitter = Emitter(provider)
    for _ in range(2):
        emitter.emit_event(EVENT)
    provider.shutdown()
    emitter.emit_event(EVENT)
    assert len(exporter.rows) == 2


def test_records_of_others_take_no_place_in_it(exporter: Seeing) -> None:
    processor = GuardLogProcessor(exporter, schedule_delay_millis=NEVER, max_queue_size=2, max_export_batch_size=2)
    provider = provider_with(processor)
    Emitter(provider).emit_event(EVENT)
    for number in range(10):
        provider.get_logger("the.application").emit(body=f"record {number}")
    provider.force_flush()
    assert [row["event_type"] for row in exporter.rows] == ["ip_blocked"]
    assert len(exporter.records) == 1
    provider.shutdown()


def test_the_first_record_tells_whose_telemetry_it_is() -> None:
    exporter = GuardLogExporter(**SETTINGS)
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER))
    provider.get_logger("the.application").emit(body="begun")
    provider.force_flush()
    assert exporter.delivery is not None
    assert exporter.delivery.service == {"name": "shop"}
    provider.shutdown()


def test_a_record_of_somebody_else_with_our_name_is_read(exporter: Seeing) -> None:
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER))
    provider.get_logger("another.library").emit(
        event_name="guard.security_event", attributes={"guard.event_type": "b", "client.address": "192.0.2.2"}
    )
    provider.force_flush()
    assert [(row["event_type"], row["ip_address"]) for row in exporter.rows] == [("b", "192.0.2.2")]
    provider.shutdown()


CHANGES: list[Callable[[Any], object]] = [
    lambda record: record.attributes.update({"guard.reason": "another"}),
    lambda record: record.attributes.pop("guard.metadata.score"),
    lambda record: setattr(record, "attributes", {"guard.event_type": "replaced", "log.record.uid": KEY}),
    lambda record: setattr(record, "body", "redacted"),
    lambda record: setattr(record, "trace_id", 0xABC),
    lambda record: record.body,
    lambda record: dict(record.attributes),
]


@pytest.mark.parametrize("most", [128, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_processor_before_it_has_changed_counts(
    exporter: Seeing, change: Callable[[Any], object], most: int
) -> None:
    sdks = InMemoryLogRecordExporter()
    provider = provider_with(
        Changing(change),
        GuardLogProcessor(exporter, schedule_delay_millis=NEVER),
        BatchLogRecordProcessor(sdks, schedule_delay_millis=NEVER),
        limits=LogRecordLimits(max_log_record_attributes=most),
    )
    for _ in range(2):  # the first tells the exporter which service it works for
        Emitter(provider).emit_event(EVENT)
    provider.force_flush()
    assert exporter.rows == decoded(rows_of_records(sdks.get_finished_logs()))
    provider.shutdown()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.attributes.update({"guard.reason": "password=hunter2"}),
        lambda record: record.attributes.clear(),
        lambda record: setattr(record, "attributes", {}),
    ],
)
def test_what_a_processor_behind_it_changes_is_for_those_behind_that(
    exporter: Seeing, change: Callable[[Any], object]
) -> None:
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER), Changing(change))
    for _ in range(2):
        Emitter(provider).emit_event(EVENT)
    provider.force_flush()
    assert "hunter2" not in str(exporter.rows)
    assert exporter.rows[-1]["reason"] == "on a list"
    provider.shutdown()


def test_a_service_that_gets_another_name_is_told_by_the_next_event() -> None:
    exporter = GuardLogExporter(**SETTINGS)
    provider = provider_with(GuardLogProcessor(exporter, schedule_delay_millis=NEVER))
    emitter = Emitter(provider)
    assert exporter.delivery is not None
    for _ in range(3):
        emitter.emit_event(EVENT)
    provider._update_resource(Resource({"service.name": "till"}))
    for _ in range(3):
        emitter.emit_event(EVENT)
    provider.force_flush()
    assert exporter.delivery.service == {"name": "till"}
    provider.shutdown()


@pytest.mark.parametrize("made", [Derived, InMemoryLogRecordExporter])
def test_any_other_exporter_gets_all_records_as_the_sdk_makes_them(made: type[Any]) -> None:
    other = made()
    provider = provider_with(GuardLogProcessor(other, schedule_delay_millis=NEVER))
    provider.get_logger("the.application").emit(body="hello")
    Emitter(provider).emit_event(EVENT)
    provider.get_logger("the.application").emit(body="hello")
    provider.force_flush()
    records = other.records if isinstance(other, Derived) else other.get_finished_logs()
    assert [record.log_record.event_name for record in records] == [None, "guard.security_event", None]
    provider.shutdown()


def test_a_release_of_the_sdk_that_keeps_its_queue_elsewhere_is_given_whole_records() -> None:
    taken: list[ReadWriteLogRecord] = []
    processor: Any = SimpleNamespace()

    class Whole(Changing):
        on_emit = staticmethod(Sifter(processor, taken.append))  # type: ignore[assignment]

    Emitter(provider_with(Whole(dict))).emit_event(EVENT)
    assert [record.log_record.event_name for record in taken] == ["guard.security_event"]


@pytest.fixture
def instrumented() -> Iterator[None]:
    yield
    idle_records.uninstall()


@pytest.mark.usefixtures("instrumented")
@pytest.mark.parametrize(("made", "expected"), [(Seeing, 2), (Derived, 4)])
def test_the_sdks_processor_in_front_of_it_is_spared_the_records_of_others(made: type[Seeing], expected: int) -> None:
    exporter = made()
    provider = provider_with(BatchLogRecordProcessor(exporter, schedule_delay_millis=NEVER))
    GuardInstrumentor().instrument(logger_provider=provider)
    try:
        for number in range(3):
            provider.get_logger("the.application").emit(body=f"record {number}")
        Emitter(provider).emit_event(EVENT)
        provider.force_flush()
        assert len(exporter.records) == expected
        assert [row["reason"] for row in exporter.rows] == ["on a list"]
    finally:
        GuardInstrumentor().uninstrument()
    provider.get_logger("the.application").emit(body="as before")
    provider.force_flush()
    assert len(exporter.records) == expected + 1
    provider.shutdown()
