"""A token bucket whose rate follows what the backend can take: slow start, then additive increase.

It is TCP's congestion control (RFC 5681) on requests in the place of segments: the rate doubles with every success up
to a threshold and rises evenly beyond it; being asked for less halves both.
"""

from __future__ import annotations

MAX_RATE = 100.0
"""Requests per second at most."""
FIRST_RATE = 10.0
"""Requests per second that a process begins with, which may be one of a fleet that is being restarted."""
RESTART_RATE = 5.0
"""Requests per second after an outage: what is fresh then waits for a fifth of a second."""
FLEET_RESTART_RATE = 1.0
"""The same in a large fleet, all of which returns with what has piled up."""
RESTART_THRESHOLD = 8.0
"""Requests per second up to which the rate doubles then."""
MIN_RATE = 0.1
"""Requests per second at least."""
INCREASE = 2.0
"""What a success adds beyond the threshold."""
BURST = 20.0
"""Requests that may be saved up for a burst: those of a second, this many at most, and one at least."""


class RateLimiter:
    """Paces the requests of one route. Times are monotonic seconds and come from the caller, who holds the lock."""

    def __init__(self, rate: float = FIRST_RATE) -> None:
        """Begin with `rate` requests per second, which double with every success."""
        self.rate = rate
        self._threshold = MAX_RATE
        self._tokens = self._room
        self._filled_at: float | None = None

    def ready_at(self, now: float) -> float:
        """Return the time from which on there is a token; `now` where there is one already."""
        self._fill(now)
        return now if self._tokens >= 1.0 else now + (1.0 - self._tokens) / self.rate

    def take(self, now: float) -> None:
        """Spend a token."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1.0)

    def speed_up(self, now: float) -> None:
        """Note a success."""
        self._fill(now)
        grown = 2.0 * self.rate if self.rate < self._threshold else self.rate + INCREASE
        self.rate = min(MAX_RATE, grown)

    def slow_down(self, now: float) -> None:
        """Note that the backend has too much to do."""
        self._fill(now)
        self.rate = self._threshold = max(MIN_RATE, self.rate / 2.0)
        self._tokens = min(self._room, self._tokens)

    def restart(self, now: float, rate: float = RESTART_RATE) -> None:
        """Begin slowly, with `rate` requests per second: an outage is over."""
        self._fill(now)
        self.rate, self._threshold = rate, RESTART_THRESHOLD
        self._tokens = 0.0

    @property
    def _room(self) -> float:
        # A slow rate saves up no burst: the backend has just asked for less.
        return min(BURST, max(1.0, self.rate))

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(self._room, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
