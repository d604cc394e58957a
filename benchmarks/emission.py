"""What one event and one metric cost the request that emits them."""

from __future__ import annotations

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from opentelemetry_guard import Emitter, SecurityEvent
from opentelemetry_guard.events.codec import to_row

from .timing import compare, show

CALLS = 2_000
FIELDS = {
    "event_type": "access_denied",
    "ip_address": "203.0.113.7",
    "action_taken": "blocked",
    "reason": "blocked address",
    "endpoint": "/items/{number}",
    "method": "GET",
    "status_code": 403,
    "metadata": {"rule": "addresses", "score": 7},
}


def main() -> None:
    """Print the cost of emission beside the SDK's own cost of the same record."""
    event = SecurityEvent.model_validate(FIELDS)
    row, _ = to_row(event)
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(InMemoryLogRecordExporter(), max_queue_size=CALLS * 10))
    logger = logs.get_logger("benchmark")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmark")
    emitter = Emitter(logs, None, MeterProvider(shutdown_on_exit=False))

    def log_record() -> None:
        logger.emit(
            timestamp=1, severity_number=SeverityNumber.WARN, event_name="e", body=row, attributes={"a": "1", "b": "2"}
        )

    figures = compare(
        {
            "the SDK's own log record, same body": log_record,
            "emit_event(SecurityEvent), log only": lambda: emitter.emit_event(event),
            "emit_event(**fields), log only": lambda: emitter.emit_event(**FIELDS),
            "of it: event to row": lambda: to_row(event),
            "record_metric": lambda: emitter.record_metric(metric_type="response_time", value=0.1, endpoint="/a"),
        },
        calls=CALLS,
    )
    with tracer.start_as_current_span("request"):
        figures |= compare({"emit_event(SecurityEvent), log and span": lambda: emitter.emit_event(event)}, calls=CALLS)
    show("emission, one call", figures)
    logs.shutdown()


if __name__ == "__main__":
    main()
