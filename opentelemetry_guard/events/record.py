"""Log records and span events that carry their event's JSON: put together once, and read by nobody who needn't.

The JSON travels within their attributes, which are made of it when
somebody looks at them: another exporter, a processor. So is the sentence that is the
record's body. Our own exporter takes the JSON itself, as long as nobody can
have changed an attribute since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span
from opentelemetry.util.types import AnyValue

from .. import semconv
from .attributes import length_of_text, to_attributes
from .codec import TRACE_KEYS, EncodedRow, Row, encoded, has_trace, trace_members, with_members
from .origin import ORIGIN_KEYS, Origin
from .sentence import sentence

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LogRecordLimits

_OWN = TRACE_KEYS | ORIGIN_KEYS
"""Keys of the metadata that say by themselves what the record or its Resource would."""

Cleaned = Callable[[str], str]
"""Returns a sentence without secrets."""


Takes = Callable[[SeverityNumber], bool]
"""Says whether anybody takes an event of a severity."""


class Emit(Protocol):
    """Emits an event to one logger, with the current context and time."""

    def __call__(
        self,
        row: Row,
        json: bytes,
        nanoseconds: int | None,
        severity: tuple[SeverityNumber, str],
        span: Span,
        cleaned: Cleaned | None,
    ) -> None:
        """Emit an event.

        Args:
            row: the event.
            json: the same as `codec.encoded` made it.
            nanoseconds: its time, None where OTLP has no number for it.
            severity: its number and text.
            span: the current one.
            cleaned: cleans a sentence of its parts; None where that has no secret.
        """


class EventRecord(LogRecord):
    """The record of an event, which is put in words at the first look at its body."""

    _event: EventAttributes | None = None
    _cleaned: Cleaned | None = None
    _body: AnyValue = None

    @property
    def body(self) -> AnyValue:
        """The event in words, or what a processor has put in their place."""
        event = self._event
        if event is not None:
            said, cleaned = sentence(event.row()), self._cleaned
            # Its parts are clean, but side by side they might read as a name and its secret.
            self._body = said if cleaned is None else cleaned(said)
            self._event = None
        return self._body

    @body.setter
    def body(self, body: AnyValue) -> None:
        self._body = body
        self._event = None

    def carried(self, origin: Origin) -> EncodedRow | None:
        """Return the event's whole row; None where somebody may have changed something, or has looked at the body.

        Args:
            origin: whose telemetry it is.
        """
        event = self._event
        if event is None or event is not self.attributes:
            return None
        return event.carried(self.trace_id or 0, self.span_id or 0, origin)

    def __copy__(self) -> LogRecord:
        # A batch processor copies each record; `copy` would ask it how, which takes four times as long.
        made = object.__new__(EventRecord)
        made.__dict__ = vars(self).copy()
        return made

    def __getstate__(self) -> dict[str, object]:
        """Travel to other processes in words."""
        return {**vars(self), "_body": self.body, "_event": None, "_cleaned": None}


def _take_defaults(kind: type, made: object) -> None:
    """Let a class have what a release of the SDK or the API keeps of its objects, beyond the names known here."""
    for name, value in vars(made).items():
        if not hasattr(kind, name):
            setattr(kind, name, value)


_take_defaults(EventRecord, EventRecord(context=Context(), event_name=semconv.SECURITY_EVENT))


def _joined(json: bytes, trace_id: int, span_id: int, members: bytes) -> bytes:
    """Return an event's JSON with its trace, where there is one, and further members of its metadata."""
    if trace_id:
        trace = trace_members(trace_id, span_id)
        members = b"%b,%b" % (trace, members) if members else trace
    return with_members(json, members) if members else json


def carried_at_once(row: Row, json: bytes, trace_id: int, span_id: int, origin: Origin) -> EncodedRow | None:
    """Return the whole row of an event of now, None where it names a trace or a service by itself.

    Args:
        row: the event, which has metadata.
        json: the same as `codec.encoded` made it.
        trace_id: of the current span, 0 where there is none.
        span_id: of the current span.
        origin: whose telemetry it is.
    """
    metadata: Mapping[str, object] = row["metadata"]  # type: ignore[assignment]
    if not _OWN.isdisjoint(metadata):
        return None
    key: str = row["idempotency_key"]  # type: ignore[assignment]
    return EncodedRow(key, _joined(json, trace_id, span_id, origin.members))


