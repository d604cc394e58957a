"""The exporter of log records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult

from ..events.codec import EncodedRow
from ..events.sifting import Sifter
from ..queue.base import DeliveryQueue
from ..settings.in_use import EventExporter
from .connection import Connection, GuardExporter
from .event_rows import rows_of_records


class GuardLogExporter(GuardExporter, LogRecordExporter, EventExporter):
    """Delivers the security events among log records to a Guard backend.

    Log records are not sampled, so this exporter gets every event. All other
    records are left alone.

    With ``SimpleLogRecordProcessor(GuardLogExporter())`` every event is in
    the queue before `emit_event` returns.

    .. versionadded:: 1.0
    """

    reads_events_alone = True
    """Other records need not be given to it, and events may be sifted. A derived class gets all as the SDK has it."""

    def __init__(self, *, queue: DeliveryQueue | None = None, **settings: object) -> None:
        """Make an exporter; the sender's thread starts, nothing else is opened before the first event.

        Args:
            queue: a store of your own instead of the one that `queue_url` names.
            **settings: the attributes of `opentelemetry_guard.settings.delivery.GuardConfig`; what is not
                given comes from the environment (``OTEL_EXPORTER_GUARD_*``).

        Raises:
            ValueError: a setting has a value that it can't have.
            TypeError: there is no such setting.
        """
        self._connection = Connection("logs", queue, settings)

    def export(self, batch: Sequence[ReadableLogRecord | EncodedRow]) -> LogRecordExportResult:
        """Write the security events of `batch` ahead to the queue, and return."""
        whole = next((record for record in reversed(batch) if not isinstance(record, EncodedRow)), None)
        if whole is not None:
            self._connection.belong_to(whole.resource)
        rows = rows_of_records(batch)
        if not rows or self._connection.submit("events", rows):
            return LogRecordExportResult.SUCCESS
        return LogRecordExportResult.FAILURE


class GuardLogProcessor(BatchLogRecordProcessor):
    """Hands the security events among log records to a `GuardLogExporter` in batches, and nothing else.

    It is the SDK's batch processor, for less: an event is held as it is
    instead of being copied, and other records of the application take no
    place in the buffer. With any other exporter, one that is derived from
    `GuardLogExporter` too, it hands on all records as the SDK does.

    .. versionadded:: 1.0
    """

    def __init__(self, exporter: LogRecordExporter, **bounds: Any) -> None:
        """Make a processor.

        Args:
            exporter: gets the events.
            **bounds: what `BatchLogRecordProcessor` takes; the environment (``OTEL_BLRP_*``) says what isn't given.
        """
        super().__init__(exporter, **bounds)
        if vars(type(exporter)).get("reads_events_alone"):
            # In the place of the method, which would only call it.
            self.on_emit = Sifter(self, super().on_emit)  # type: ignore[method-assign]
