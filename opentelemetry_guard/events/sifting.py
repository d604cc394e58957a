"""What a batch processor holds of log records when its exporter reads security events alone: the events, in short.

The SDK's batch processor copies each record and makes a readable one of the copy, since an exporter may read anything
in it. Ours reads the JSON that the attributes carry, and where the record is of a trace. And it has no use for the
records of anybody else, which would only fill the processor's queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from .. import semconv
from .record import EventAttributes, EventRecord

Sifted: TypeAlias = "tuple[EventAttributes, int, int, int, Resource]"
"""An event's attributes, its trace and span, its time in nanoseconds since 1970, and whose telemetry it is."""

OnEmit: TypeAlias = Callable[[ReadWriteLogRecord], None]


def sifted(processor: BatchLogRecordProcessor, on_emit: OnEmit) -> OnEmit:
    """Return what takes records for a processor whose exporter understands `Sifted` beside readable records.

    Args:
        processor: of the SDK's, which holds what its exporter is given.
        on_emit: takes any record for it, at a greater cost.
    """
    # The SDK has no public way to it; where it is kept elsewhere one day, each event is copied as before.
    batches: Any = getattr(processor, "_batch_processor", None)
    hold: Callable[[object], None] | None = getattr(batches, "emit", None)
    # The first one tells the exporter which service it works for.
    is_first = True

    def on_emit_of_any(log_record: ReadWriteLogRecord) -> None:
        nonlocal is_first
        record = log_record.log_record
        if record.event_name != semconv.SECURITY_EVENT and not is_first:
            return
        is_first = False
        resource = log_record.resource
        # A body that somebody has read may be another one by now, so that is left to the SDK.
        if type(record) is EventRecord and record.carries_all and hold is not None and resource is not None:
            time = record.timestamp or record.observed_timestamp
            hold((record.attributes, record.trace_id, record.span_id, time, resource))
        else:
            on_emit(log_record)

    return on_emit_of_any