class EventAttributes(BoundedAttributes):
    """The attributes of an event, made at the first look; until then, and unless they are changed, its JSON.

    It begins without what `BoundedAttributes` keeps, so that whatever is
    asked for first, by whatever name the SDK calls it, brings all of it.
    """

    def __init__(
        self,
        row: Row,
        json: bytes,
        exact_time: bool,
        maxlen: int | None,
        max_value_len: int | None,
        of_span: bool = False,
        logged: bool = False,
    ) -> None:
        """Carry a row.

        Args:
            row: the event, of which the key is kept.
            json: the same as `codec.encoded` made it.
            exact_time: whether the record's timestamp says the event's time.
            maxlen: the most attributes that there may be.
            max_value_len: characters of a text at most.
            of_span: whether they are those of a span event, which nobody changes.
            logged: whether a log record carries the event of a span, too.
        """
        self.maxlen = maxlen
        self.max_value_len = max_value_len
        self._json = json
        self._exact_time = exact_time
        self._of_span = of_span
        self.logged = logged
        self._carried: str | None = row["idempotency_key"]  # type: ignore[assignment]
        self._names_origin = False
        metadata = row.get("metadata")
        if isinstance(metadata, dict) and not _OWN.isdisjoint(metadata):
            self._names_origin = not ORIGIN_KEYS.isdisjoint(metadata)
            # Where an event names a trace by itself, the record's must not be put beside it.
            if has_trace(row):
                self._carried = None

    def row(self) -> Row:
        """Return the event as it was emitted."""
        row: Row = orjson.loads(self._json)
        return row

    def carried(self, trace_id: int, span_id: int, origin: Origin | None = None) -> EncodedRow | None:
        """Return the event's whole row, None where the attributes may say something else by now.

        Args:
            trace_id: of the record, 0 where it has none.
            span_id: of the record.
            origin: whose telemetry it is.
        """
        key: str | None = self._carried
        if key is None:
            return None
        members = b"" if origin is None else origin.members
        if origin is not None and members and self._names_origin:
            row: Row = orjson.loads(_joined(self._json, trace_id, span_id, b""))
            return EncodedRow(key, encoded(origin.put_into(row)))
        return EncodedRow(key, _joined(self._json, trace_id, span_id, members))

    def made(self) -> dict[str, Any]:
        """Make the attributes, and return what is kept of them, by the names that the SDK has for it."""
        state = vars(self)
        attributes = to_attributes(self.row(), exact_time=self._exact_time, logged=self.logged)
        if self.max_value_len is not None and (cut := _cut(attributes, self.max_value_len)):
            attributes = _telling(cut, attributes)
        if any(isinstance(value, (dict, list)) for value in attributes.values()):
            self._carried = None  # what is within can be changed without our noticing
        made = BoundedAttributes(self.maxlen, attributes, immutable=self._of_span, max_value_len=self.max_value_len)
        for kept, value in vars(made).items():
            state.setdefault(kept, value)  # of two threads that look first, both get the same
        return state

    def __setitem__(self, key: str, value: AnyValue) -> None:
        self._carried = None
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._carried = None
        super().__delitem__(key)


