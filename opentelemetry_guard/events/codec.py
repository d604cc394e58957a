"""A security event as a row: what the backend reads, made of anything that has an event's fields."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid5

import orjson
from pydantic import BaseModel, TypeAdapter

from ..models import SecurityEvent, new_idempotency_key
from .header_text import repaired
from .jsonsafe import JSON, describe, json_safe, key_text, safe_text
from .spelling import heed

Row = dict[str, JSON]
"""One event or metric as the backend reads it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DATETIME = TypeAdapter(datetime)
_MAX_NANOSECONDS = 2**63 - 1

FIELDS: tuple[str, ...] = tuple(SecurityEvent.model_fields)
"""The contract's fields of an event, in its order."""

_KNOWN = frozenset(FIELDS)
_TEXTS = _KNOWN - {"idempotency_key", "timestamp", "status_code", "response_time", "metadata"}
_KEY_NAMESPACE = UUID("7f4b7c1e-0a5d-5c37-9d8e-3f6f6a3f2b10")

DEFAULTS: Mapping[str, JSON] = {
    name: "" if name in ("ip_address", "action_taken", "reason") else None for name in FIELDS if name != "metadata"
}
"""What an event that says nothing about a field has there; `metadata` is an empty object."""


class EncodedRow:
    """An event as the backend reads it, encoded: its idempotency key, and the JSON of the whole row."""

    __slots__ = ("json", "key")

    def __init__(self, key: str, json: bytes) -> None:
        self.key = key
        self.json = json

    def decoded(self) -> Row:
        """Return the row."""
        row: Row = orjson.loads(self.json)
        return row


class NotAnEvent(ValueError):
    """The value has no event type, so no row can be made of it."""


def format_timestamp(value: datetime) -> str:
    """Return an aware datetime as ISO 8601 in UTC with a ``Z``, to the microsecond."""
    if value.tzinfo is not timezone.utc:
        value = value.astimezone(timezone.utc)
    return value.isoformat(timespec="microseconds")[:-6] + "Z"  # in the place of "+00:00"


_latest_second = (0, "1970-01-01T00:00:00")  # most times are of the second that was asked for last; replaced as a whole


def format_nanoseconds(value: int) -> str:
    """Return nanoseconds since 1970 as ISO 8601 in UTC, to the microsecond."""
    global _latest_second
    seconds, nanoseconds = divmod(value, 1_000_000_000)
    known = _latest_second
    if known[0] != seconds:
        known = _latest_second = (seconds, format_timestamp(_EPOCH + timedelta(seconds=seconds))[:19])
    return f"{known[1]}.{nanoseconds // 1000:06d}Z"


