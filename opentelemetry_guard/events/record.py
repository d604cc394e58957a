"""Log records and span events that carry their event's JSON: put together once, and read by nobody who needn't.

The JSON travels within their attributes, which are made of it when
somebody looks at them: another exporter, a processor. So is the sentence that is the
record's body. Our own exporter takes the JSON itself, as long as nobody can
have changed an attribute since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any

import orjson
from opentelemetry._logs import Logger, LogRecord
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span
from opentelemetry.util.types import AnyValue

from .. import semconv
from .attributes import length_of_text, to_attributes
from .codec import EncodedRow, Row, encoded, has_trace, with_trace
from .origin import names_origin
from .sentence import sentence

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LogRecordLimits

Emit = Callable[["EventRecord", Row, bytes], None]
"""Takes a record without attributes, its event's row, and the row's JSON."""


class Unsaid:
    """An event that is put in words when somebody wants to read them."""

    __slots__ = ("_cleaned", "_json")

    def __init__(self, json: bytes, cleaned: Callable[[str], str] | None) -> None:
        """Put nothing in words yet.

        Args:
            json: the event's row, as `codec.encoded` made it.
            cleaned: returns a sentence without secrets; None where a sentence of this event's parts has none.
        """
        self._json, self._cleaned = json, cleaned

    def words(self) -> str:
        """Return the sentence."""
        said = sentence(orjson.loads(self._json))
        # Its parts are clean, but side by side they might read as a name and its secret.
        return said if self._cleaned is None else self._cleaned(said)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Travel to other processes as the words."""
        return str, (self.words(),)


class EventRecord(LogRecord):
    """The record of an event; a body that is `Unsaid` is put in words at the first look."""

    _body: AnyValue | Unsaid

    @property
    def body(self) -> AnyValue:
        """The event in words, or what a processor has put in their place."""
        body = self._body
        if isinstance(body, Unsaid):
            body = self._body = body.words()
        return body

    @body.setter
    def body(self, body: AnyValue | Unsaid) -> None:
        self._body = body

    @classmethod
    def new(cls, span: Span, **values: object) -> EventRecord:
        """Return the record of an event, with the current context and time: what the class itself makes, in less time.

        Args:
            span: the current one.
            **values: attributes of the record.
        """
        place = span.get_span_context()
        made: EventRecord = object.__new__(cls)
        made.__dict__ = {
            **_blank,
            "observed_timestamp": time_ns(),
            "context": get_current(),
            "trace_id": place.trace_id,
            "span_id": place.span_id,
            "trace_flags": place.trace_flags,
            **values,
        }
        return made

    def __copy__(self) -> LogRecord:
        # A batch processor copies each record; `copy` would ask it how, which takes four times as long.
        made = object.__new__(EventRecord)
        made.__dict__ = vars(self).copy()
        return made


_blank = vars(EventRecord(context=Context(), event_name=semconv.SECURITY_EVENT))
"""What a release of the API keeps of a record, by the names of its attributes."""


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
        *,
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
        self.__dict__ = {
            "maxlen": maxlen,
            "max_value_len": max_value_len,
            "_json": json,
            "_exact_time": exact_time,
            "_of_span": of_span,
            "logged": logged,
            # Where an event names a trace by itself, the record's must not be put beside it.
            "_carried": None if has_trace(row) else str(row["idempotency_key"]),
            "_names_origin": names_origin(row),
        }

    def carried(self, trace_id: int, span_id: int) -> EncodedRow | None:
        """Return the event's whole row, None where the attributes may say something else by now."""
        key: str | None = self._carried
        if key is None:
            return None
        return EncodedRow(
            key, with_trace(self._json, trace_id, span_id) if trace_id else self._json, self._names_origin
        )

    def __getattr__(self, name: str) -> Any:
        state = vars(self)
        if "_json" not in state or name.startswith("__"):
            raise AttributeError(name)
        attributes = to_attributes(orjson.loads(self._json), exact_time=self._exact_time, logged=self.logged)
        if self.max_value_len is not None and (cut := _cut(attributes, self.max_value_len)):
            attributes = {semconv.GUARD_TRUNCATED: cut, **attributes}
        if any(isinstance(value, (dict, list)) for value in attributes.values()):
            self._carried = None  # what is within can be changed without our noticing
        made = BoundedAttributes(self.maxlen, attributes, immutable=self._of_span, max_value_len=self.max_value_len)
        for kept, value in vars(made).items():
            state.setdefault(kept, value)  # of two threads that look first, both get the same
        return state[name]

    def __setitem__(self, key: str, value: AnyValue) -> None:
        self._carried = None
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._carried = None
        super().__delitem__(key)


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
            attributes = EventAttributes(row, encoded(row), exact_time, most, longest, of_span=True, logged=logged)
            add(Event(semconv.SECURITY_EVENT, attributes, nanoseconds))
            return
    span.add_event(
        semconv.SECURITY_EVENT, to_attributes(row, exact_time=exact_time, logged=logged), timestamp=nanoseconds
    )


def emitter_to(logger: Logger) -> Emit:
    """Return what emits events to a logger: the SDK's gets records that carry them, any other plain ones."""
    limits: LogRecordLimits | None = None
    if type(logger).__module__.startswith("opentelemetry.sdk."):
        # The SDK gives no other reading of what its user allows.
        limits = getattr(logger, "_log_record_limits", None)
    return _plain(logger) if limits is None else _carrying(logger, limits)


def _plain(logger: Logger) -> Emit:
    def emit(record: EventRecord, row: Row, json: bytes) -> None:
        record.attributes = to_attributes(row, exact_time=record.timestamp is not None)
        logger.emit(record)

    return emit


def _carrying(logger: Any, limits: LogRecordLimits) -> Emit:
    from opentelemetry.sdk._logs import ReadWriteLogRecord  # here: it is loaded already where its logger is

    class Ready(ReadWriteLogRecord):
        """A record that the SDK takes as it is."""

        def __post_init__(self) -> None:
            """Leave the attributes as they are."""

    most, longest = limits.max_log_record_attributes, limits.max_log_record_attribute_length
    blank = vars(Ready(LogRecord(), logger.resource, logger.instrumentation_scope, limits))

    def emit(record: EventRecord, row: Row, json: bytes) -> None:
        record.attributes = EventAttributes(row, json, record.timestamp is not None, most, longest)
        ready = object.__new__(Ready)  # a dataclass takes three times as long to be told its values one by one
        ready.__dict__ = {**blank, "log_record": record, "resource": logger.resource}
        logger.emit(ready)

    return emit