class _MadeAtFirstLook:
    """What `BoundedAttributes` keeps under a name, while there is none of it: an instance's own comes first."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: EventAttributes, kind: type[EventAttributes]) -> Any:
        return owner.made()[self._name]


for _name in vars(BoundedAttributes()).keys() - {"maxlen", "max_value_len"}:
    # A `__getattr__` would do the same, and have each look at any attribute take three times as long.
    setattr(EventAttributes, _name, _MadeAtFirstLook(_name))


def _telling(cut: dict[str, AnyValue], attributes: dict[str, AnyValue]) -> dict[str, AnyValue]:
    """Return attributes of an event with what a length limit takes of them, right before its type.

    It says that a key is cut, which other events may then have as well: a count limit takes it after the key.
    """
    names = list(attributes)
    last = names[names.index(semconv.GUARD_EVENT_TYPE) :]
    most_important = {name: attributes.pop(name) for name in last}
    return {**attributes, semconv.GUARD_TRUNCATED: cut, **most_important}


def _cut(attributes: Mapping[str, AnyValue], limit: int) -> dict[str, AnyValue]:
    lengths = {name: length_of_text(value) for name, value in attributes.items()}
    return {name: length for name, length in lengths.items() if length > limit}


def add_to_span(span: Span, row: Row, nanoseconds: int | None, *, logged: bool) -> None:
    """Add an event to a span: the SDK's gets attributes that are made at the first look, any other plain ones.

    Args:
        span: one that records.
        row: the event.
        nanoseconds: its time, None where OTLP has no number for it.
        logged: whether a log record carries the same event.
    """
    exact_time = nanoseconds is not None
    if type(span).__module__ == "opentelemetry.sdk.trace":
        # The SDK has no other way to add an event whose attributes are made already.
        limits: Any = getattr(span, "_limits", None)
        add = getattr(span, "_add_event", None)
        if add is not None and hasattr(limits, "max_event_attributes") and hasattr(limits, "max_attribute_length"):
            from opentelemetry.sdk.trace import Event  # here: it is loaded already where its span is

            most, longest = limits.max_event_attributes, limits.max_attribute_length
            attributes = EventAttributes(row, encoded(row), exact_time, most, longest, True, logged)
            add(Event(semconv.SECURITY_EVENT, attributes, nanoseconds))
            return
    span.add_event(
        semconv.SECURITY_EVENT, to_attributes(row, exact_time=exact_time, logged=logged), timestamp=nanoseconds
    )


def question_to(logger: Logger) -> Takes:
    """Return what says whether anybody takes an event of a severity from a logger.

    The SDK asks each processor, in four calls; where one of them is known to take everything, nobody need be asked.
    """
    chain = getattr(logger, "_multi_log_record_processor", None)
    is_on: Callable[[], bool] | None = getattr(logger, "_is_enabled", None)
    known: tuple[object, bool] = (None, False)  # the processors, and whether one takes everything; replaced as a whole

    def takes(severity: SeverityNumber) -> bool:
        nonlocal known
        processors = getattr(chain, "_log_record_processors", None)
        if known[0] is not processors:
            known = (processors, _one_takes_all(processors))
        if known[1] and is_on is not None:
            return is_on()
        return logger.enabled(severity_number=severity, event_name=semconv.SECURITY_EVENT)

    return takes


def _one_takes_all(processors: object) -> bool:
    """Whether one of the SDK's processors leaves its answer to the SDK, which is that it takes everything."""
    from opentelemetry.sdk._logs import LogRecordProcessor  # here: it is loaded already where its processors are

    return isinstance(processors, tuple) and any(
        getattr(type(each), "enabled", None) is LogRecordProcessor.enabled
        and "enabled" not in getattr(each, "__dict__", ())
        for each in processors
    )


def emitter_to(logger: Logger) -> Emit:
    """Return what emits events to a logger: the SDK's gets records that carry them, any other plain ones."""
    limits: LogRecordLimits | None = None
    if type(logger).__module__.startswith("opentelemetry.sdk."):
        # The SDK gives no other reading of what its user allows.
        limits = getattr(logger, "_log_record_limits", None)
    return _plain(logger) if limits is None else _carrying(logger, limits)


def _plain(logger: Logger) -> Emit:
    def emit(
        row: Row,
        json: bytes,
        nanoseconds: int | None,
        severity: tuple[SeverityNumber, str],
        span: Span,
        cleaned: Cleaned | None,
    ) -> None:
        record = EventRecord(
            timestamp=nanoseconds,
            severity_number=severity[0],
            severity_text=severity[1],
            attributes=to_attributes(row, exact_time=nanoseconds is not None),
            event_name=semconv.SECURITY_EVENT,
        )
        record._event, record._cleaned = EventAttributes(row, json, nanoseconds is not None, None, None), cleaned
        logger.emit(record)

    return emit


def _carrying(logger: Any, limits: LogRecordLimits) -> Emit:
    from opentelemetry.sdk._logs import ReadWriteLogRecord  # here: it is loaded already where its logger is

    class Ready(ReadWriteLogRecord):
        """A record that the SDK takes as it is."""

        def __post_init__(self) -> None:
            """Leave the attributes as they are."""

    most, longest = limits.max_log_record_attributes, limits.max_log_record_attribute_length
    scope = logger.instrumentation_scope
    _take_defaults(Ready, Ready(EventRecord(context=Context()), logger.resource, scope, limits))

    def emit(
        row: Row,
        json: bytes,
        nanoseconds: int | None,
        severity: tuple[SeverityNumber, str],
        span: Span,
        cleaned: Cleaned | None,
    ) -> None:
        event = EventAttributes(row, json, nanoseconds is not None, most, longest)
        place = span.get_span_context()
        # What the classes themselves make of these values, in a third of the time.
        record = object.__new__(EventRecord)
        record.timestamp = nanoseconds
        record.observed_timestamp = time_ns()
        record.context = get_current()
        record.trace_id = place.trace_id
        record.span_id = place.span_id
        record.trace_flags = place.trace_flags
        record.severity_text = severity[1]
        record.severity_number = severity[0]
        record._event = event
        record._cleaned = cleaned
        record.attributes = event
        record.event_name = semconv.SECURITY_EVENT
        record.exception = None
        ready = object.__new__(Ready)
        ready.log_record = record
        ready.resource = logger.resource
        ready.instrumentation_scope = scope
        ready.limits = limits
        logger.emit(ready)

    return emit
