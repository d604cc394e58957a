"""Whether 5,000 events a second are all stored and sent: ``python -m benchmarks.steady [seconds]``.

A batch processor with the SDK's default bounds, and a backend in a process of
its own that accepts everything. Four runs: the default store (an SQLite file)
and memory, each with a main thread that sleeps between its bursts of events
and with one that computes. What the SDK's queue of 2,048 records had no room
for counts as lost.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from opentelemetry_guard import Emitter
from opentelemetry_guard.exporters.log import GuardLogExporter

EVENTS_PER_SECOND = 5_000
SECONDS = 10.0
BURST_SECONDS = 0.005
ACCEPTING = """
import http.server
class Accept(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"status": "ok", "processed": 1, "failed": 0}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Accept)
print(server.server_port, flush=True)
server.serve_forever()
"""


def compute(seconds: float) -> None:
    """Compute for so long without a pause, as an application does that is busy: nobody gets the interpreter unasked."""
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        sum(range(100))


def emit(emitter: Emitter, seconds: float, pause: Callable[[float], object]) -> tuple[int, float]:
    """Emit at the rate for so long, with a pause after each burst; return how many, and how late it was."""
    began = time.perf_counter()
    emitted = 0
    while (passed := time.perf_counter() - began) < seconds:
        while emitted < passed * EVENTS_PER_SECOND:
            emitter.emit_event(
                event_type="rate_limited",
                ip_address=f"203.0.113.{emitted % 250}",
                action_taken="request_blocked",
                reason="120 requests in 60 s, 100 are allowed",
                endpoint="/items/{number}",
                method="GET",
                status_code=429,
            )
            emitted += 1
        pause(BURST_SECONDS)
    return emitted, time.perf_counter() - began - seconds


def measure(port: int, queue_url: str, seconds: float, pause: Callable[[float], object]) -> None:
    """Run once, and print where the events are."""
    exporter = GuardLogExporter(
        endpoint=f"http://127.0.0.1:{port}",
        api_key="steady-key-0123456789",
        project_id="bench",
        queue_url=queue_url,
    )
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    emitter = Emitter(provider, TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False))
    cpu = time.process_time()
    emitted, late = emit(emitter, seconds, pause)
    cpu = time.process_time() - cpu
    provider.force_flush()
    delivery = exporter.delivery
    assert delivery is not None
    ledger = delivery.stats().ledger["events"]
    print(
        f"{queue_url.partition(':')[0]}, {pause.__name__}: emitted {emitted}, lost {emitted - ledger.accepted}, "
        f"delivered {ledger.delivered}, CPU {cpu:.1f} s of {seconds:.0f} s, {late:.2f} s late"
    )
    provider.shutdown()


def main() -> None:
    """Start a backend and measure."""
    logging.basicConfig()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    backend = subprocess.Popen([sys.executable, "-c", ACCEPTING], stdout=subprocess.PIPE, text=True)
    try:
        assert backend.stdout is not None
        port = int(backend.stdout.readline())
        with tempfile.TemporaryDirectory(prefix="guard-steady-") as directory:
            for pause, scheme in product((time.sleep, compute), ("memory", "sqlite")):
                file = Path(directory, pause.__name__, "guard.db") if scheme == "sqlite" else ""
                measure(port, f"{scheme}://{file}", seconds, pause)
    finally:
        backend.kill()
        backend.wait()


if __name__ == "__main__":
    main()
