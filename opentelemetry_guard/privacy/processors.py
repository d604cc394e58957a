"""The user's hooks, which see an event before it is cleaned and may change or drop it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from ..events import codec
from ..events.codec import Row
from ..events.jsonsafe import describe
from ..events.tally import FILTERED, PROCESSOR_ERROR, TALLY
from ..models import SecurityEvent
from ..settings.once import log_once
from ..settings.privacy import Processor

_logger = logging.getLogger(__name__)


def processed(row: Row, processors: tuple[Processor, ...], clean: Callable[[str], str]) -> Row | None:
    """Return what the processors make of an event, None where one drops it or fails; the drop is counted.

    Args:
        row: the event.
        processors: called in this order, each with what the one before has returned.
        clean: returns the text of an error without secrets.
    """
    for processor in processors:
        try:
            result = processor(_as_event(row))
            if result is None:
                TALLY.drop("events", FILTERED)
                return None
            row = _as_row(result, row)
        except Exception as error:  # noqa: BLE001  a user's code may raise anything, and the request must not see it
            TALLY.drop("events", PROCESSOR_ERROR)
            name = str(getattr(processor, "__qualname__", type(processor).__name__))
            log_once(
                _logger,
                logging.ERROR,
                f"events are dropped and counted because the processor {name} fails; the first failed with "
                f"{type(error).__name__}: {clean(describe(error))}",
                cause=f"failing processor {name}",
            )
            return None
    return row


def _as_event(row: Row) -> SecurityEvent:
    """Return a row as the model that processors get; a row is valid, so nothing is validated again."""
    fields: dict[str, object] = {name: value for name, value in row.items() if value is not None}
    fields["timestamp"] = codec.parse_timestamp(row["timestamp"])
    fields.setdefault("metadata", {})
    return SecurityEvent.model_construct(_fields_set=None, **fields)


def _as_row(result: object, before: Row) -> Row:
    """Return what a processor returned as a row; a mapping that does not say so keeps the event's key and time."""
    if not isinstance(result, (SecurityEvent, Mapping)):
        raise TypeError(f"a processor returns an event, a mapping or None, not {type(result).__name__}")
    fields = codec.fields_of(result)
    for name in ("idempotency_key", "timestamp", "event_type"):
        if fields.get(name) is None:
            fields[name] = before[name]
    return codec.to_row(fields)[0]
