"""What guard-core reports with every request and nobody has to act on: one of a kind a minute, with a count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PERIOD = 60.0
"""Seconds in which one report of a kind passes."""

FOLDED = "folded"
"""Metadata key: how many reports of the same kind were left out since the last one that passed."""


def is_noise(event_type: str) -> bool:
    """Whether reports of this type come in floods that tell nothing new."""
    return event_type == "security_headers_applied" or event_type.startswith("pattern_anomaly_")


class NoiseFilter:
    """Lets one report of a kind pass in each period.

    The lock guards both dictionaries and is held for look-ups only.
    """

    def __init__(self, period: float = PERIOD, clock: Callable[[], float] = time.monotonic) -> None:
        """Build a filter.

        Args:
            period: seconds.
            clock: tells seconds that never go back.
        """
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._passed_at: dict[str, float] = {}
        self._folded: dict[str, int] = {}

    def admit(self, event_type: str) -> int | None:
        """Return how many were folded since the last one that passed, or None where this one is folded too."""
        now = self._clock()
        with self._lock:
            passed_at = self._passed_at.get(event_type)
            if passed_at is not None and now - passed_at < self._period:
                self._folded[event_type] = self._folded.get(event_type, 0) + 1
                return None
            self._passed_at[event_type] = now
            return self._folded.pop(event_type, 0)
