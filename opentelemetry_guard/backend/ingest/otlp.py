"""OTLP requests of logs and traces: the security events in them, and what is answered about everything else.

Every function is pure and raises `Refusal` for what it does not accept.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource

from ... import semconv
from ...events import codec
from ...events.attributes import from_attributes, from_record
from ...events.correlation import correlation_key
from ...events.enrichment import CORRELATION_KEY, RESOURCE_KEYS, THREAT_SCORE, threat_score
from ...events.origin import origin_of
from ...models import SecurityEvent
from ..refusal import Refusal
from .body import MOST_ROWS, check_size

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_TRACE_BYTES, _SPAN_BYTES = 16, 8


@dataclass(frozen=True, slots=True)
class Found:
    """What is in a request: `events`, and of its `total` log records or spans how many bear none that can be stored.

    Of those are `unreadable` that say they are security events.
    """

    events: list[SecurityEvent]
    total: int
    others: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Form:
    """A signal: its messages, the names of its parts, what its rows are called, and how they are read."""

    request: type[Message]
    response: type[Message]
    top: str
    rejected: str
    called: str
    rows: Callable[[Any], Iterator[Iterator[codec.Row] | None]]


def read(form: Form, media: str, body: bytes) -> Found:
    """Return what is in a request: 400 where it is none, 413 where it has more than `MOST_ROWS` events."""
    message = _parsed(form, media, body)
    events: list[SecurityEvent] = []
    total = others = unreadable = 0
    for rows in form.rows(message):
        total += 1
        if rows is None:
            others += 1
            continue
        try:
            events += [SecurityEvent.model_validate_json(orjson.dumps(row), strict=True) for row in rows]
        except (ValueError, TypeError):
            unreadable += 1
            others += 1
        if len(events) > MOST_ROWS:
            raise Refusal(413, f"The request has more than {MOST_ROWS} security events: send fewer in one.")
    return Found(events, total, others, unreadable)


def _parsed(form: Form, media: str, body: bytes) -> Message:
    message = form.request()
    try:
        if media == PROTOBUF:
            message.ParseFromString(body)
            return message
        check_size(body)
        document = orjson.loads(body)
        if not _is_request(document, form.top):
            raise Refusal(400, f"The body is no OTLP request: it must be an object, with objects in {form.top}.")
        return ParseDict(document, message, ignore_unknown_fields=True)
    except (DecodeError, ParseError, orjson.JSONDecodeError, RecursionError) as error:
        # What the reader of protobuf's JSON says may repeat values.
        told = f": {error}" if isinstance(error, orjson.JSONDecodeError) else ""
        raise Refusal(400, f"The body is no OTLP request in {media}{told}.") from None


def _is_request(document: object, top: str) -> bool:
    """Whether JSON is an object with objects in it; protobuf's reader takes any list for one without known fields."""
    if not isinstance(document, dict):
        return False
    rows = document.get(top)
    return rows is None or (isinstance(rows, list) and all(isinstance(one, dict) for one in rows))


def _of_logs(message: Any) -> Iterator[Iterator[codec.Row] | None]:
    """Yield each log record's row, None for one that is no security event."""
    for resource in message.resource_logs:
        for scope in resource.scope_logs:
            is_ours = scope.scope.name == semconv.SCOPE_NAME
            for record in scope.log_records:
                named = record.event_name == semconv.SECURITY_EVENT
                yield _row_of_record(resource.resource, record, is_ours) if named else None


def _row_of_record(resource: Any, record: Any, is_ours: bool) -> Iterator[codec.Row]:
    attributes, body = _map(record.attributes), _value(record.body)
    nanoseconds = record.time_unix_nano or record.observed_time_unix_nano
    row = from_record(body, attributes, nanoseconds, record.dropped_attributes_count)
    if not _has_key(attributes) and not (isinstance(body, dict) and "idempotency_key" in body):
        row["idempotency_key"] = _key(resource, record)
    yield _whole(row, resource, record.trace_id, record.span_id, is_ours)


def _of_traces(message: Any) -> Iterator[Iterator[codec.Row] | None]:
    """Yield the rows of each span's events, None for a span without a security event."""
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                # Without attributes it says nothing: a limit took them, and the log record has the event.
                found = [one for one in span.events if one.name == semconv.SECURITY_EVENT and one.attributes]
                yield _rows_of_span(resource.resource, span, found) if found else None


def _rows_of_span(resource: Any, span: Any, events: list[Any]) -> Iterator[codec.Row]:
    for event in events:
        attributes = _map(event.attributes)
        row = from_attributes(attributes, event.time_unix_nano, event.dropped_attributes_count)
        is_ours = semconv.LOG_RECORD_UID in attributes
        if not _has_key(attributes):
            row["idempotency_key"] = _key(resource, event, span.trace_id, span.span_id)
        yield _whole(row, resource, span.trace_id, span.span_id, is_ours)


