"""One line for an application with an OpenTelemetry of its own: exporters, instrumentation, the end of the process."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, TypeVar

from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.metrics import get_meter_provider, set_meter_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.environment_variables import (
    OTEL_BLRP_MAX_QUEUE_SIZE,
    OTEL_BLRP_SCHEDULE_DELAY,
    OTEL_BSP_SCHEDULE_DELAY,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import get_tracer_provider, set_tracer_provider

from .exporters import GuardLogExporter, GuardLogProcessor, GuardMetricExporter, GuardSpanExporter
from .exporters.lookup import find
from .instrumentation import GuardInstrumentor
from .process import end as process_end
from .settings.delivery import GuardConfig
from .settings.instrumentation import GuardOptions
from .settings.privacy import PrivacySettings

_LOG_DELAY, _SPAN_DELAY = 50.0, 100.0
"""Milliseconds until a security event is handed on, where the environment says nothing else."""

_LOG_CAPACITY = 16384
"""Log records that are held in a burst, where the environment says nothing else."""

Number = TypeVar("Number", int, float)


def configure(**settings: Any) -> None:
    """Add the Guard exporters to this process's OpenTelemetry, instrument it, and see to its end.

    For an application that sets its providers up in code: call it after that,
    once. The SDK's global providers get a processor or reader with the Guard
    exporter of their signal; one that has it already is left as it is, and
    for a signal without a provider one is made. Then answers of FastAPI and
    Starlette applications become events, secrets are masked, and what is held
    is sent when the process ends. A second call changes nothing.

    Args:
        **settings: settings of the exporters, the instrumentation and privacy, by the names of their keywords;
            what is not given comes from the environment.

    Raises:
        TypeError: there is no such setting.
        ValueError: a setting has a value that it can't have.

    Example::

        trace.set_tracer_provider(TracerProvider())  # and whatever else the application sets up
        opentelemetry_guard.configure(api_key="...", project_id="shop", trusted_proxies=["10.0.0.0/8"])

    .. versionadded:: 1.0
    """
    of_instrumentation = {*GuardOptions.settings(), *PrivacySettings.settings()}
    of_exporters = GuardConfig.settings()
    if unknown := sorted(set(settings) - of_instrumentation - set(of_exporters)):
        known = ", ".join(sorted({*of_instrumentation, *of_exporters}))
        raise TypeError(f"configure has no setting {', '.join(map(repr, unknown))}; the settings are {known}")
    exporting = {name: value for name, value in settings.items() if name in of_exporters}
    _join_logs(exporting)
    _join_spans(exporting)
    _join_metrics(exporting)
    instrumentor = GuardInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(**{name: settings[name] for name in settings if name in of_instrumentation})


def _join_logs(settings: dict[str, Any]) -> None:
    provider = get_logger_provider()
    if not isinstance(provider, LoggerProvider):
        set_logger_provider(provider := LoggerProvider())
    if find(provider, GuardLogExporter) is None:
        processor = GuardLogProcessor(
            GuardLogExporter(**settings),
            schedule_delay_millis=_unless(OTEL_BLRP_SCHEDULE_DELAY, _LOG_DELAY),
            max_queue_size=_unless(OTEL_BLRP_MAX_QUEUE_SIZE, _LOG_CAPACITY),
        )
        provider.add_log_record_processor(processor)


def _join_spans(settings: dict[str, Any]) -> None:
    provider = get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        set_tracer_provider(provider := TracerProvider())
    if find(provider, GuardSpanExporter) is None:
        delay = _unless(OTEL_BSP_SCHEDULE_DELAY, _SPAN_DELAY)
        provider.add_span_processor(BatchSpanProcessor(GuardSpanExporter(**settings), schedule_delay_millis=delay))


def _join_metrics(settings: dict[str, Any]) -> None:
    provider = get_meter_provider()
    if isinstance(provider, MeterProvider) and find(provider, GuardMetricExporter) is not None:
        return
    reader = PeriodicExportingMetricReader(GuardMetricExporter(**settings))
    if not isinstance(provider, MeterProvider):
        set_meter_provider(MeterProvider([reader]))
        return
    provider.add_metric_reader(reader)
    # The provider flushes and shuts down the readers that it was made with, and no other.
    process_end.on_flush(partial(_flush, reader))
    process_end.on_end(reader.shutdown)


def _flush(reader: PeriodicExportingMetricReader, seconds: float) -> bool:
    return reader.force_flush(max(1, int(seconds * 1000)))


def _unless(variable: str, default: Number) -> Number | None:
    """Return a default, or None where a variable of the SDK's says what it is to be."""
    return None if os.environ.get(variable, "").strip() else default
