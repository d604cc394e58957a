"""The exporter of spans."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ..events.capture import is_captured
from ..queue.base import DeliveryQueue
from ..settings.in_use import EventExporter
from ..settings.once import log_once
from .connection import Connection, GuardExporter
from .event_rows import rows_of_spans

_logger = logging.getLogger(__name__)


class GuardSpanExporter(GuardExporter, SpanExporter, EventExporter):
    """Delivers the security events that spans carry to a Guard backend.

    Spans that have nothing to do with security are left alone. Events that
    a log record carries as well are left to `GuardLogExporter` where one
    shares the delivery. A sampler keeps unsampled traces away from every
    span exporter, so events of such traces need `GuardLogExporter`.

    .. versionadded:: 1.0
    """

    reads_events_alone = True
    """A span without an event need not be given to it. A class that is derived from this one gets all spans."""

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
        self._connection = Connection("traces", queue, settings)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the security events of `spans` ahead to the queue, and return."""
        if spans:
            self._connection.belong_to(spans[0].resource)
        # Also when that exporter has been shut down: by the order of things at exit the spans come last, and an event
        # that was logged in a long span has been delivered long ago.
        has_logs = self._connection.ever_shared_delivery_with("logs")
        if self._connection.delivery is not None and not has_logs:
            log_once(
                _logger,
                logging.WARNING,
                "GuardSpanExporter is alone: security events of traces that are not sampled don't reach it; "
                "add GuardLogExporter (OTEL_LOGS_EXPORTER=guard) to deliver every event",
            )
        rows = rows_of_spans(spans, include_logged=not has_logs, include_guard_core=not is_captured("guard_core"))
        if not rows or self._connection.submit("events", rows):
            return SpanExportResult.SUCCESS
        return SpanExportResult.FAILURE
