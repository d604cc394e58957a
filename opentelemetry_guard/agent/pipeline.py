"""What the agent joins at its start: the application's pipelines where there are any, its own where there are none.

No global provider is ever set or replaced. The application's providers get
our processors, once; where an exporter of ours is in a pipeline already,
nothing is added to it. Metrics have a provider of their own, since a reader
that is added to somebody else's is not flushed by it.
"""

from __future__ import annotations

import time
from functools import cache

from opentelemetry._logs import get_logger_provider
from opentelemetry.metrics import NoOpMeterProvider, get_meter_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_tracer_provider

from ..delivery.delivery import Delivery
from ..emit import Emitter
from ..exporters import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
from ..settings.agent import AgentConfig
from .bounds import export_interval
from .found import find, ways_to
from .processors import EventProcessor, SpanEventProcessor, Tap


class Pipeline:
    """The way of the agent's events and metrics into OpenTelemetry, and what of it is the agent's to end."""

    def __init__(self, config: AgentConfig) -> None:
        """Join, or make, pipelines."""
        self._events, self._logs = _join_logs(config)
        self._spans = _join_spans(config)
        self._meters, self._own_meters = _join_metrics(config)
        self._exporter = find(self._logs, GuardLogExporter)
        self._ended = False
        self.emitter = Emitter(logger_provider=self._logs, meter_provider=self._meters)

    @property
    def delivery(self) -> Delivery | None:
        """The delivery that the events go to; None while Guard export is off."""
        return None if self._exporter is None else self._exporter.delivery

    def tap(self, tap: Tap) -> bool:
        """Show `tap` the events that are written ahead; return False where the processor is not ours."""
        if self._events is None:
            return False
        self._events.tap(tap)
        return True

    @property
    def takes_metrics(self) -> bool:
        """Whether there is a reader that exports what is recorded."""
        return not (self._ended and self._own_meters)

    def full(self) -> bool:
        """Whether the next event costs one that is not written ahead yet."""
        return self._events is not None and self._events.full()

    @property
    def waiting(self) -> int:
        """How many events wait in our processor to be written ahead."""
        return 0 if self._events is None else self._events.waiting

    def write_ahead(self) -> None:
        """Hand the events that wait in our processor to the delivery; it does not wait for the network."""
        if self._events is not None:
            self._events.force_flush()

    def flush(self, timeout: float) -> bool:
        """Deliver what can be delivered within `timeout` seconds; return whether nothing is left."""
        deadline = time.monotonic() + timeout
        self._write_ahead_all()
        for reader in ways_to(self._meters, GuardMetricExporter):
            reader.force_flush(max(1, int((deadline - time.monotonic()) * 1000)))
        delivery = self.delivery
        return delivery is None or delivery.flush(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Deliver what can be delivered within the shutdown timeout, and end what is ours."""
        self._ended = True
        if self._own_meters:
            # What is sent from now on is counted nowhere: a provider that was shut down gives no instrument any more.
            self.emitter = Emitter(logger_provider=self._logs, meter_provider=NoOpMeterProvider())
        self._write_ahead_all()
        for part in (self._events, self._meters if self._own_meters else None, self._spans):
            if part is not None:
                part.shutdown()

    def _write_ahead_all(self) -> None:
        # Ours is one of them, unless the application has processors of its own that lead to our exporter.
        for processor in ways_to(self._logs, GuardLogExporter):
            processor.force_flush()
        if self._spans is not None:
            self._spans.force_flush()


def _join_logs(config: AgentConfig) -> tuple[EventProcessor | None, LoggerProvider]:
    provider = get_logger_provider()
    if not isinstance(provider, LoggerProvider):
        provider = _private_logs()
    ours = find(provider, EventProcessor)
    if ours is None:
        if find(provider, GuardLogExporter) is not None:
            return None, provider
        ours = EventProcessor()
        ours.begin(config)
        provider.add_log_record_processor(ours)
    elif not ours.running:
        ours.begin(config)
    return ours, provider


@cache
def _private_logs() -> LoggerProvider:
    """Return the one provider that agents of this process share where the application has none."""
    return LoggerProvider()


def _join_spans(config: AgentConfig) -> SpanEventProcessor | None:
    """Join the application's spans; a provider of our own would get none, since every event goes into a log record."""
    provider = get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return None
    ours = find(provider, SpanEventProcessor)
    if ours is None:
        if find(provider, GuardSpanExporter) is not None:
            return None
        ours = SpanEventProcessor()
        ours.begin(config)
        provider.add_span_processor(ours)
    elif not ours.running:
        ours.begin(config)
    return ours


def _join_metrics(config: AgentConfig) -> tuple[MeterProvider, bool]:
    """Return the provider to record with, and whether it is the agent's own."""
    provider = get_meter_provider()
    if isinstance(provider, MeterProvider) and find(provider, GuardMetricExporter) is not None:
        return provider, False
    reader = PeriodicExportingMetricReader(GuardMetricExporter(), export_interval_millis=export_interval(config))
    return MeterProvider([reader]), True
