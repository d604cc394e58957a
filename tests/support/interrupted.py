"""A script that emits in the midst of its own telemetry: ``interrupted.py INTERRUPTED BY PROCESSOR``.

It prints what was emitted and what was dropped, as the process counts it, and
ends in the ordinary way. A deadlock is the test's to notice.
"""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
from collections.abc import Callable

from opentelemetry import _logs, metrics
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, emit_event, record_metric
from opentelemetry_guard.events.tally import TALLY
from opentelemetry_guard.process import end as process_end

INTERRUPTIONS = 60
MILLISECONDS = 3_600_000


def interrupt(count: list[int]) -> None:
    """Do what a handler does, in the midst of anything."""
    if count[0] < INTERRUPTIONS:
        count[0] += 1
        emit_event(event_type="ip_blocked", reason="inner")
        record_metric(metric_type="request_count", value=1.0, endpoint="/inner")


def by_signal(count: list[int]) -> None:
    """Interrupt from a timer's signal."""
    signal.signal(signal.SIGALRM, lambda *_: interrupt(count))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)


def by_collection(count: list[int]) -> None:
    """Interrupt from the garbage collector, which now runs at nearly every allocation."""
    gc.callbacks.append(lambda phase, info: interrupt(count) if phase == "start" else None)
    gc.set_threshold(3)


def by_log_handler(count: list[int]) -> None:
    """Interrupt from a handler of log records, which is called in the midst of what logs."""

    class Emitting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            interrupt(count)

    logging.getLogger().addHandler(Emitting())


def works() -> dict[str, Callable[[], object]]:
    """Return what may be interrupted, by name."""
    logger = _logs.get_logger("the.application")
    counter = metrics.get_meter("the.application").create_counter("orders")
    log = logging.getLogger("the.application")

    class Talkative:
        def __str__(self) -> str:
            log.warning("somebody reads me")
            return "me"

    return {
        "emit_event": lambda: emit_event(event_type="ip_blocked", reason="outer"),
        "record_metric": lambda: record_metric(metric_type="request_count", value=1.0, endpoint="/outer"),
        "logger": lambda: logger.emit(body="an order", attributes={"number": 7}),
        "counter": lambda: counter.add(1, {"number": 7}),
        "tally": TALLY.read,
        "logging": lambda: emit_event(event_type="ip_blocked", reason="outer", metadata={"name": Talkative()}),
    }


def main(interrupted: str, by: str, processor: str) -> None:
    """Work until there were interruptions enough."""
    logs = LoggerProvider()
    exporter = GuardLogExporter()
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(exporter)
        if processor == "simple"
        else BatchLogRecordProcessor(exporter, schedule_delay_millis=MILLISECONDS, max_queue_size=200_000)
    )
    _logs.set_logger_provider(logs)
    reader = PeriodicExportingMetricReader(GuardMetricExporter(), export_interval_millis=MILLISECONDS)
    metrics.set_meter_provider(MeterProvider([reader]))
    work = works()[interrupted]
    count = [0]
    {"signal": by_signal, "collection": by_collection, "log": by_log_handler}[by](count)
    turns = 0
    while count[0] < INTERRUPTIONS:
        work()
        turns += 1
    gc.callbacks.clear()
    gc.set_threshold(700)
    signal.setitimer(signal.ITIMER_REAL, 0)
    process_end.flush(30.0)
    tally = TALLY.read()
    print(json.dumps({"turns": turns, "emitted": tally.emitted, "dropped": tally.dropped}))


if __name__ == "__main__":
    main(*sys.argv[1:])
