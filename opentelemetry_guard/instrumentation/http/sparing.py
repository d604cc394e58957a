"""What the SDK keeps of an instrument for a reader that has no use for it: nothing.

The SDK has a storage for each reader, and adds up each measurement in each of them: with the attributes made
comparable, under a lock, and in the buckets of a histogram. A view that drops an instrument would drop it for every
reader, and spare it the last of these alone. So the storage of one reader is given another match for the instrument,
and the instrument's measurements are handed to the other readers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import wraps
from typing import Any


class _Spared:
    """In the place of an SDK's match of view and instrument: it takes nothing, and has nothing."""

    def __init__(self, match: Any) -> None:
        self._match = match

    def __getattr__(self, name: str) -> Any:
        return getattr(self._match, name)

    def consume_measurement(self, *_measurement: object) -> None:
        """Leave it."""

    def collect(self, *_interval: object) -> Sequence[object]:
        """Return no point, but not None: the SDK exports no metric of None, and calls no exporter without a metric."""
        return []


def spare(storage: Any, instrument: Any) -> None:
    """Let the storage of one metric reader keep nothing of an instrument from now on.

    Args:
        storage: the SDK's ``MetricReaderStorage``.
        instrument: one of the SDK's.

    Raises:
        AttributeError: the SDK's release keeps them differently.
    """
    with storage._lock:
        matches = storage._get_or_init_view_instrument_match(instrument)
        storage._instrument_view_instrument_matches[instrument] = [
            match if isinstance(match, _Spared) else _Spared(match) for match in matches
        ]


_WHOLE = "_opentelemetry_guard_whole"
"""Attribute of a narrowed consumer: the SDK's, of which it is a copy."""
_NARROWED = "_opentelemetry_guard_narrowed"
"""Attribute of the SDK's consumer: the instruments that have a narrowed one in its place."""


def consumer_of(instrument: Any) -> Any:
    """Return the SDK's consumer of an instrument's measurements; None where the instrument has none of its own."""
    consumer = getattr(instrument, "_measurement_consumer", None)
    return getattr(consumer, _WHOLE, consumer)


def narrow(instrument: Any, readers: Mapping[object, Any], others: Sequence[Any]) -> None:
    """Hand an instrument's measurements to some of its readers only, until a reader comes or goes.

    How they are handed on is the SDK's. It would look up the match of view and instrument in a reader's storage for
    each measurement; once that is there it stays.

    Args:
        instrument: one of the SDK's.
        readers: the SDK's mapping of all readers to their storages, by which it is known whether they have changed.
        others: the storages of those who keep something.

    Raises:
        AttributeError: the SDK's release keeps them differently.
    """
    keeping: list[Any] = []
    for storage in others:
        keeping += storage._instrument_view_instrument_matches.get(instrument) or [storage]
    consumer = consumer_of(instrument)
    _watch(consumer)
    narrowed = copy(consumer)
    narrowed._reader_storages = dict(enumerate(keeping))
    setattr(narrowed, _WHOLE, consumer)
    if instrument not in (known := getattr(consumer, _NARROWED)):
        known.append(instrument)
    instrument._measurement_consumer = narrowed
    if consumer._reader_storages is not readers:
        _widen(consumer)  # they have changed meanwhile


def _widen(consumer: Any) -> None:
    """Let everybody be asked again, for whoever has come; who is to keep nothing keeps nothing."""
    for instrument in list(getattr(consumer, _NARROWED)):
        instrument._measurement_consumer = consumer


def _watch(consumer: Any) -> None:
    """Be told when a consumer's readers change: to look for that with each measurement costs more than it spares."""
    if not hasattr(consumer, _NARROWED):
        setattr(consumer, _NARROWED, [])
        for name in ("add_metric_reader", "remove_metric_reader"):
            setattr(consumer, name, _widening(getattr(consumer, name), consumer))


def _widening(change: Callable[..., None], consumer: Any) -> Callable[..., None]:
    @wraps(change)
    def changing(*arguments: Any, **named: Any) -> None:
        change(*arguments, **named)
        _widen(consumer)

    return changing
