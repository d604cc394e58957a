"""The processors that the agent adds to a pipeline: the SDK's batch processors, which can begin again after an end.

A provider gives no processor back. Ours stays in the application's provider
when the agent stops, and works again when the agent starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from .. import semconv
from ..exporters import GuardLogExporter, GuardSpanExporter
from ..settings.agent import AgentConfig
from .bounds import QUEUE_SIZE, bounds_of

Tap = Callable[[Sequence[ReadableLogRecord]], None]
"""Sees the events that are written ahead, before they are."""


class _TappedExporter(GuardLogExporter):
    """A `GuardLogExporter` whose events somebody else sees too."""

    tap: Tap | None = None

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write the events of `batch` ahead."""
        if self.tap is not None:
            # Before: a copy that is made after the delivery would be deleted by nobody.
            self.tap(batch)
        return super().export(batch)


class EventProcessor(LogRecordProcessor):
    """Hands security events, and nothing else, to a `GuardLogExporter` in batches.

    Other log records of the application take no place in its buffer. After
    its end an event goes into the delivery's queue at once, for whoever sends
    from there next.
    """

    def __init__(self) -> None:
        self._batches: BatchLogRecordProcessor | None = None
        self._at_once: SimpleLogRecordProcessor | None = None
        self._exporter: _TappedExporter | None = None
        self._capacity = QUEUE_SIZE

    @property
    def running(self) -> bool:
        """Whether it hands over batches."""
        return self._batches is not None

    @property
    def exporter(self) -> GuardLogExporter | None:
        """The exporter, of the last run where it has ended."""
        return self._exporter

    def tap(self, tap: Tap | None) -> None:
        """Show `tap` what is written ahead from now on; None shows nobody."""
        if self._exporter is not None:
            self._exporter.tap = tap

    def begin(self, config: AgentConfig) -> None:
        """Begin to take events; `OTEL_BLRP_*` wins over `config`."""
        bounds = bounds_of("BLRP", config)
        self._capacity = bounds.capacity
        self._exporter = _TappedExporter()
        self._at_once = SimpleLogRecordProcessor(self._exporter)
        self._batches = BatchLogRecordProcessor(
            self._exporter,
            schedule_delay_millis=bounds.delay,
            max_export_batch_size=bounds.batch_size,
            max_queue_size=bounds.capacity,
        )

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Take a security event; every other record is left alone."""
        if log_record.log_record.event_name != semconv.SECURITY_EVENT:
            return
        taker = self._batches or self._at_once
        if taker is not None:
            taker.on_emit(log_record)

    def enabled(
        self,
        *,
        context: Context | None = None,
        instrumentation_scope: InstrumentationScope | None = None,
        severity_number: SeverityNumber | None = None,
        event_name: str | None = None,
    ) -> bool:
        """Whether a record of that name is taken: for our sake an application need not make any other."""
        return event_name == semconv.SECURITY_EVENT

    def full(self) -> bool:
        """Whether the next event costs the oldest one that waits to be written ahead."""
        return self.waiting >= self._capacity

    @property
    def waiting(self) -> int:
        """How many events wait to be written ahead."""
        batches = self._batches
        # The SDK has no public reading of how many records a batch processor holds.
        return 0 if batches is None else len(batches._batch_processor._queue)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write ahead what waits; it does not wait for the network."""
        batches = self._batches
        return batches is None or batches.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Deliver what can be delivered, and end; a second call does nothing."""
        batches, self._batches = self._batches, None
        if batches is not None:
            batches.shutdown()  # type: ignore[no-untyped-call]


class SpanEventProcessor(SpanProcessor):
    """Hands finished spans to a `GuardSpanExporter`, which finds the security events in them."""

    def __init__(self) -> None:
        self._batches: BatchSpanProcessor | None = None

    @property
    def running(self) -> bool:
        """Whether it hands over batches."""
        return self._batches is not None

    def begin(self, config: AgentConfig) -> None:
        """Begin to take spans; `OTEL_BSP_*` wins over `config`."""
        bounds = bounds_of("BSP", config)
        self._batches = BatchSpanProcessor(
            GuardSpanExporter(),
            schedule_delay_millis=bounds.delay,
            max_export_batch_size=bounds.batch_size,
            max_queue_size=bounds.capacity,
        )

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is of interest when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span."""
        batches = self._batches
        if batches is not None:
            batches.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write ahead what waits; it does not wait for the network."""
        batches = self._batches
        return batches is None or batches.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Deliver what can be delivered, and end; a second call does nothing."""
        batches, self._batches = self._batches, None
        if batches is not None:
            batches.shutdown()  # type: ignore[no-untyped-call]
