"""A real application under load: three providers with the Guard exporters, events at a steady pace.

``python -m faults.emitter '{"rate": 500, "seconds": 60, ...}'`` (see `Plan`);
the destination comes from the environment, as it does for every application.
It prints one JSON document a line and takes one order a line on standard
input: ``stats``, ``drain <seconds>``, ``finish``. SIGTERM ends it politely.

Every export that succeeded is appended to a journal before anybody else
learns of it, so that after a SIGKILL the journal tells what was accepted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, GuardSpanExporter, emit_event, record_metric
from opentelemetry_guard.events.tally import TALLY
from opentelemetry_guard.instrumentation import GuardInstrumentor
from opentelemetry_guard.queue.base import Ledger
from opentelemetry_guard.semconv import LOG_RECORD_UID


@dataclass(frozen=True)
class Plan:
    """What to emit: `rate` events a second for `seconds`, as worker number `worker`, every `poison_every`-th a bad one.

    `journal` is the file of accepted keys; `delay` the processors' schedule in milliseconds.
    """

    journal: str
    rate: float = 100.0
    seconds: float = 1.0
    worker: int = 0
    poison_every: int = 0
    delay: int = 200


def key_of(worker: int, serial: int) -> str:
    """Return the idempotency key of a worker's event: a UUID that can be read."""
    return f"{worker:08x}-0000-4000-8000-{serial:012x}"


class JournalingLogExporter(GuardLogExporter):
    """Writes down the keys that `export` accepted, and how long it took."""

    def __init__(self, journal: str) -> None:
        super().__init__()
        self._file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        began = time.monotonic()
        result = super().export(batch)
        seconds = time.monotonic() - began
        if result is LogRecordExportResult.SUCCESS:
            told = [record.log_record.attributes or {} for record in batch]
            keys = [str(attributes[LOG_RECORD_UID]) for attributes in told if LOG_RECORD_UID in attributes]
            os.write(self._file, json.dumps({"keys": keys, "seconds": seconds}).encode() + b"\n")
        return result

    def stats(self) -> dict[str, Any]:
        delivery = self._connection.delivery
        assert delivery is not None
        stats = delivery.stats()
        return {
            "ledger": {kind: _ledger(ledger) for kind, ledger in stats.ledger.items()},
            "routes": {
                kind: {"breaker": route.breaker.value, "rate": route.rate, "last_error": route.last_error}
                for kind, route in stats.routes.items()
            },
            "emitted": dict(TALLY.read().emitted),
            "tally_dropped": TALLY.read().dropped,
        }

    def dead_letters(self) -> list[dict[str, Any]]:
        delivery = self._connection.delivery
        assert delivery is not None
        return [
            {
                "batch_id": letter.batch.batch_id,
                "rows": letter.batch.rows,
                "status": letter.status,
                "reason": letter.reason,
                "keys": [row.get("idempotency_key") for row in delivery._encoder.rows(letter.batch)],
            }
            for letter in delivery.queue.dead_letters(100_000)
        ]

    def drained(self) -> bool:
        delivery = self._connection.delivery
        assert delivery is not None
        return delivery.stats().drained


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {**asdict(ledger), "balanced": ledger.balanced}


def _say(**document: object) -> None:
    print(json.dumps(document), flush=True)


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    return {
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        "max": ordered[-1],
    }


def _emit(plan: Plan) -> None:
    """Emit at the pace of a monotonic schedule; an event that is late is emitted at once."""
    tracer = trace.get_tracer("faults.emitter")
    durations: list[float] = []
    behind = 0.0
    began = time.monotonic()
    for serial in range(int(plan.rate * plan.seconds)):
        due = began + serial / plan.rate
        ahead = due - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        else:
            behind = max(behind, -ahead)
        metadata: dict[str, object] = {"serial": serial, "worker": plan.worker, "emitted": time.time()}
        if plan.poison_every and serial % plan.poison_every == plan.poison_every // 2:
            metadata["poison"] = True
        at = time.monotonic()
        # Every tenth in a span, so that all three signals are at work.
        with tracer.start_as_current_span("request") if serial % 10 == 0 else trace.use_span(trace.INVALID_SPAN):
            emit_event(
                idempotency_key=key_of(plan.worker, serial),
                event_type="rate_limited",
                ip_address="192.0.2.7",
                action_taken="request_blocked",
                reason=f"limit exceeded, request {serial}",
                endpoint="/api/orders",
                method="GET",
                status_code=429,
                user_agent="Mozilla/5.0 (X11; Linux x86_64)",
                metadata=metadata,
            )
        record_metric(metric_type="request_count", value=1, endpoint="/api/orders")
        durations.append(time.monotonic() - at)
    _say(emitted=len(durations), emit_seconds=_percentiles(durations), behind=behind)


def main(plan: Plan) -> None:
    """Set up telemetry, emit, and take orders until told to finish."""
    exporter = JournalingLogExporter(plan.journal)
    loggers = LoggerProvider()
    loggers.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=plan.delay))
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(GuardSpanExporter(), schedule_delay_millis=plan.delay))
    reader = PeriodicExportingMetricReader(GuardMetricExporter(), export_interval_millis=5 * plan.delay)
    meters = MeterProvider([reader])
    set_logger_provider(loggers)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    GuardInstrumentor().instrument()
    _say(started=time.time(), pid=os.getpid())
    _emit(plan)
    loggers.force_flush()
    _say(exported=True)
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order == "stats":
            _say(**exporter.stats())
        elif order == "letters":
            _say(letters=exporter.dead_letters())
        elif order == "drain":
            deadline = time.monotonic() + float(argument)
            while not (drained := exporter.drained()) and time.monotonic() < deadline:
                time.sleep(0.05)
            _say(drained=drained, **exporter.stats())
        elif order == "finish":
            break
    for provider in (loggers, meters, tracers):
        provider.shutdown()
    _say(finished=True)


if __name__ == "__main__":
    main(Plan(**json.loads(sys.argv[1])))
