"""An application with the durable exporters: ``durable_app.py '{"count": 10, "then": "wait"}'`` (see `main`).

Endpoint, queue and the rest come from the environment. What is emitted is numbered.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from opentelemetry_guard.durable import DurableSpanExporter
from opentelemetry_guard.process import signals

NEVER = 3_600_000
"""Milliseconds: nothing is exported before somebody asks."""


def emit(numbers: range) -> None:
    """Emit spans on the global provider."""
    tracer = trace.get_tracer("app")
    for number in numbers:
        with tracer.start_as_current_span("work", attributes={"n": number}):
            pass


def main(count: int, first: int = 0, flush: bool = True, then: str = "exit") -> None:
    """Emit `count` spans from `first` on, export them with `flush`, and `then` end, wait, or fork."""
    logging.basicConfig(level=logging.INFO)
    exporter = DurableSpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=NEVER, max_queue_size=8192))
    trace.set_tracer_provider(provider)
    signals.install()
    emit(range(first, first + count))
    if flush:
        provider.force_flush()
    if then == "fork":
        child = os.fork()
        emit(range(first + count * (2 if child else 1), first + count * (3 if child else 2)))
        if child:
            os.waitpid(child, 0)
        provider.shutdown()
        if not child:
            os._exit(0)
        return
    print(json.dumps({"exported": count}), flush=True)
    if then == "wait":
        while True:
            time.sleep(60)
    provider.shutdown()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
