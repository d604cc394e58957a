"""What a batch processor holds of log records when its exporter reads security events alone: the events' JSON.

The SDK's batch processor copies each record and makes a readable one of the copy, since an exporter may read anything
in it; the attributes, the context and the rest wait with it, and the collection of garbage looks through all of that.
Ours sends the JSON that the attributes carry. And it has no use for the records of anybody else, which would only fill
the processor's queue.

Where nobody else takes a logger's records, an event need not become one: the processor is given its JSON at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.trace import Span

from .. import semconv
from . import record
from .codec import Row
from .origin import Origin, origin_of
from .record import EventRecord, carried_at_once

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadWriteLogRecord
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor


class Sifter:
    """Takes log records for a batch processor whose exporter understands an `EncodedRow` beside readable records."""

    def __init__(self, processor: BatchLogRecordProcessor, on_emit: Callable[[ReadWriteLogRecord], None]) -> None:
        """Take the place of a processor's `on_emit`.

        Args:
            processor: of the SDK's, which holds what its exporter is given.
            on_emit: takes any record for it, at a greater cost.
        """
        self._on_emit = on_emit
        # The SDK has no public way to it; where it is kept elsewhere one day, each event is copied as before.
        batches: Any = getattr(processor, "_batch_processor", None)
        self.hold: Callable[[object], None] | None = getattr(batches, "emit", None)
        """Holds an event's row; None where nothing but a record can be held."""
        self.origin: Origin | None = None
        """Whose records came before; a whole record has told the exporter so."""

    def __call__(self, log_record: ReadWriteLogRecord) -> None:
        """Take a record; one that is no event is left, but for the first of a resource."""
        log, resource = log_record.log_record, log_record.resource
        if self.origin is None or self.origin.resource is not resource:
            # The whole record tells the exporter which service it works for.
            self.origin = origin_of(resource)
            self._on_emit(log_record)
        elif log.event_name == semconv.SECURITY_EVENT:
            row = log.carried(self.origin) if type(log) is EventRecord else None
            if row is not None and self.hold is not None:
                self.hold(row)
            else:
                self._on_emit(log_record)


def emitter_to(logger: Logger) -> record.Emit:
    """Return what emits events to a logger: as their JSON where a sifter alone would take the record, else as records.

    The SDK's tuple of processors is looked at for each event, so that one that is added later gets its records.
    """
    as_record = record.emitter_to(logger)
    chain: Any = getattr(logger, "_multi_log_record_processor", None)
    count: Callable[[], None] | None = getattr(getattr(logger, "_logger_metrics", None), "emit_log", None)
    # Any other chain does more than to call one processor after the other. The SDK shows neither of them publicly.
    is_usual = type(chain).__name__ == "SynchronousMultiLogRecordProcessor"
    if count is None or not is_usual or not hasattr(chain, "_log_record_processors"):
        return as_record
    own: Any = logger
    known: tuple[object, Any] = (None, None)  # the processors, and the one that takes events; replaced as a whole

    def emit(
        row: Row,
        json: bytes,
        nanoseconds: int | None,
        severity: tuple[SeverityNumber, str],
        span: Span,
        cleaned: record.Cleaned | None,
    ) -> None:
        nonlocal known
        processors = chain._log_record_processors
        if known[0] is not processors:
            known = (processors, _taking_alone(processors))
        taking = known[1]
        if taking is not None and type(sifter := taking.on_emit) is Sifter:
            origin, hold = sifter.origin, sifter.hold
            if origin is not None and hold is not None and origin.resource is own.resource:
                place = span.get_span_context()
                held = carried_at_once(row, json, place.trace_id, place.span_id, origin)
                if held is not None:
                    count()
                    hold(held)
                    return
        as_record(row, json, nanoseconds, severity, span, cleaned)

    return emit


def _taking_alone(processors: object) -> Any:
    """Return the one processor that has a use for events, None where several may have."""
    if not isinstance(processors, tuple):
        return None
    taking = [each for each in processors if not vars(type(each)).get("leaves_events")]
    return taking[0] if len(taking) == 1 else None
