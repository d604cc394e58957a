"""Events as their log records tell them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry._logs import LogRecord

from opentelemetry_guard.events.attributes import from_attributes
from opentelemetry_guard.events.codec import EncodedRow, Row
from opentelemetry_guard.events.enrichment import CORRELATION_KEY, RECENT_EVENT_COUNT, RESOURCE_KEYS, THREAT_SCORE

ENRICHMENT = frozenset({THREAT_SCORE, CORRELATION_KEY, RECENT_EVENT_COUNT, *RESOURCE_KEYS.values()})


def without_enrichment(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's metadata as they were before emission and exporters added to them."""
    return {key: value for key, value in metadata.items() if key not in ENRICHMENT}


def row_of(record: LogRecord) -> dict[str, Any]:
    """Return the row of a log record's attributes; `metadata` is there in any case."""
    row = from_attributes(record.attributes or {}, record.timestamp or record.observed_timestamp or 0)
    return {"metadata": {}, **row}


def decoded(rows: Iterable[Row | EncodedRow]) -> list[dict[str, Any]]:
    """Return rows as they are delivered, none of them encoded."""
    return [row.decoded() if isinstance(row, EncodedRow) else row for row in rows]
