"""How long the application may wait for Redis: one allowance for all the batches that it appends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LEAST_SECONDS = 0.02
"""A wait shorter than this gets hardly any answer and is not begun."""


class Allowance:
    """Seconds of waiting that can be spent; what was spent comes back at the same number of seconds per second.

    Threads that wait at the same time each spend, and may together spend more
    than there is; the level never goes below nothing, so that nobody pays for
    it later.

    `_lock` guards the level and the time it was true at.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with all of `seconds`, which is also the most that there can be; `clock` returns seconds."""
        self._lock = threading.Lock()
        self._most = seconds
        self._clock = clock
        self._level = seconds
        self._at = clock()

    def left(self) -> float:
        """Return how many seconds may be waited now; 0 when it is too few to begin."""
        with self._lock:
            level = self._refilled()
        return level if level >= min(LEAST_SECONDS, self._most) else 0.0

    def spend(self, seconds: float) -> None:
        """Take off what was waited."""
        with self._lock:
            self._level = max(0.0, self._refilled() - seconds)

    def _refilled(self) -> float:
        """Bring the level up to date; the caller holds the lock."""
        now = self._clock()
        self._level = min(self._most, self._level + max(0.0, now - self._at) * self._most)
        self._at = now
        return self._level
