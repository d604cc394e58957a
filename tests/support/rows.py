"""Events as their log records tell them."""

from __future__ import annotations

from typing import Any

from opentelemetry._logs import LogRecord

from opentelemetry_guard.events.attributes import from_attributes


def row_of(record: LogRecord) -> dict[str, Any]:
    """Return the row of a log record's attributes; `metadata` is there in any case."""
    row = from_attributes(record.attributes or {}, record.timestamp or record.observed_timestamp or 0)
    return {"metadata": {}, **row}
