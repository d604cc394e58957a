"""What a batch processor holds of log records when its exporter reads security events alone: the events' JSON.

The SDK's batch processor copies each record and makes a readable one of the copy, since an exporter may read anything
in it; the attributes, the context and the rest wait with it, and the collection of garbage looks through all of that.
Ours sends the JSON that the attributes carry. And it has no use for the records of anybody else, which would only fill
the processor's queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from opentelemetry.sdk._logs import ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

from .. import semconv
from .origin import Origin, origin_of
from .record import EventRecord

OnEmit: TypeAlias = Callable[[ReadWriteLogRecord], None]


def sifted(processor: BatchLogRecordProcessor, on_emit: OnEmit) -> OnEmit:
    """Return what takes records for a processor whose exporter understands an `EncodedRow` beside readable records.

    Args:
        processor: of the SDK's, which holds what its exporter is given.
        on_emit: takes any record for it, at a greater cost.
    """
    # The SDK has no public way to it; where it is kept elsewhere one day, each event is copied as before.
    batches: Any = getattr(processor, "_batch_processor", None)
    hold: Callable[[object], None] | None = getattr(batches, "emit", None)
    origin: Origin | None = None  # of the records before

    def on_emit_of_any(log_record: ReadWriteLogRecord) -> None:
        nonlocal origin
        record, resource = log_record.log_record, log_record.resource
        if origin is None or origin.resource is not resource:
            # The whole record tells the exporter which service it works for.
            origin = origin_of(resource)
            on_emit(log_record)
        elif record.event_name == semconv.SECURITY_EVENT:
            row = record.carried(origin) if type(record) is EventRecord else None
            if row is not None and hold is not None:
                hold(row)
            else:
                on_emit(log_record)

    return on_emit_of_any
