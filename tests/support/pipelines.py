"""Global pipelines of a script in a process of its own, which send nothing before the process ends."""

from __future__ import annotations

from opentelemetry import _logs, metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, emit_event, record_metric

NEVER = 3_600_000
"""Milliseconds."""


def set_up() -> None:
    """Set the global providers."""
    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(GuardLogExporter(), schedule_delay_millis=NEVER))
    _logs.set_logger_provider(logs)
    reader = PeriodicExportingMetricReader(GuardMetricExporter(), export_interval_millis=NEVER)
    metrics.set_meter_provider(MeterProvider([reader]))


def emit(reason: str) -> None:
    """Emit one event and one metric."""
    emit_event(event_type="ip_blocked", reason=reason)
    record_metric(metric_type="request_count", value=1.0, endpoint="/emitted")