def _whole(row: codec.Row, resource: Any, trace_id: bytes, span_id: bytes, is_ours: bool) -> codec.Row:
    """Complete a row; to an event of somebody else comes what our own have: a score, and the key of its client."""
    whole = codec.complete(row, _id(trace_id, _TRACE_BYTES), _id(span_id, _SPAN_BYTES))
    metadata = whole["metadata"]
    if not is_ours and isinstance(metadata, dict):
        event_type, address, action = (str(whole[name]) for name in ("event_type", "ip_address", "action_taken"))
        if key := correlation_key(address, event_type):
            metadata.setdefault(CORRELATION_KEY, key)
        metadata.setdefault(THREAT_SCORE, threat_score(event_type, action, 1))
    # Of the others, which may be anything, the SDK would complain in the log.
    told = {pair.key: _value(pair.value) for pair in resource.attributes if pair.key in RESOURCE_KEYS}
    named = {key: value for key, value in told.items() if isinstance(value, (str, int, float))}
    return origin_of(Resource(named)).put_into(whole)


def _has_key(attributes: Mapping[str, object]) -> bool:
    """Whether an event says its key, which no length limit of the SDK has cut."""
    cut = attributes.get(semconv.GUARD_TRUNCATED)
    return semconv.LOG_RECORD_UID in attributes and not (isinstance(cut, dict) and semconv.LOG_RECORD_UID in cut)


def _key(*parts: Any) -> str:
    """Return the same key for the same event, so that one which comes again is stored once."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.SerializeToString(deterministic=True))
    return str(UUID(bytes=digest.digest()))


def _id(value: bytes, size: int) -> int:
    """Return a trace's or span's number, 0 where there is none.

    OTLP's JSON has them in hexadecimal digits, which protobuf's reader takes for base64.
    """
    if len(value) == size * 3 // 2:
        try:
            value = bytes.fromhex(base64.b64encode(value).decode())
        except (ValueError, binascii.Error):
            return 0
    return int.from_bytes(value, "big") if len(value) == size else 0


def _map(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    """Return what an `AnyValue` holds."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _map(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


LOGS = Form(
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
    "resourceLogs",
    "rejected_log_records",
    "log records",
    _of_logs,
)
TRACES = Form(
    ExportTraceServiceRequest, ExportTraceServiceResponse, "resourceSpans", "rejected_spans", "spans", _of_traces
)


def answer(form: Form, media: str, found: Found, untimely: int) -> bytes:
    """Return a response: full success, or a partial one that counts what is not stored, and says why.

    What is not stored is rejected (OTLP, "Partial Success"): a sender that trusts the counts must not take it for kept.

    Args:
        form: of the signal.
        media: of the request, and so of the answer.
        found: what was in the request.
        untimely: events that were dropped for their timestamps.
    """
    response: Any = form.response()
    told = []
    if strangers := found.others - found.unreadable:
        told.append(
            f"{strangers} of {found.total} {form.called} bear no {semconv.SECURITY_EVENT}, and are not stored: "
            "send them elsewhere"
        )
    if found.unreadable:
        told.append(f"{found.unreadable} of {found.total} {form.called} have security events that cannot be read")
    if untimely:
        told.append(f"{untimely} security events are outside of the window of timestamps, and are not stored")
    if told:
        # A span may have had several of those events; of log records each had one.
        setattr(response.partial_success, form.rejected, found.others + (untimely if form is LOGS else 0))
        response.partial_success.error_message = "; ".join(told)
    return _encoded(response, media)


def status(media: str, detail: str) -> bytes:
    """Return the body of a refusal: a `google.rpc.Status` with its message."""
    if media == JSON:
        return orjson.dumps({"message": detail})
    # Of the same form on the wire as a status: a number in field 1, a text in field 2.
    return ExportTracePartialSuccess(error_message=detail).SerializeToString()


def _encoded(message: Message, media: str) -> bytes:
    return orjson.dumps(MessageToDict(message)) if media == JSON else message.SerializeToString()


def media_of(headers: Mapping[str, str]) -> str:
    """Return in which form a request is, and its answer is to be; protobuf where it is in neither."""
    return JSON if _content_type(headers) == JSON else PROTOBUF


def check_media(headers: Mapping[str, str]) -> str:
    """Return `media_of`, or refuse with 415 what is neither."""
    told = _content_type(headers)
    if told not in (PROTOBUF, JSON):
        raise Refusal(415, f"Content-Type must be {PROTOBUF} or {JSON}.")
    return told


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
