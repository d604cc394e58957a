"""What one event and one metric cost the request that emits them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from opentelemetry_guard import Emitter, SecurityEvent
from opentelemetry_guard.events.codec import as_row, encoded, to_row, whole
from opentelemetry_guard.events.sentence import sentence
from opentelemetry_guard.privacy import Privacy

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


class Dropping(LogRecordExporter):
    """Takes log records, and forgets them."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        """Do nothing."""


def main() -> None:
    """Print the cost of emission beside that of the SDK's bare record, and what of it is spent on what.

    Each is measured in a loop of its own, with warm caches; together they cost about half as much again.
    """
    event = SecurityEvent.model_validate(FIELDS)
    row, _ = to_row(event)
    clean, found = Privacy(), whole(event, {})
    assert found is not None
    given = found[0]
    made = as_row({**given}, None)[0]
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(Dropping(), max_queue_size=CALLS * 100))
    logger = logs.get_logger("benchmark")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmark")
    emitter = Emitter(logs, None, MeterProvider(shutdown_on_exit=False))

    def log_record() -> None:
        logger.emit(timestamp=1, severity_number=SeverityNumber.WARN, event_name="e", body="a record")

    figures = compare(
        {
            "the SDK's own log record, a text alone": log_record,
            "emit_event(SecurityEvent), log only": lambda: emitter.emit_event(event),
            "emit_event(**fields), log only": lambda: emitter.emit_event(**FIELDS),
            "of it: all fields, as they were given": lambda: whole(None, FIELDS),
            "of it: whether anything may be a secret": lambda: clean.judge(given),
            "of it: fields to row": lambda: as_row({**given}, None),
            "of it: row to JSON": lambda: encoded(made),
            "of it: the sentence": lambda: sentence(made),
            "spared by it: event to row, thoroughly": lambda: to_row(event),
            "spared by it: cleaning a row": lambda: clean.event(row),
            "record_metric": lambda: emitter.record_metric(metric_type="response_time", value=0.1, endpoint="/a"),
        },
        calls=CALLS,
        clock=time.thread_time,
    )
    with tracer.start_as_current_span("request"):
        figures |= compare(
            {"emit_event(SecurityEvent), log and span": lambda: emitter.emit_event(event)},
            calls=CALLS,
            clock=time.thread_time,
        )
    show("emission, one call, CPU of the caller", figures)
    rested = compare(
        {"the SDK's own log record": log_record, "emit_event(**fields)": lambda: emitter.emit_event(**FIELDS)},
        calls=CALLS // 10,
        clock=time.thread_time,
        pause=0.0005,
    )
    show("emission, one call after a pause", rested)
    logs.shutdown()


if __name__ == "__main__":
    main()
