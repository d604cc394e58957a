"""Everything that is emitted arrives at a real backend, once."""

from __future__ import annotations

from collections import Counter

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from support.backend import running_backend

from opentelemetry_guard import Emitter, GuardLogExporter, GuardMetricExporter, GuardSpanExporter

EVENTS = 10_000
PACE = 1_000
"""Events between two flushes: less than the 2,048 records that the SDK's processors hold."""


def test_ten_thousand_events_with_all_three_exporters_arrive_exactly_once_and_metric_sums_match() -> None:
    with running_backend() as backend:
        settings: dict[str, object] = {
            "endpoint": backend.url,
            "api_key": backend.api_key,
            "project_id": backend.project,
        }
        log_exporter = GuardLogExporter(**settings)
        logs = LoggerProvider(shutdown_on_exit=False)
        logs.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(BatchSpanProcessor(GuardSpanExporter(**settings)))
        metrics = MeterProvider(
            [PeriodicExportingMetricReader(GuardMetricExporter(**settings))], shutdown_on_exit=False
        )
        emitter = Emitter(logs, traces, metrics)
        tracer = traces.get_tracer("test")

        for number in range(EVENTS):
            with tracer.start_as_current_span("request"):
                emitter.emit_event(event_type="access_denied", ip_address="203.0.113.7", metadata={"number": number})
                emitter.record_metric(metric_type="request_count", value=1, endpoint="/items")
                emitter.record_metric(metric_type="response_time", value=number / EVENTS, endpoint="/items")
            if number % PACE == PACE - 1:
                assert logs.force_flush()
                assert traces.force_flush()
                assert metrics.force_flush()
        for provider in (logs, metrics, traces):
            provider.shutdown()

        assert log_exporter.delivery is not None
        ledger = log_exporter.delivery.stats().ledger
        stored = backend.wait_for_events(EVENTS)
        rows = backend.metrics()

    assert Counter(event["metadata"]["number"] for event in stored) == Counter(range(EVENTS))
    assert all(len(event["metadata"]["trace_id"]) == 32 for event in stored)
    assert (ledger["events"].accepted, ledger["events"].delivered) == (EVENTS, EVENTS)
    assert ledger["metrics"].accepted == ledger["metrics"].delivered == len(rows)
    assert sum(row["value"] for row in rows if row["metric_type"] == "request_count") == EVENTS
    times = [row for row in rows if row["metric_type"] == "response_time"]
    assert sum(int(row["tags"]["count"]) for row in times) == EVENTS
    assert abs(sum(float(row["tags"]["sum"]) for row in times) - sum(n / EVENTS for n in range(EVENTS))) < 1e-6
