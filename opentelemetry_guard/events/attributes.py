"""An event as the flat attributes of a log record or a span event, and back.

Both directions go by one table, `semconv.EVENT_ATTRIBUTES`, so that what is
written is what is read. What comes back is the same row, types included, also
after OTLP and a Collector: each value is one that OTLP has a form for, and a
map's empty name, which the SDK would drop, is written as `EMPTY`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

from opentelemetry.util.types import AnyValue

from .. import semconv
from ..models import new_idempotency_key
from .codec import (
    DEFAULTS,
    FIELDS,
    Row,
    coerced,
    format_nanoseconds,
    format_timestamp,
    parse_timestamp,
    to_row,
    uuid_key,
)
from .enrichment import RECENT_EVENT_COUNT, THREAT_SCORE
from .jsonsafe import JSON, describe, json_safe, key_text, safe_text

MAX_FLAT_METADATA = 64
"""Values of the metadata with an attribute of their own; those beyond share one, within the SDK's default of 128."""
MAX_FLAT_EXTRA = 24
"""The same of fields that the contract doesn't know."""
TRUNCATED = "guard_truncated"
"""Under this name the metadata say what the SDK's limits took.

``cut_fields`` are the fields of which a length limit took an end, ``dropped_attributes`` is how many attributes a count
limit took.
"""
EMPTY = "(empty)"
"""The name of a map's value that has none; a name that is this is written with one more, and so on."""

_KNOWN = frozenset(FIELDS)
_METADATA, _EXTRA = semconv.GUARD_METADATA + ".", semconv.GUARD_EXTRA + "."
_FIELD_OF: Mapping[str, str] = {known.name: known.place for known in semconv.EVENT_ATTRIBUTES if "." not in known.place}
_KEY_OF: Mapping[str, str] = {
    known.name: known.place.partition(".")[2] for known in semconv.EVENT_ATTRIBUTES if "." in known.place
}
# The attributes in their order, by the field or the metadata's key. An endpoint has two, and is a case of its own.
_OF_ROW = {
    known.place: known.name
    for known in semconv.EVENT_ATTRIBUTES
    if "." not in known.place and known.place != "endpoint"
}
_OF_METADATA = {key: name for name, key in _KEY_OF.items()}
_NUMBERS = frozenset({THREAT_SCORE, RECENT_EVENT_COUNT})
_TEMPLATE = re.compile(r"(?:[^{}]|\{[A-Za-z_]\w{0,63}(?::[a-z]{1,16})?\})+\Z")
"""The template of a route: its parameters are names in braces (Starlette's `compile_path`)."""


def to_attributes(row: Row, *, exact_time: bool = True, logged: bool = False) -> dict[str, AnyValue]:
    """Return a row as flat attributes, the most important last.

    Args:
        row: what `codec.to_row` made.
        exact_time: whether the timestamp beside the attributes says the event's time; where not, an attribute does.
        logged: for a span event: whether a log record carries the same event, so that the span exporter can leave it
            to the log exporter.
    """
    attributes: dict[str, AnyValue] = {}
    known: dict[str, AnyValue] = {}
    extra: Row = {}
    for name, value in row.items():
        if attribute := _OF_ROW.get(name):
            if value != DEFAULTS.get(name):  # an empty text and nothing differ where the default is nothing
                known[attribute] = value
        elif name not in _KNOWN:
            extra[name] = value
    if extra:
        _spread(extra, semconv.GUARD_EXTRA, MAX_FLAT_EXTRA, attributes)
    metadata = row.get("metadata")
    if isinstance(metadata, dict) and metadata:
        if not _OF_METADATA.keys().isdisjoint(metadata):
            named = {key: metadata[key] for key in _OF_METADATA if key in metadata and _has_place(key, metadata[key])}
            metadata = {key: value for key, value in metadata.items() if key not in named}
            known |= {_OF_METADATA[key]: value for key, value in named.items()}
        _spread(metadata, semconv.GUARD_METADATA, MAX_FLAT_METADATA, attributes)
    endpoint = row.get("endpoint")
    if isinstance(endpoint, str):
        known[semconv.HTTP_ROUTE if "{" in endpoint and _TEMPLATE.match(endpoint) else semconv.URL_PATH] = endpoint
    for field in semconv.EVENT_ATTRIBUTES:
        if field.name in known:
            attributes[field.name] = known[field.name]
    if not exact_time:
        attributes[semconv.GUARD_TIMESTAMP] = str(row["timestamp"])
    if logged:
        attributes[semconv.GUARD_LOGGED] = True
    return attributes


def _has_place(key: str, value: JSON) -> bool:
    """Whether a value of the metadata is what the attribute of its key holds."""
    return type(value) is int if key in _NUMBERS else isinstance(value, str)


def _spread(values: Row, prefix: str, most: int, attributes: dict[str, AnyValue]) -> None:
    """Write values as attributes of their own, and those beyond the first ones as one map."""
    if len(values) > most:
        attributes[prefix] = _any(dict(islice(values.items(), most, None)))
    for key, value in islice(values.items(), most):
        attributes[f"{prefix}.{key}"] = value if not isinstance(value, (dict, list)) else _any(value)


