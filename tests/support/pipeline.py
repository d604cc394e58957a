"""OpenTelemetry pipelines of a test's own: private providers that export at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import LogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Tracer

from opentelemetry_guard import Emitter


@dataclass(frozen=True)
class Pipeline:
    """An emitter and the providers that it emits into."""

    emitter: Emitter
    logs: LoggerProvider
    spans: TracerProvider
    meters: MeterProvider

    @property
    def tracer(self) -> Tracer:
        """A tracer of the application's."""
        return self.spans.get_tracer("the.application")


@contextmanager
def pipeline(
    *,
    logs: Sequence[LogRecordExporter] = (),
    spans: Sequence[SpanExporter] = (),
    readers: Sequence[MetricReader] = (),
    views: Sequence[View] = (),
    sampler: Sampler | None = None,
    span_limits: SpanLimits | None = None,
    log_limits: LogRecordLimits | None = None,
) -> Iterator[Pipeline]:
    """Build the three providers over the given exporters, and shut them down with the block."""
    loggers = LoggerProvider(shutdown_on_exit=False, log_record_limits=log_limits)
    tracers = TracerProvider(sampler=sampler, span_limits=span_limits, shutdown_on_exit=False)
    meters = MeterProvider(readers, views=views, shutdown_on_exit=False)
    for exporter in logs:
        loggers.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for span_exporter in spans:
        tracers.add_span_processor(SimpleSpanProcessor(span_exporter))
    try:
        yield Pipeline(Emitter(loggers, tracers, meters), loggers, tracers, meters)
    finally:
        loggers.shutdown()
        meters.shutdown()
        tracers.shutdown()
