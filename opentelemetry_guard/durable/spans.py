"""The durable exporter of spans."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ..queue.base import DeliveryQueue
from .connection import DurableExporter


class DurableSpanExporter(DurableExporter, SpanExporter):
    """Delivers spans to an OTLP/HTTP receiver, by way of a queue that survives outages and the end of the process.

    .. versionadded:: 1.0
    """

    _kind = "spans"

    def __init__(self, *, queue: DeliveryQueue | None = None, **settings: object) -> None:
        """Make an exporter; the sender's thread starts, nothing else is opened before the first span.

        Args:
            queue: a store of your own instead of the one that `queue_url` names.
            **settings: the attributes of `opentelemetry_guard.settings.durable.DurableConfig`, with `endpoint` the
                whole URL of the requests, and `max_bytes` short for `queue_max_bytes`. What is not given comes from
                the environment: ``OTEL_EXPORTER_OTLP_*`` and ``OTEL_PYTHON_EXPORTER_DURABLE_*``.

        Raises:
            ValueError: a setting has a value that it can't have.
            TypeError: there is no such setting.
        """
        self._connect(queue, settings)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans ahead to the queue, and return."""
        done = not spans or self._submit(len(spans), lambda: encode_spans(spans))
        return SpanExportResult.SUCCESS if done else SpanExportResult.FAILURE
