"""Events as a file: CSV for spreadsheets, the formats of `siem` for programs, written while they are read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

import orjson

from ...siem.formats import FORMATS, Format
from ..storage.search import FoundEvent

COLUMNS = (
    "timestamp",
    "received_at",
    "event_type",
    "ip_address",
    "country",
    "method",
    "endpoint",
    "status_code",
    "action_taken",
    "reason",
    "user_agent",
    "response_time",
    "decorator_type",
    "rule_type",
    "pattern_matched",
    "handler_name",
    "trace_id",
    "span_id",
    "idempotency_key",
    "batch_id",
    "metadata",
)
"""The columns of a CSV file; the identifiers of the trace come out of the metadata."""

_CHUNK_CHARACTERS = 64 * 1024

# A spreadsheet takes a cell that begins with one of these for a formula, and runs it; some take the wide forms too.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def safe_cell(value: object) -> str:
    """Return a value as the text of a cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def csv_lines(events: Iterable[FoundEvent]) -> Iterator[str]:
    """Give a CSV file in pieces: a line with the names of `COLUMNS`, then a line for each event."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for found in events:
        event: dict[str, Any] = orjson.loads(found.row)
        metadata = event.get("metadata") or {}
        extra = {
            "received_at": utc_text(found.received_at),
            "batch_id": found.batch_id,
            "trace_id": metadata.get("trace_id"),
            "span_id": metadata.get("span_id"),
            "metadata": orjson.dumps(metadata).decode() if metadata else "",
        }
        writer.writerow([safe_cell(extra.get(name, event.get(name))) for name in COLUMNS])
        if buffer.tell() > _CHUNK_CHARACTERS:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def json_lines(events: Iterable[FoundEvent]) -> Iterator[str]:
    """Give a JSON array of the events as they were sent, in pieces."""
    separator = "[\n"
    for found in events:
        yield separator + found.row
        separator = ",\n"
    yield "\n]\n" if separator != "[\n" else "[]\n"


def format_lines(written: Format, events: Iterable[FoundEvent]) -> Iterator[bytes]:
    """Give a line for each event, in pieces."""
    piece = bytearray()
    for found in events:
        piece += written.line(orjson.loads(found.row)) + b"\n"
        if len(piece) > _CHUNK_CHARACTERS:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


@dataclass(frozen=True, slots=True)
class Export:
    """A kind of file: what the dashboard calls it, how it is named and served, and how it is written."""

    label: str
    suffix: str
    media_type: str
    pieces: Callable[[Iterable[FoundEvent]], Iterator[str | bytes]]


_LABELS = {"ndjson": "JSON lines", "ocsf": "OCSF", "ecs": "ECS", "cef": "CEF"}

EXPORTS: Mapping[str, Export] = {
    "csv": Export("CSV", "csv", "text/csv; charset=utf-8", csv_lines),
    "json": Export("JSON", "json", "application/json", json_lines),
    **{
        name: Export(_LABELS[name], written.suffix, written.media_type, partial(format_lines, written))
        for name, written in FORMATS.items()
    },
}
"""The files that events are exported as, by the name in the URL."""


def utc_text(moment: float) -> str:
    """Spell Unix seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
