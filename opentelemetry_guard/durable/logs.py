"""The durable exporter of log records."""

from __future__ import annotations

from collections.abc import Sequence

# The SDK's own exporters of logs have it from there, too; there is no public name.
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from ..queue.base import DeliveryQueue
from .connection import DurableExporter


class DurableLogExporter(DurableExporter, LogRecordExporter):
    """Delivers log records to an OTLP/HTTP receiver as `DurableSpanExporter` does spans.

    .. versionadded:: 1.0
    """

    _kind = "logs"

    def __init__(self, *, queue: DeliveryQueue | None = None, **settings: object) -> None:
        """Make an exporter, with what `DurableSpanExporter` takes.

        Raises:
            ValueError: a setting has a value that it can't have.
            TypeError: there is no such setting.
        """
        self._connect(queue, settings)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write the records ahead to the queue, and return."""
        done = not batch or self._submit(len(batch), lambda: encode_logs(batch))
        return LogRecordExportResult.SUCCESS if done else LogRecordExportResult.FAILURE
