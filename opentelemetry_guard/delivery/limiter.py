"""A token bucket whose rate follows what the backend can take: additive increase, multiplicative decrease."""

from __future__ import annotations


class RateLimiter:
    """Paces the requests of one route. Times are monotonic seconds and come from the caller, who holds the lock.

    The rate starts at `max_rate` requests per second, halves when the backend
    says that it has too much to do (429, 503, a timeout), and rises by
    `increase` with every success. It never falls below `min_rate`, one
    request in ten seconds.
    """

    def __init__(
        self, max_rate: float = 100.0, min_rate: float = 0.1, increase: float = 2.0, burst: float = 20.0
    ) -> None:
        self.rate = max_rate
        self._max_rate = max_rate
        self._min_rate = min_rate
        self._increase = increase
        self._burst = burst
        self._tokens = burst
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
        self.rate = min(self._max_rate, self.rate + self._increase)

    def slow_down(self, now: float) -> None:
        """Note that the backend has too much to do."""
        self._fill(now)
        self.rate = max(self._min_rate, self.rate / 2.0)

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            # A slow rate saves up no burst: the backend has just asked for less.
            room = min(self._burst, max(1.0, self.rate))
            self._tokens = min(room, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
