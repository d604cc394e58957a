"""What the SDK keeps of an instrument for a reader that has no use for it: nothing.

The SDK has a storage for each reader, and adds up each measurement in each of them: with the attributes made
comparable, under a lock, and in the buckets of a histogram. A view that drops an instrument would drop it for every
reader, and spare it the last of these alone. So the storage of one reader is given another match for the instrument.
"""

from __future__ import annotations

from collections.abc import Sequence
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
