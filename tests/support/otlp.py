"""What a Collector receives and hands on: OTLP's protobuf, encoded by OpenTelemetry's exporter and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context


def hop(records: Sequence[ReadableLogRecord]) -> list[ReadableLogRecord]:
    """Return log records as they are after they were OTLP."""
    request = ExportLogsServiceRequest.FromString(encode_logs(records).SerializeToString())
    return [
        ReadableLogRecord(
            _record(record),
            Resource({item.key: _value(item.value) for item in found.resource.attributes}),
            InstrumentationScope(scope.scope.name, scope.scope.version),
        )
        for found in request.resource_logs
        for scope in found.scope_logs
        for record in scope.log_records
    ]


def through_otlp(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as they are after they were OTLP; none is lost."""
    record = LogRecord(timestamp=1, attributes=BoundedAttributes(None, attributes))
    (read,) = hop([ReadableLogRecord(record, Resource({}), InstrumentationScope("x"))])
    told = dict(read.log_record.attributes or {})
    assert told.keys() == attributes.keys()
    return told


def _record(record: Any) -> LogRecord:
    span = SpanContext(
        int.from_bytes(record.trace_id, "big"),
        int.from_bytes(record.span_id, "big"),
        is_remote=True,
        trace_flags=TraceFlags(record.flags),
    )
    attributes = BoundedAttributes(None, {item.key: _value(item.value) for item in record.attributes})
    attributes.dropped = record.dropped_attributes_count
    return LogRecord(
        timestamp=record.time_unix_nano,
        observed_timestamp=record.observed_time_unix_nano,
        context=set_span_in_context(NonRecordingSpan(span)),
        severity_text=record.severity_text,
        severity_number=SeverityNumber(record.severity_number),
        body=_value(record.body),
        attributes=attributes,
        event_name=record.event_name,
    )


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _value(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)
