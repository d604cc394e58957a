"""An application that exports spans, log records and metric points at a steady pace, and takes down what it did.

``python -m faults.otlp_emitter '{"rate": 1000, ...}'`` (see `Plan`); endpoint and queue come from the environment. It
prints one JSON document a line and takes one order a line on standard input: ``drain <seconds>``, ``finish``.

Each number whose export has succeeded is in the journal before anybody else learns of it, and how many were emitted is
in the file beside it, so that after a SIGKILL both are known.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

DURABLE = ("opentelemetry_guard.durable:DurableSpanExporter", "opentelemetry_guard.durable:DurableLogExporter")
PLAIN = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter:OTLPSpanExporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter:OTLPLogExporter",
)


@dataclass(frozen=True)
class Plan:
    """What to emit: numbers from `first` on, `rate` a second for `seconds`: 7 of 10 spans, 2 log records, 1 point.

    `journal` is the file of numbers that were accepted, `delay` the processors' schedule in milliseconds, `plain`
    says that OpenTelemetry's own exporters are used.
    """

    journal: str
    first: int = 0
    rate: float = 1000.0
    seconds: float = 10.0
    delay: int = 500
    plain: bool = False


class Journal:
    """What was accepted, and how many were emitted."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._emitted = os.open(f"{path}.emitted", os.O_RDWR | os.O_CREAT, 0o600)
        self.slowest = 0.0

    def emitted(self, count: int) -> None:
        """Note how many were emitted."""
        os.pwrite(self._emitted, struct.pack("<q", count), 0)

    def export(self, numbers: Sequence[int], export: Callable[[], Any]) -> Any:
        """Export, and note the numbers if that has succeeded."""
        began = time.monotonic()
        result = export()
        self.slowest = max(self.slowest, time.monotonic() - began)
        if result.name == "SUCCESS":
            os.write(self._file, json.dumps(list(numbers)).encode() + b"\n")
        return result


def load(name: str) -> Any:
    """Return what an entry point names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def journaled(base: Any, journal: Journal, number: Callable[[Any], int]) -> Any:
    """Return an exporter that notes what it was given."""

    class Journaled(base):  # type: ignore[misc]
        def export(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
            return journal.export([number(item) for item in batch], lambda: super(Journaled, self).export(batch))

    return Journaled()


def points(numbers: Sequence[int]) -> MetricsData:
    """Return one gauge with a point for each number."""
    now = time.time_ns()
    data = Gauge([NumberDataPoint({"n": number}, now, now, number) for number in numbers])
    scope = ScopeMetrics(InstrumentationScope("faults"), [Metric("numbers", "", "1", data)], "")
    return MetricsData([ResourceMetrics(Resource({}), [scope], "")])


def emit(plan: Plan, journal: Journal, metric_exporter: Any, tracers: TracerProvider, loggers: LoggerProvider) -> None:
    """Emit at the pace of a monotonic schedule."""
    tracer, logger = tracers.get_tracer("faults"), loggers.get_logger("faults")
    waiting: list[int] = []
    began = time.monotonic()
    for serial in range(int(plan.rate * plan.seconds)):
        ahead = began + serial / plan.rate - time.monotonic()
        if ahead > 0.005:
            time.sleep(ahead)
        number = plan.first + serial
        if number % 10 < 7:
            with tracer.start_as_current_span("work", attributes={"n": number, "http.route": "/orders/{id}"}):
                pass
        elif number % 10 < 9:
            logger.emit(LogRecord(timestamp=time.time_ns(), body="an order came in", attributes={"n": number}))
        else:
            waiting.append(number)
        journal.emitted(serial + 1)
        if len(waiting) >= 100:
            journal.export(waiting, partial(metric_exporter.export, points(waiting)))
            waiting = []
    if waiting:
        journal.export(waiting, partial(metric_exporter.export, points(waiting)))


def main(plan: Plan) -> None:
    """Set up telemetry, emit, and take orders until told to finish."""
    journal = Journal(plan.journal)
    spans, logs = PLAIN if plan.plain else DURABLE
    metrics = (
        "opentelemetry.exporter.otlp.proto.http.metric_exporter:OTLPMetricExporter"
        if plan.plain
        else "opentelemetry_guard.durable:DurableMetricExporter"
    )
    tracers, loggers, metric_exporter = TracerProvider(), LoggerProvider(), load(metrics)()
    span_exporter = journaled(load(spans), journal, lambda span: span.attributes["n"])
    log_exporter = journaled(load(logs), journal, lambda record: record.log_record.attributes["n"])
    tracers.add_span_processor(BatchSpanProcessor(span_exporter, max_queue_size=8192, schedule_delay_millis=plan.delay))
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(log_exporter, max_queue_size=8192, schedule_delay_millis=plan.delay)
    )
    print(json.dumps({"started": os.getpid()}), flush=True)
    emit(plan, journal, metric_exporter, tracers, loggers)
    tracers.force_flush()
    loggers.force_flush()
    print(json.dumps({"emitted": int(plan.rate * plan.seconds), "slowest": journal.slowest}), flush=True)
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order == "drain":
            ends = time.monotonic() + float(argument)
            while not span_exporter.force_flush(500) and time.monotonic() < ends:
                time.sleep(0.1)
            stats = span_exporter.delivery.stats()
            print(
                json.dumps({kind: {**asdict(x), "balanced": x.balanced} for kind, x in stats.ledger.items()}),
                flush=True,
            )
        elif order == "finish":
            break
    for provider in (tracers, loggers):
        provider.shutdown()
    metric_exporter.shutdown()
    print(json.dumps({"finished": True}), flush=True)


if __name__ == "__main__":
    main(Plan(**json.loads(sys.argv[1])))
