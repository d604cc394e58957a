"""When an agent may come back to a backend that has too much to do, as one of a fleet that it can't see.

While everything is refused with 429 or 503, each agent asks once in a *period*, from a moment on that chance gives it:
so the fleet asks evenly, and no more often than its size makes it. After the outage an agent's turn lasts until it is
refused, and the more it could deliver in it, the sooner comes its next: the backend's capacity is divided into turns,
and refusals stay a small share of the requests. This is the backoff of a shared channel (slotted ALOHA, Ethernet), of
which nobody knows how many use it either; ``make simulate`` shows what comes of it.

It is a state machine without clock, thread or I/O of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

PERIOD = 105.0
"""Seconds between two tries of one agent: a fleet of 10,000 makes 95 a second."""
LASTS = 10.0
"""Seconds of nothing but refusals after which it is no passing one."""
MEMORY = 600.0
"""Seconds after such a refusal during which any other ends a turn; else a refusal is tried again soon."""
FAIR_TURN = 4
"""Requests accepted in a turn after which the next one comes a period later."""
SHORT_TURN = 3
"""Requests that a shorter turn counts for: chance may have cut it short."""
PROBE_SECONDS = 10.0
"""Seconds that the other routes leave to a try before they make one of their own."""


class Overload:
    """What the routes of one destination know about it together. Times are monotonic seconds, from the caller.

    The routes' threads share it without a lock: every field is set as a whole, and where two answers come at one
    moment, the worst is a try that is made too early or too late. `endings` counts the overloads that have ended.
    """

    def __init__(self, period: float = PERIOD, uniform: Callable[[float, float], float] = random.uniform) -> None:
        """Make one.

        Args:
            period: seconds between two tries.
            uniform: the source of chance.
        """
        self.ready_at = 0.0
        self.endings = 0
        self._period = period
        self._uniform = uniform
        self._refused_since: float | None = None
        self._refusals = 0
        self._accepted = 0
        self._placed = False
        self._lasted_at = float("-inf")

    def begin(self, now: float) -> None:
        """Note that a request is being made: while the overload lasts, it is the only one."""
        if self._placed and self._refusals:
            self.ready_at = now + PROBE_SECONDS

    def succeeded(self, now: float) -> None:
        """Note that the backend has answered a request as it should, on whichever route: all may go on."""
        if self._placed and self._refusals:
            self.endings += 1
        self._refused_since = None
        self._refusals = 0
        self._accepted += 1
        self._placed = self._placed and now - self._lasted_at < MEMORY
        self.ready_at = now

    def refused(self, now: float, asked: float) -> None:
        """Note that the backend has too much to do; `asked` is what it wants us to wait, in seconds."""
        if self._refused_since is None:
            self._refused_since = now
        self._refusals += 1
        if self._refusals > 1 and now - self._refused_since >= LASTS:
            self._lasted_at = now
        elif now - self._lasted_at >= MEMORY:
            return
        accepted, self._accepted = self._accepted, 0
        self.ready_at = now + self._pause(accepted, asked)

    def hurry(self, now: float) -> None:
        """Let the next request be made now (a shutdown has no time to wait)."""
        self.ready_at = min(self.ready_at, now)

    def _pause(self, accepted: int, asked: float) -> float:
        if not self._placed:
            self._placed = True
            return asked + self._uniform(0.0, self._period)
        if not accepted:
            return self._period * self._uniform(0.95, 1.05)
        return self._period * (FAIR_TURN / max(SHORT_TURN, accepted)) * self._uniform(0.5, 1.5)
