"""What the agent joins at its start: the application's pipelines where there are any, its own where there are none.

No global provider is ever set or replaced. The application's providers get
our processors, once; where an exporter of ours is in a pipeline already,
nothing is added to it. Metrics have a provider of their own, since a reader
that is added to somebody else's is not flushed by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

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
from ..exporters.lookup import find, ways_to
from ..settings.agent import AgentConfig
from .processors import EventProcessor, SpanEventProcessor, export_interval

P = TypeVar("P", EventProcessor, SpanEventProcessor)


class Pipeline:
    """The way of the agent's events and metrics into OpenTelemetry, and what of it is the agent's to end."""

    def __init__(self, config: AgentConfig) -> None:
        """Join, or make, pipelines."""
        logs, spans, meters = get_logger_provider(), get_tracer_provider(), get_meter_provider()
        self._logs = logs if isinstance(logs, LoggerProvider) else _private_logs()
        self._events = _join(self._logs, config, EventProcessor, GuardLogExporter, self._logs.add_log_record_processor)
        # A provider of our own would get no spans, since every event goes into a log record.
        self._spans = (
            _join(spans, config, SpanEventProcessor, GuardSpanExporter, spans.add_span_processor)
            if isinstance(spans, TracerProvider)
            else None
        )
        self._own_meters: MeterProvider | None = None
        if not isinstance(meters, MeterProvider) or find(meters, GuardMetricExporter) is None:
            interval = export_interval(config)
            reader = PeriodicExportingMetricReader(GuardMetricExporter(), export_interval_millis=interval)
            meters = self._own_meters = MeterProvider([reader], shutdown_on_exit=False)
        self._meters = meters
        self._exporter = find(self._logs, GuardLogExporter)
        self._ended = False
        self.emitter = Emitter(logger_provider=self._logs, meter_provider=self._meters)

    @property
    def delivery(self) -> Delivery | None:
        """The delivery that the events go to; None while Guard export is off."""
        return None if self._exporter is None else self._exporter.delivery

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

    def flush(self, timeout: float) -> None:
        """Deliver what can be delivered within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self._write_ahead_all()
        for reader in ways_to(self._meters, GuardMetricExporter):
            reader.force_flush(max(1, int((deadline - time.monotonic()) * 1000)))
        if self.delivery is not None:
            self.delivery.flush(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Deliver what can be delivered within the shutdown timeout, and end what is ours."""
        self._ended = True
        if self._own_meters:
            # What is sent from now on is counted nowhere: a provider that was shut down gives no instrument any more.
            self.emitter = Emitter(logger_provider=self._logs, meter_provider=NoOpMeterProvider())
        self._write_ahead_all()
        for part in (self._events, self._own_meters, self._spans):
            if part is not None:
                part.shutdown()

    def _write_ahead_all(self) -> None:
        # Ours is one of them, unless the application has processors of its own that lead to our exporter.
        for processor in ways_to(self._logs, GuardLogExporter):
            processor.force_flush()
        if self._spans is not None:
            self._spans.force_flush()


def _join(
    provider: object, config: AgentConfig, kind: type[P], exporter: type[object], add: Callable[[P], object]
) -> P | None:
    """Return our processor in a provider, which is added where neither it nor our exporter is there already."""
    known = find(provider, kind)
    if known is None and find(provider, exporter) is not None:
        return None
    ours = kind() if known is None else known
    if not ours.running:
        ours.begin(config)
    if known is None:
        add(ours)
    return ours


@cache
def _private_logs() -> LoggerProvider:
    """Return the one provider that agents of this process share where the application has none."""
    return LoggerProvider()