def _any(value: JSON) -> AnyValue:
    if isinstance(value, dict):
        return {name if name.replace(EMPTY, "") else name + EMPTY: _any(item) for name, item in value.items()}
    return [_any(item) for item in value] if isinstance(value, list) else value


def _json(value: JSON) -> JSON:
    """Return what `_any` was given."""
    if isinstance(value, dict):
        return {
            name if name.replace(EMPTY, "") else name.removesuffix(EMPTY): _json(item) for name, item in value.items()
        }
    return [_json(item) for item in value] if isinstance(value, list) else value


def from_attributes(attributes: Mapping[str, object], nanoseconds: int, dropped: int = 0) -> Row:
    """Return the row that `to_attributes` was given.

    A value that has not the type of its field is kept as text in
    ``metadata["invalid_fields"]``. What the SDK's limits took is told in ``metadata["guard_truncated"]``. A
    key that was cut is replaced, because many events may share what is left of
    it, and events with the same key are delivered once.

    Args:
        attributes: of a log record or a span event.
        nanoseconds: its time since 1970.
        dropped: how many attributes a count limit took.
    """
    row: Row = {}
    metadata: Row = {}
    cut = _cut(attributes)
    invalid: Row = {}
    key: object = None
    timestamp = None
    for name, value in attributes.items():
        if name == semconv.LOG_RECORD_UID:
            key = value
        elif field := _FIELD_OF.get(name):
            converted = None if value is None else coerced(field, value)
            if converted is not None:
                row[field] = converted
            elif value is not None:
                invalid[field] = describe(value)
        elif known := _KEY_OF.get(name):
            metadata[known] = _json(json_safe(value))
        elif name.startswith(_METADATA):
            metadata[safe_text(name.removeprefix(_METADATA))] = _json(json_safe(value))
        elif name.startswith(_EXTRA):
            _add({name.removeprefix(_EXTRA): value}, row)
        elif name == semconv.GUARD_METADATA and isinstance(value, Mapping):
            metadata.update(_json(json_safe(value)))  # type: ignore[arg-type]  # a mapping stays one
        elif name == semconv.GUARD_EXTRA and isinstance(value, Mapping):
            _add(value, row)
        elif name == semconv.GUARD_TIMESTAMP:
            timestamp = parse_timestamp(value)
    row["timestamp"] = format_nanoseconds(nanoseconds) if timestamp is None else format_timestamp(timestamp)
    row.setdefault("event_type", "unknown")
    row["idempotency_key"] = uuid_key(key, invalid)
    if semconv.LOG_RECORD_UID in cut and invalid.pop("idempotency_key", None) is not None:
        row["idempotency_key"] = new_idempotency_key()
    if invalid:
        metadata["invalid_fields"] = invalid
    if cut or dropped:
        fields: list[JSON] = [_place(name) for name in cut]
        metadata[TRUNCATED] = {"cut_fields": fields, "dropped_attributes": dropped}
    if metadata:
        row["metadata"] = metadata
    return row


def from_record(body: object, attributes: Mapping[str, object], nanoseconds: int, dropped: int = 0) -> Row:
    """Return the row of a log record.

    Args:
        body: of the record; a map holds an event's fields, as older releases wrote it.
        attributes: of the record.
        nanoseconds: its time since 1970.
        dropped: how many attributes a count limit took.
    """
    if isinstance(body, Mapping):
        at = format_nanoseconds(nanoseconds)
        known = {"timestamp": at, "event_type": attributes.get(semconv.GUARD_EVENT_TYPE)}
        row = to_row({**known, **{key: value for key, value in body.items() if value is not None}})[0]
        if parse_timestamp(body.get("timestamp")) is None:
            row["timestamp"] = at  # which is nearer than the time of reading
        return row
    row = from_attributes(attributes, nanoseconds, dropped)
    if dropped and isinstance(body, str):
        row.setdefault("reason", safe_text(body))
    return row


def _add(fields: Mapping[str, object], row: Row) -> None:
    for name, value in fields.items():
        if name not in _KNOWN:
            row[key_text(name)] = _json(json_safe(value))


def _place(name: str) -> str:
    """Return where in a row the value of an attribute is."""
    if field := _FIELD_OF.get(name):
        return field
    if known := _KEY_OF.get(name):
        return f"metadata.{known}"
    return name.removeprefix(_EXTRA).removeprefix("guard.")


def _cut(attributes: Mapping[str, object]) -> list[str]:
    """Return the names of the attributes that a length limit has cut, or may have: the SDK doesn't say which."""
    told = attributes.get(semconv.GUARD_TRUNCATED)
    if isinstance(told, Mapping):
        return [key_text(name) for name in told]
    limit = getattr(attributes, "max_value_len", None)
    if not isinstance(limit, int):
        return []
    return [
        name
        for name, value in attributes.items()
        if isinstance(value, (str, tuple, Mapping)) and length_of_text(value) >= limit
    ]


def length_of_text(value: object) -> int:
    """Return the characters of a value, of the longest text in a map or a list, 0 where there is none."""
    if isinstance(value, str):
        return len(value)
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return max(map(length_of_text, inner), default=0)
