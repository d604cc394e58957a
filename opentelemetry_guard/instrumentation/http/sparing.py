"""What the SDK keeps of an instrument for a reader that has no use for it: nothing.

The SDK has a storage for each reader, and adds up each measurement in each of them: with the attributes made
comparable, under a lock, and in the buckets of a histogram. A view that drops an instrument would drop it for every
reader, and spare it the last of these alone. So the storage of one reader is given another match for the instrument,
and the instrument's measurements are handed to the other readers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
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


class _Narrowed:
    """In the place of the SDK's consumer of an instrument's measurements: it asks those alone who keep any of them.

    That holds for the readers of one moment. With others, everybody is asked, and who is to keep nothing keeps nothing.
    """

    def __init__(self, consumer: Any, readers: Mapping[object, Any], keeping: Sequence[Any]) -> None:
        self.consumer = consumer
        self._readers = readers
        # How it asks is the SDK's. It would look up the match of view and instrument in a reader's storage for each
        # measurement; once that is there it stays.
        self._narrowed = copy(consumer)
        self._narrowed._reader_storages = dict(enumerate(keeping))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.consumer, name)

    def consume_measurement(self, measurement: object) -> None:
        """Hand a measurement on."""
        asked = self._narrowed if self.consumer._reader_storages is self._readers else self.consumer
        asked.consume_measurement(measurement)


def consumer_of(instrument: Any) -> Any:
    """Return the SDK's consumer of an instrument's measurements; None where the instrument has none of its own."""
    consumer = getattr(instrument, "_measurement_consumer", None)
    return consumer.consumer if isinstance(consumer, _Narrowed) else consumer


def narrow(instrument: Any, readers: Mapping[object, Any], others: Sequence[Any]) -> None:
    """Hand an instrument's measurements to some of its readers only, for as long as these are its readers.

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
    instrument._measurement_consumer = _Narrowed(consumer_of(instrument), readers, keeping)
