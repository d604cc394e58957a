"""Spans that survive an outage of their receiver, and the process that made them: no Guard backend is needed."""

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from opentelemetry_guard.durable import DurableSpanExporter

exporter = DurableSpanExporter(
    endpoint=os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces"),
    queue_url=f"sqlite://{os.path.abspath('queue')}/otlp.db",
)
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)

with trace.get_tracer("example").start_as_current_span("order"):
    print("one order was placed")
provider.shutdown()
ledger = exporter.delivery.stats().ledger["spans"] if exporter.delivery else None
print(f"spans delivered so far: {ledger.delivered}, waiting: {ledger.queued}" if ledger else "switched off", flush=True)
