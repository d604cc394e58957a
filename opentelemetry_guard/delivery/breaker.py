"""A circuit breaker: whether a route may be used now, as a state machine without clock, thread or I/O of its own."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .backoff import backoff_delay


class BreakerState(Enum):
    """The three states of a circuit breaker."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        failures: failures in a row that open it.
        failure_rate: share of failures among the last `window` requests that opens it.
        window: requests that the rate is taken over.
        recovery: seconds of the first pause; each failed probe doubles it.
        backoff: seconds that the pause after the first of the failures lasts at most that don't open it yet.
        max_recovery: seconds that a pause lasts at most.
    """

    failures: int = 5
    failure_rate: float = 0.5
    window: int = 20
    recovery: float = 1.0
    max_recovery: float = 10.0
    backoff: float = 0.5


class CircuitBreaker:
    """One route's breaker.

    Times are monotonic seconds and come from the caller. The caller also
    holds the lock, where there is more than one thread.

    Closed, it lets everything through and paces repeated failures by a
    backoff with full jitter. Open, it lets nothing through until its pause is
    over. Half-open, it lets one probe through: a success closes it, a failure
    opens it for longer.
    """

    def __init__(
        self, policy: BreakerPolicy | None = None, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.policy = policy or BreakerPolicy()
        self.state = BreakerState.CLOSED
        self.transitions = 0
        self._uniform = uniform
        self._failures = 0
        self._pauses = 0
        self._recent: deque[bool] = deque(maxlen=self.policy.window)
        self._ready_at = float("-inf")

    @property
    def ready_at(self) -> float:
        """The monotonic time from which on the next request may be made."""
        return self._ready_at

    def begin(self) -> None:
        """Note that a request is being made; an open breaker whose pause is over becomes half-open."""
        if self.state is BreakerState.OPEN:
            self._become(BreakerState.HALF_OPEN)

    def succeeded(self, now: float) -> None:
        """Note that the route works."""
        self._failures = 0
        self._recent.append(True)
        self._ready_at = now
        if self.state is not BreakerState.CLOSED:
            self._pauses = 0
            self._recent.clear()
            self._become(BreakerState.CLOSED)

    def failed(self, now: float) -> None:
        """Note that a request failed."""
        self._failures += 1
        self._recent.append(False)
        if self.state is BreakerState.CLOSED and not self._trips():
            self._ready_at = now + backoff_delay(
                self._failures, self.policy.backoff, self.policy.max_recovery, self._uniform
            )
            return
        bound = min(self.policy.max_recovery, self.policy.recovery * 2.0 ** min(self._pauses, 30))
        # Half the pause is certain, half is jitter: a probe is neither immediate nor in step with the fleet's.
        self._ready_at = now + bound / 2 + self._uniform(0.0, bound / 2)
        self._pauses += 1
        self._become(BreakerState.OPEN)

    def hurry(self, now: float) -> None:
        """Let the next request be made now (a shutdown has no time to wait for the pause)."""
        self._ready_at = min(self._ready_at, now)

    def _trips(self) -> bool:
        if self._failures >= self.policy.failures:
            return True
        full = len(self._recent) == self.policy.window
        return full and self._recent.count(False) >= self.policy.failure_rate * self.policy.window

    def _become(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self.transitions += 1
