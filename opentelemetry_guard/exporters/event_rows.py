"""Log records and spans to event rows: what of an OpenTelemetry pipeline is a security event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import Event, ReadableSpan

from .. import privacy, semconv
from ..events import codec
from ..events.attributes import from_attributes, from_record
from ..events.bearing import bears_nothing
from ..events.enrichment import enrich
from ..events.origin import Origin, origin_of
from ..events.record import EventAttributes
from ..events.tally import INVALID, TALLY
from ..settings.once import log_once

_logger = logging.getLogger(__name__)


def rows_of_records(records: Sequence[ReadableLogRecord | codec.EncodedRow]) -> list[codec.Row | codec.EncodedRow]:
    """Return the rows of the log records that carry a security event; all other records are left alone.

    Args:
        records: of the SDK; or what `sifting` has left of one.
    """
    rows: list[codec.Row | codec.EncodedRow] = []
    origin: Origin | None = None  # of the batch's one resource, as a rule
    for record in records:
        if isinstance(record, codec.EncodedRow):
            rows.append(record)
            continue
        log = record.log_record
        if log.event_name != semconv.SECURITY_EVENT:
            continue
        try:
            attributes, resource = log.attributes, record.resource
            if origin is None or origin.resource is not resource:
                origin = origin_of(resource)
            trace_id, span_id = log.trace_id or 0, log.span_id or 0
            if type(attributes) is EventAttributes and (carried := attributes.carried(trace_id, span_id, origin)):
                rows.append(carried)
                continue
            row = _row_of_record(record)
            if row is not None:
                rows.append(origin.put_into(codec.complete(row, trace_id, span_id)))
        except Exception as error:  # noqa: BLE001  a stranger's record must cost nothing but itself
            _refuse(error)
    return rows


def rows_of_spans(
    spans: Sequence[ReadableSpan], *, include_logged: bool, include_guard_core: bool
) -> list[codec.Row | codec.EncodedRow]:
    """Return the rows of the security events that spans carry; spans without one are left alone.

    Args:
        spans: finished spans.
        include_logged: whether to take events that went into a log record too; not where the exporter of log
            records hands its rows to the same delivery.
        include_guard_core: whether to read guard-core's own ``guard.event.*`` spans.
    """
    rows: list[codec.Row | codec.EncodedRow] = []
    for span in spans:
        if bears_nothing(span):
            continue
        context = span.get_span_context()
        trace_id, span_id = (context.trace_id, context.span_id) if context is not None else (0, 0)
        for read in _readers(span, include_logged, include_guard_core):
            try:
                row = read(trace_id, span_id)
                if isinstance(row, codec.EncodedRow):
                    rows.append(row)
                elif row is not None:
                    rows.append(origin_of(span.resource).put_into(codec.complete(row, trace_id, span_id)))
            except Exception as error:  # noqa: BLE001  a stranger's event must cost nothing but itself
                _refuse(error)
    return rows


_Reader = Callable[[int, int], "codec.Row | codec.EncodedRow | None"]


def _readers(span: ReadableSpan, include_logged: bool, include_guard_core: bool) -> Iterator[_Reader]:
    """Yield one function for each security event of a span, which reads its row; None where it may not be sent.

    It is given the ids of the trace and of the span.
    """
    for event in span.events:
        if event.name != semconv.SECURITY_EVENT:
            continue
        attributes = event.attributes
        if type(attributes) is EventAttributes:
            if include_logged or not attributes.logged:
                yield partial(_carried_by_span_event, event, attributes, origin_of(span.resource))
            continue
        if not include_logged and not attributes:
            continue  # a count limit of 0 took everything, the mark too; the log record has the whole event
        if include_logged or not (attributes or {}).get(semconv.GUARD_LOGGED):
            yield partial(_row_of_span_event, event)
    if include_guard_core and _is_guard_core(span):
        yield partial(_row_of_guard_core, span)


def _carried_by_span_event(
    event: Event, attributes: EventAttributes, origin: Origin, trace_id: int, span_id: int
) -> codec.Row | codec.EncodedRow | None:
    return attributes.carried(trace_id, span_id, origin) or _row_of_span_event(event, trace_id, span_id)


def _row_of_record(record: ReadableLogRecord) -> codec.Row | None:
    log = record.log_record
    attributes: Mapping[str, object] = log.attributes or {}
    nanoseconds = log.timestamp or log.observed_timestamp
    row = from_record(log.body, attributes, nanoseconds, record.dropped_attributes)
    scope = record.instrumentation_scope
    return _cleaned(row, is_ours=scope is not None and scope.name == semconv.SCOPE_NAME)


def _row_of_span_event(event: Event, trace_id: int, span_id: int) -> codec.Row | None:
    attributes: Mapping[str, object] = event.attributes or {}
    row = from_attributes(attributes, event.timestamp, event.dropped_attributes)
    # Nothing tells for sure who made it: a key is what `Emitter` gives.
    return _cleaned(row, is_ours=semconv.LOG_RECORD_UID in attributes)


def _cleaned(row: codec.Row, *, is_ours: bool) -> codec.Row | None:
    """Clean an event of ours, which the user's processors have seen, or one that somebody else gave our name to.

    Cleaning what is clean changes nothing, and who is between may have added something.
    """
    return privacy.current().cleaned(row) if is_ours else _foreign(row)


def _foreign(row: codec.Row) -> codec.Row | None:
    """Clean an event that did not come from `Emitter`, and add to it what that would have added."""
    clean = privacy.current()
    made = clean.processed(row)
    cleaned = None if made is None else clean.cleaned(made)
    if made is not None and cleaned is not None:
        enrich(cleaned, hashed_client=clean.hashed_client(made))
    return cleaned


def _is_guard_core(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return (
        scope is not None
        and scope.name == semconv.GUARD_CORE_SCOPE
        and span.name.startswith(semconv.GUARD_CORE_SPAN_PREFIX)
    )


_GUARD_CORE_FIELDS: Mapping[str, str] = {
    "guard.event_type": "event_type",
    "guard.ip_address": "ip_address",
    "guard.action_taken": "action_taken",
    "guard.reason": "reason",
    "guard.endpoint": "endpoint",
    "guard.method": "method",
    "guard.status_code": "status_code",
}


def _row_of_guard_core(span: ReadableSpan, trace_id: int, span_id: int) -> codec.Row | None:
    """Read one of guard-core's event spans; its enrichment attributes go into the metadata under their own names."""
    fields: dict[str, object] = {
        "event_type": span.name.removeprefix(semconv.GUARD_CORE_SPAN_PREFIX),
        "timestamp": codec.format_nanoseconds(span.start_time or 0),
    }
    metadata: dict[str, object] = {}
    for attribute, value in (span.attributes or {}).items():
        if value is None:
            continue
        if field := _GUARD_CORE_FIELDS.get(attribute):
            fields[field] = value
        else:
            metadata[attribute] = value
    return _foreign(codec.to_row({**fields, "metadata": metadata})[0])


def _refuse(error: Exception) -> None:
    TALLY.drop("events", INVALID)
    log_once(
        _logger,
        logging.WARNING,
        f"security events in the pipeline that can't be read are dropped and counted; the first: {privacy.told(error)}",
        cause="unreadable security events in the pipeline",
    )