def parse_timestamp(value: object) -> datetime | None:
    """Read a datetime (naive is UTC), ISO 8601 text or seconds since 1970; None where it is none of these."""
    try:
        if isinstance(value, str):
            value = _DATETIME.validate_python(value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            value = _EPOCH + timedelta(seconds=value)
        if isinstance(value, datetime) and value.tzinfo is not timezone.utc:
            value = value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return value if isinstance(value, datetime) else None


def to_nanoseconds(value: datetime) -> int | None:
    """Return an aware datetime as nanoseconds since 1970; None where OTLP has no number for it (before 1970)."""
    since = value - _EPOCH
    nanoseconds = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
    return nanoseconds if 0 <= nanoseconds <= _MAX_NANOSECONDS else None


def _text(value: object) -> str:
    if type(value) is str:
        return safe_text(value)
    converted = json_safe(value)
    return converted if isinstance(converted, str) else describe(value)


def uuid_key(key: object, invalid: Row) -> str:
    """Return an idempotency key as the UUID that the contract wants, a new one where there is none.

    Text that is no UUID becomes the same UUID wherever it comes up, so that it
    still tells repetitions apart, and is kept in `invalid`.
    """
    text = "" if key is None else _text(key)
    if not text:
        return new_idempotency_key()
    try:
        return str(UUID(text))
    except ValueError:
        invalid["idempotency_key"] = text
        return str(uuid5(_KEY_NAMESPACE, text))


def _status_code(value: object) -> int | None:
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -(2**63) <= number < 2**63 else None


def _seconds(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


_COERCE: Mapping[str, Callable[[object], JSON]] = {
    name: {"status_code": _status_code, "response_time": _seconds}.get(name, _text)
    for name in FIELDS
    if name not in ("idempotency_key", "timestamp", "metadata")
}


def coerced(field: str, value: object) -> JSON:
    """Return a value as one of the field's type: of any but the key, the time and the metadata; None where it can't."""
    return _COERCE[field](value)


def fields_of(value: object, names: Iterable[str] = FIELDS) -> dict[str, object]:
    """Read the fields of a SecurityEvent or a SecurityMetric of any origin, or of a mapping.

    guard-core hands over objects whose fields are attributes of their class,
    so fields are read by name where the value is neither a model nor a mapping.

    Args:
        value: a pydantic model, a mapping of fields, or an object with fields as attributes.
        names: the attributes to read of such an object.
    """
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    if isinstance(value, Mapping):
        return {key_text(key): item for key, item in value.items()}
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _has_usual_ends(fields: dict[str, Any]) -> bool:
    return next(iter(fields), None) == FIELDS[0] and next(reversed(fields), None) == "metadata"


_BLANK: Mapping[str, object] = {**{name: DEFAULTS.get(name) for name in FIELDS}, "metadata": {}}


def whole(event: object, keywords: Mapping[str, object]) -> tuple[dict[str, object], int | None] | None:
    """Return all fields of an event as they were given; None where it has others, or is read in another way.

    The key is the first of them, and the metadata are the last. Key and time are made where they are missing; nothing
    is checked. Where both are made, the time is that of a row already, and comes in nanoseconds since 1970 too; else
    None does.

    Args:
        event: a SecurityEvent, a dict of its fields, or None.
        keywords: fields that win over those of `event`.
    """
    given: dict[str, object]
    if event is None:
        given = {**_BLANK, **keywords}
    elif type(event) is SecurityEvent:
        given = {**event.__dict__, **keywords}
        if event.__pydantic_extra__ or not _has_usual_ends(given):
            return None
    elif type(event) is dict:
        given = {**_BLANK, **event, **keywords}
    else:
        return None
    if len(given) != len(FIELDS):
        return None
    key, timestamp = given.get("idempotency_key"), given.get("timestamp")
    if key is None and timestamp is None:
        now = time.time_ns()
        now -= now % 1000
        given["idempotency_key"] = new_idempotency_key(now)
        given["timestamp"] = format_nanoseconds(now)
        return given, now
    if key is None:
        given["idempotency_key"] = new_idempotency_key()
    if timestamp is None:
        given["timestamp"] = datetime.now(timezone.utc)
    return given, None


def as_row(fields: dict[str, object], made_at: int | None) -> tuple[Row, int | None]:
    """Make all fields of an event a row, and return it with its time; they are what a row holds, but for the time.

    Its metadata are the event's own: who changes them copies them (`enrichment.enrich` does).

    Args:
        fields: of the event, as `whole` returns them.
        made_at: the time that `whole` has made, if it has.
    """
    row: Row = fields  # type: ignore[assignment]
    if made_at is not None:
        return row, made_at
    timestamp: datetime = fields["timestamp"]  # type: ignore[assignment]
    row["timestamp"] = format_timestamp(timestamp)
    return row, to_nanoseconds(timestamp)


def to_row(event: object) -> tuple[Row, int | None]:
    """Return an event as a row, and its time in nanoseconds (None where OTLP can't carry it).

    Fields that were not given are left out. A value of the wrong type is
    converted; where there is nothing to convert it to, it is kept as text in
    ``metadata["invalid_fields"]`` and the field is left out.

    Args:
        event: a SecurityEvent (ours, guard-agent's or guard-core's) or a mapping of its fields.

    Raises:
        NotAnEvent: there is no `event_type`.
    """
    row: Row = {}
    key: object = None
    metadata: object = None
    timestamp: datetime | None = None
    invalid: Row = {}
    for name, value in fields_of(event).items():
        if type(value) is str and name in _TEXTS:  # most fields of most events: spare them the questions below
            row[name] = safe_text(value)
        elif value is None and name in _KNOWN:
            continue
        elif name == "idempotency_key":
            key = value
        elif name == "metadata":
            metadata = value
        elif name == "timestamp":
            timestamp = parse_timestamp(value)
            if timestamp is None:
                invalid[name] = describe(value)
        elif coerce := _COERCE.get(name):
            converted = coerce(value)
            if converted is None:
                invalid[name] = describe(value)
            else:
                row[name] = converted
        else:
            heed(name, FIELDS)
            row[safe_text(name)] = json_safe(value)
    if "event_type" not in row:
        raise NotAnEvent(f"a security event needs an event_type, got {type(event).__name__} without one")
    if type(agent := row.get("user_agent")) is str:
        row["user_agent"] = repaired(agent)
    row["idempotency_key"] = uuid_key(key, invalid)
    timestamp = timestamp or datetime.now(timezone.utc)
    row["timestamp"] = format_timestamp(timestamp)
    safe = {} if metadata is None else json_safe(metadata)
    if not isinstance(safe, dict):
        safe = {"value": safe} if safe else {}
    if invalid:
        safe["invalid_fields"] = dict(invalid)
    if safe:
        row["metadata"] = safe
    return row, to_nanoseconds(timestamp)


def nanoseconds_of(row: Row) -> int | None:
    """Return a row's time in nanoseconds; None where OTLP can't carry it."""
    timestamp = parse_timestamp(row["timestamp"])
    return None if timestamp is None else to_nanoseconds(timestamp)


def complete(row: Mapping[str, JSON], trace_id: int = 0, span_id: int = 0) -> Row:
    """Return a row with every field of the contract, and the trace context in its metadata where there is one."""
    metadata = row.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, Mapping) else {}
    if trace_id:
        metadata.setdefault("trace_id", f"{trace_id:032x}")
        metadata.setdefault("span_id", f"{span_id:016x}")
    return {**DEFAULTS, **row, "metadata": metadata}


TRACE_KEYS = frozenset({"trace_id", "span_id"})
"""The keys of the metadata that name a trace."""


def encoded(row: Row, *, is_whole: bool = False) -> bytes:
    """Return a row as JSON with every field of the contract, the metadata last: see `with_members`.

    Args:
        row: a cleaned row.
        is_whole: whether it is known to have the fields of the contract, all of them and no other, as `whole` has.
    """
    if is_whole:
        return orjson.dumps(row)
    if len(row) == len(FIELDS) and row.keys() >= _KNOWN and _has_usual_ends(row):
        return orjson.dumps(row)
    every: dict[str, object] = {**DEFAULTS, **row}
    metadata = every.pop("metadata", None)
    every["metadata"] = metadata if metadata is not None else {}
    return orjson.dumps(every)


def has_trace(row: Row) -> bool:
    """Whether an event names a trace by itself, which the record's own must not replace."""
    metadata = row.get("metadata")
    return isinstance(metadata, dict) and not TRACE_KEYS.isdisjoint(metadata)


def trace_members(trace_id: int, span_id: int) -> bytes:
    """Return the members of an event's metadata that name a trace."""
    return f'"trace_id":"{trace_id:032x}","span_id":"{span_id:016x}"'.encode()


def with_members(json: bytes, members: bytes) -> bytes:
    """Return what `encoded` made with more members of its metadata, which are JSON and there not yet."""
    # In one piece: rows are so long that each copy is asked of the system's allocator.
    return b"".join((json[:-2], b"" if json.endswith(b"{}}") else b",", members, b"}}"))
