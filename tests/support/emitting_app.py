"""An application in a process of its own: it emits events as it is told on standard input, and ends as it is told."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
WATCHDOG = 60.0


class EmittingApp:
    """The test's end of such a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def tell(self, command: str) -> str:
        """Give a command and return the answer, which comes when it is carried out."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self, number: signal.Signals | None = None) -> int:
        """End the process by a signal, or by the end of its input; return its exit code."""
        if number is not None:
            self.process.send_signal(number)
            return self.process.wait(WATCHDOG)
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(WATCHDOG)


@contextmanager
def emitting_app(environment: Mapping[str, str], *arguments: str) -> Iterator[EmittingApp]:
    """Start one; `arguments` are ``simple`` (persist on emit, else batches) and ``polite`` (handle SIGTERM)."""
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    watchdog = threading.Timer(WATCHDOG, process.kill)
    watchdog.start()
    try:
        yield EmittingApp(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _commands() -> Iterator[str]:
    """Yield the lines of standard input.

    Python handles a signal that comes right before a blocking read when the read returns, so none blocks for long.
    """
    while True:
        if select.select([sys.stdin], [], [], 0.2)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            yield line


def main(arguments: list[str]) -> None:
    """Set the providers up, as an application does, and do what standard input says."""
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, GuardSpanExporter, emit_event, record_metric
    from opentelemetry_guard.process import signals as termination

    spans, logs = TracerProvider(), LoggerProvider()
    spans.add_span_processor(BatchSpanProcessor(GuardSpanExporter()))
    # Nothing but an end of the process sends what is in a batch.
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(GuardLogExporter())
        if "simple" in arguments
        else BatchLogRecordProcessor(GuardLogExporter(), schedule_delay_millis=3_600_000)
    )
    reader = PeriodicExportingMetricReader(GuardMetricExporter(), export_interval_millis=3_600_000)
    trace.set_tracer_provider(spans)
    _logs.set_logger_provider(logs)
    meters = MeterProvider([reader])
    metrics.set_meter_provider(meters)
    if "polite" in arguments:
        assert termination.install()

    def emit(prefix: str, count: str) -> None:
        for number in range(int(count)):
            emit_event(event_type="ip_blocked", reason=f"{prefix}{number}")
        record_metric(metric_type="request_count", value=float(count), endpoint=f"/{prefix}")

    def emit_and_shut_down(prefix: str, count: str) -> None:
        emit(prefix, count)
        # A child of multiprocessing runs no atexit handlers.
        for provider in (logs, meters, spans):
            provider.shutdown()

    for line in _commands():
        command, *rest = line.split()
        if command == "emit":
            emit(*rest)
        elif command == "flush":
            logs.force_flush()
        elif command == "fork":
            if os.fork() == 0:
                emit(*rest)
                sys.exit(0)  # through atexit, as a worker of a pre-forking server ends
            os.wait()
        elif command == "multiprocessing":
            child = multiprocessing.get_context("fork").Process(target=emit_and_shut_down, args=rest)
            child.start()
            child.join()
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
