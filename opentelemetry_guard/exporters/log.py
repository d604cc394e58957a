"""The exporter of log records."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

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

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write the security events of `batch` ahead to the queue, and return."""
        if batch:
            self._connection.belong_to(batch[0].resource)
        rows = rows_of_records(batch)
        if not rows or self._connection.submit("events", rows):
            return LogRecordExportResult.SUCCESS
        return LogRecordExportResult.FAILURE
