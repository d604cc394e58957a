"""What durable delivery costs: CPU per span against OpenTelemetry's own OTLP exporter, batches of 512, all threads.

The receiver is a process of its own. Both encode with the same encoder and send every batch; the durable one writes it
to SQLite before, and takes it out after.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from support.otlp_receiver import otlp_receiver

from opentelemetry_guard.durable import DurableSpanExporter

BATCH = 512
BATCHES = 8
ROUNDS = 15


def main() -> None:
    """Print microseconds of CPU per span, medians of rounds in turn."""
    spans = _spans(BATCH)
    with otlp_receiver() as receiver, tempfile.TemporaryDirectory() as directory:
        endpoint = f"{receiver.url}/v1/traces"
        plain = OTLPSpanExporter(endpoint=endpoint)
        exporters = {
            "memory://": DurableSpanExporter(endpoint=endpoint, queue_url="memory://", tenant="memory"),
            "sqlite://": DurableSpanExporter(endpoint=endpoint, queue_url=f"sqlite://{directory}/queue/otlp.db"),
        }
        candidates: dict[str, Callable[[Sequence[ReadableSpan]], object]] = {"OTLPSpanExporter": plain.export}
        candidates |= {f"DurableSpanExporter, {name}": exporter.export for name, exporter in exporters.items()}
        found: dict[str, list[float]] = {name: [] for name in candidates}
        slowest: dict[str, float] = dict.fromkeys(candidates, 0.0)
        for turn in range(ROUNDS + 2):
            for name, export in candidates.items():
                began = time.process_time()
                for _ in range(BATCHES):
                    called = time.perf_counter()
                    export(spans)
                    slowest[name] = max(slowest[name], time.perf_counter() - called)
                for exporter in exporters.values():
                    while not exporter.force_flush(10_000):
                        pass
                if turn >= 2:
                    found[name].append((time.process_time() - began) / BATCHES / BATCH)
            receiver.forget()
        print(f"CPU per span, batches of {BATCH}, and the longest export()")
        first = statistics.median(found["OTLPSpanExporter"])
        for name, seconds in found.items():
            median = statistics.median(seconds)
            print(
                f"  {name:<34}{median * 1e6:>8.1f} us{median / first:>7.2f} x{(median - first) * 1e6:>+8.1f} us"
                f"{slowest[name] * 1e3:>8.0f} ms"
            )
        for exporter in (plain, *exporters.values()):
            exporter.shutdown()


def _spans(number: int) -> list[ReadableSpan]:
    """Return spans as an instrumented web application makes them."""
    tracer = TracerProvider().get_tracer("benchmarks")
    found = []
    for serial in range(number):
        span = tracer.start_span(
            "GET /orders/{id}",
            attributes={
                "n": serial,
                "http.request.method": "GET",
                "http.route": "/orders/{id}",
                "http.response.status_code": 200,
                "url.path": f"/orders/{serial}",
                "server.address": "shop.example.com",
                "client.address": "192.0.2.7",
                "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64)",
            },
        )
        span.end()
        assert isinstance(span, ReadableSpan)
        found.append(span)
    return found


if __name__ == "__main__":
    main()
