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
import queue
import struct
import sys
import threading
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

_HTTP = "opentelemetry.exporter.otlp.proto.http"
_PLAIN = (
    f"{_HTTP}.trace_exporter:OTLPSpanExporter",
    f"{_HTTP}._log_exporter:OTLPLogExporter",
    f"{_HTTP}.metric_exporter:OTLPMetricExporter",
)
_DURABLE = ("DurableSpanExporter", "DurableLogExporter", "DurableMetricExporter")
_AZURE = ("AzureMonitorTraceExporter", "AzureMonitorLogExporter", "AzureMonitorMetricExporter")
EXPORTERS = {
    "durable": tuple(f"opentelemetry_guard.durable:{name}" for name in _DURABLE),
    "plain": _PLAIN,
    "logfire": _PLAIN,
    "azure": tuple(f"azure.monitor.opentelemetry.exporter:{name}" for name in _AZURE),
}
"""Exporters of spans, log records and metrics. Logfire's are OpenTelemetry's, over a session that keeps what failed."""


def arguments(exporters: str) -> dict[str, Any]:
    """Return what the exporters are made with, beside the environment."""
    if exporters == "logfire":
        return {"session": load("logfire._internal.exporters.otlp:OTLPExporterHttpSession")()}
    if exporters == "azure":
        endpoint = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
        key = "InstrumentationKey=00000000-0000-4000-8000-000000000001"
        return {"connection_string": f"{key};IngestionEndpoint={endpoint}/", "storage_directory": os.environ["STORE"]}
    return {}


@dataclass(frozen=True)
class Plan:
    """What to emit: numbers from `first` on, `rate` a second for `seconds`: 7 of 10 spans, 2 log records, 1 point.

    `journal` is the file of numbers that were accepted, `delay` the processors' schedule in milliseconds,
    `exporters` says whose are used.
    """

    journal: str
    first: int = 0
    rate: float = 1000.0
    seconds: float = 10.0
    delay: int = 500
    exporters: str = "durable"


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


def journaled(base: Any, given: dict[str, Any], journal: Journal, number: Callable[[Any], int]) -> Any:
    """Return an exporter that notes what it was given."""

    class Journaled(base):  # type: ignore[misc]
        def export(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
            return journal.export([number(item) for item in batch], lambda: super(Journaled, self).export(batch))

    return Journaled(**given)


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
    collected: queue.Queue[list[int] | None] = queue.Queue()

    def read() -> None:
        # As a metric reader does: on a thread of its own.
        while (found := collected.get()) is not None:
            journal.export(found, partial(metric_exporter.export, points(found)))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
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
            collected.put(waiting)
            waiting = []
    if waiting:
        collected.put(waiting)
    collected.put(None)
    reader.join()


def main(plan: Plan) -> None:
    """Set up telemetry, emit, and take orders until told to finish."""
    journal = Journal(plan.journal)
    spans, logs, metrics = map(load, EXPORTERS[plan.exporters])
    given = arguments(plan.exporters)
    tracers, loggers, metric_exporter = TracerProvider(), LoggerProvider(), metrics(**given)
    span_exporter = journaled(spans, given, journal, lambda span: span.attributes["n"])
    log_exporter = journaled(logs, given, journal, lambda record: record.log_record.attributes["n"])
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
