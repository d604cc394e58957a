"""Exporters for OTLP that lose nothing: what is exported is written ahead to a queue, and delivered from there.

Usage, in the place of `OTLPSpanExporter` and its siblings; no Guard backend and no API key are needed::

    from opentelemetry_guard.durable import DurableSpanExporter

    exporter = DurableSpanExporter(endpoint="http://collector:4318/v1/traces", queue_url="sqlite:///var/lib/app/otlp.db")
    provider.add_span_processor(BatchSpanProcessor(exporter))

or without code: ``OTEL_TRACES_EXPORTER=otlp_durable``.
"""

from __future__ import annotations

try:
    from .logs import DurableLogExporter
    from .metrics import DurableMetricExporter
    from .spans import DurableSpanExporter
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] not in ("google", "opentelemetry"):
        raise
    raise ModuleNotFoundError(
        f"the durable exporters need {error.name}: pip install 'opentelemetry-guard[durable]'", name=error.name
    ) from error

__all__ = ["DurableLogExporter", "DurableMetricExporter", "DurableSpanExporter"]
