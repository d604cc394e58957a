"""When an agent may come back to a backend that is away or has too much to do, as one of a fleet that it can't see.

While nothing is taken, each agent asks once in a *period*, from a moment on that chance gives it: so the fleet asks
evenly, and the period follows from the fleet's size, which an agent has to be told. After the outage an agent's *turn*
lasts until it is refused, or until answers get slow, which comes first where a backend lets requests wait: the
backend's capacity is divided into turns, and refusals stay a small share of the requests. This is the backoff of a
shared channel (slotted ALOHA, Ethernet), with delay as the sign of congestion (TCP Vegas); ``make simulate`` shows what
comes of it.

It is a state machine without clock, thread or I/O of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .limiter import FLEET_RESTART_RATE, RESTART_RATE

FLEET_SIZE = 1_000
"""Agents that a fleet has where nobody says how many; so one that is alone is back within seconds."""
PROBES = 95.0
"""Tries a second that a fleet makes while nothing is taken."""
LASTS = 10.0
"""Seconds of nothing but failures after which it is an outage, and no passing failure."""
MEMORY = 600.0
"""Seconds after such a failure during which a refusal or a slow answer ends a turn."""
FAIR_TURN = 4
"""Requests accepted in a turn that a refusal ends after which the next one comes a period later."""
SHORT_TURN = 3
"""Requests that a shorter turn counts for: chance may have cut it short."""
SLOW_SECONDS, SLOW_FACTOR = 0.25, 3.0
"""An answer is slow that took longer than so many seconds, and so many times as long as the fastest."""
YIELD = 0.2
"""Periods to the next turn after one that a slow answer has ended."""
TRY_SECONDS = 10.0
"""Seconds that the other routes leave to a try before they make one of their own."""


class Outage:
    """What the routes of one destination know about it together. Times are monotonic seconds, from the caller.

    The routes' threads share it without a lock: every field is set as a whole, and where two answers come at one
    moment, the worst is a try that is made too early or too late. `endings` counts the outages that have ended.
    """

    def __init__(self, fleet_size: int = FLEET_SIZE, uniform: Callable[[float, float], float] = random.uniform) -> None:
        """Make one.

        Args:
            fleet_size: agents that send to the backend, about.
            uniform: the source of chance.
        """
        self.ready_at = float("-inf")
        self.endings = 0
        self._period = fleet_size / PROBES
        # One that may be alone has nobody to leave its place to, and nobody to come back with.
        self._yields = fleet_size > FLEET_SIZE
        self._uniform = uniform
        self._failed_since: float | None = None
        self._failures = 0
        self._accepted = 0
        self._usual = 0.0  # the fastest answer in quiet times
        self._placed = False
        self._lasted_at = float("-inf")

    @property
    def restart_rate(self) -> float:
        """Requests per second that a route begins with when it is over."""
        return FLEET_RESTART_RATE if self._yields else RESTART_RATE

    def remember(self, now: float) -> None:
        """Note that there was an outage before this process: what has waited in its queue tells."""
        self._lasted_at = now

    def begin(self, now: float) -> None:
        """Note that a request is being made: while the outage lasts, it is the only one."""
        if self._placed:
            self.ready_at = now + TRY_SECONDS

    def succeeded(self, now: float, seconds: float) -> None:
        """Note that the backend has answered a request as it should within `seconds`, on whichever route."""
        if self._placed:
            self.endings += 1
        self._placed = False
        self._failed_since = None
        self._failures = 0
        self._accepted += 1
        self.ready_at = now
        if now - self._lasted_at >= MEMORY:
            self._usual = min(self._usual or seconds, seconds)
        elif self._yields and seconds > max(SLOW_SECONDS, SLOW_FACTOR * self._usual) * self._uniform(0.5, 1.5):
            self.ready_at += YIELD * self._period * self._uniform(0.5, 1.5)

    def failed(self, now: float, asked: float, busy: bool) -> None:
        """Note that the backend took nothing.

        Args:
            now: when that was known.
            asked: seconds that it wants us to wait.
            busy: whether it has too much to do; else nobody has answered.
        """
        if self._failed_since is None:
            self._failed_since = now
        self._failures += 1
        # Who asks for a long pause says itself that it lasts.
        if asked >= LASTS or (self._failures > 1 and now - self._failed_since >= LASTS):
            self._lasted_at = now
            self._accepted = 0
        elif not busy or now - self._lasted_at >= MEMORY:
            return
        accepted, self._accepted = self._accepted, 0
        self.ready_at = now + self._pause(accepted, asked)

    def hurry(self, now: float) -> None:
        """Let the next request be made now (a shutdown has no time to wait)."""
        self.ready_at = min(self.ready_at, now)

    def _pause(self, accepted: int, asked: float) -> float:
        if accepted:
            return self._period * (FAIR_TURN / max(SHORT_TURN, accepted)) * self._uniform(0.5, 1.5)
        if self._placed:
            return self._period * self._uniform(0.95, 1.05)
        self._placed = True
        return asked + self._uniform(0.0, max(asked, self._period))
