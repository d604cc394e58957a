"""One route of a backend (events, metrics, status or rules): when its next request may be made."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeAlias

from ..queue.base import Batch
from ..settings.once import log_once
from .breaker import BreakerPolicy, BreakerState, CircuitBreaker
from .limiter import RateLimiter
from .outage import Outage
from .outcome import Outcome, Verdict
from .telling import Telling

_logger = logging.getLogger(__name__)

HOLD_SECONDS = 300.0
"""Seconds between two tries at most, while key, project or address are refused."""
FIRST_REFUSAL_SECONDS = 5.0
"""Seconds to the first of them; each further one doubles them, up to the above."""
FIRST_HOLD_SECONDS = 30.0
"""The same after an answer that may be a proxy's."""
REFUSED_PAUSE = 0.1
"""Seconds to the next request after rows were refused, so that narrowing down is no flood where all are."""


RouteName: TypeAlias = str
ROUTES: tuple[RouteName, ...] = ("events", "metrics", "status", "rules")
"""The routes of a Guard backend."""

Observe = Callable[[RouteName, float, Outcome, Batch | None], None]
"""Takes the route, the seconds, the outcome, and the batch that was sent, if any."""


class Route:
    """Breaker, limiter and the server's own wishes of one route. Only the thread that makes its requests changes it.

    Times are monotonic seconds. `complaint` is for what the caller has
    against an answer although the route works.
    """

    def __init__(
        self,
        name: RouteName,
        policy: BreakerPolicy | None = None,
        observe: Observe | None = None,
        outage: Outage | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        whose: str = "Guard",
        telling: Telling | None = None,
    ) -> None:
        """Make a route.

        Args:
            name: what it carries.
            policy: when its circuit breaker opens.
            observe: told of every request that has ended.
            outage: what the routes of the destination know together; one of its own if None.
            uniform: the source of jitter.
            whose: what the backend is called in messages.
            telling: says when the destination is away; None for a route that carries no rows.
        """
        self.name = name
        self._telling = telling
        self._whose = whose
        self._observe = observe
        self._began_at = 0.0
        self.breaker = CircuitBreaker(policy, uniform)
        self.limiter = RateLimiter()
        self.outage = outage or Outage(uniform=uniform)
        self._endings = 0
        self._uniform = uniform
        self.held_for: str | None = None
        self.remedy = ""
        self._holds = 0
        self.last_error: str | None = None
        self.complaint: str | None = None
        self._not_before = float("-inf")

    def ready_at(self, now: float) -> float:
        """Return the time from which on the next request may be made."""
        return max(self.breaker.ready_at, self.outage.ready_at, self._not_before, self.limiter.ready_at(now))

    def hurry(self, now: float) -> None:
        """Let the next request be made now, unless the server has asked to wait or refuses us."""
        self.breaker.hurry(now)
        self.outage.hurry(now)

    def begin(self, now: float) -> None:
        """Note that a request is being made."""
        before = self.breaker.state
        self._began_at = now
        self.breaker.begin()
        self.outage.begin(now)
        self.limiter.take(now)
        self._log_transition(before, "")

    def settle(self, outcome: Outcome, now: float, batch: Batch | None = None) -> None:
        """Note how the request ended, and then tell the observer; `batch` is what it carried."""
        before = self.breaker.state
        if outcome.verdict is Verdict.MISCONFIGURED:
            self._hold(outcome, now)
        elif outcome.verdict is Verdict.RETRY:
            self.last_error = outcome.text
            asked = outcome.retry_after or 0.0
            busy = outcome.timed_out or outcome.status in (429, 503)
            if busy:
                self.limiter.slow_down(now)
            if busy or outcome.status in (0, 502, 504):
                self.outage.failed(now, asked, busy)
            self.breaker.failed(now)
            # To be asked to slow down is no trouble, unless it lasts.
            if self._telling is not None and (outcome.status != 429 or self.breaker.state is not BreakerState.CLOSED):
                self._telling.failed(self.name, outcome.text, now)
            # A fleet that is told one and the same number would return as one, unless it is spread already.
            spread = self.outage.ready_at > now + asked
            self._not_before = now + asked * (1.0 if spread else self._uniform(1.0, 2.0))
        else:
            # Every other answer is the backend's own about this batch: the route works.
            self._resume(now)
            self.breaker.succeeded(now)
            self.outage.succeeded(now, now - self._began_at)
            if outcome.verdict is Verdict.REFUSED:
                self._not_before = now + REFUSED_PAUSE
            else:
                self.limiter.speed_up(now)
            if self.outage.endings != self._endings:
                self._endings = self.outage.endings
                self.limiter.restart(now, self.outage.restart_rate)
        self._log_transition(before, outcome.text)
        if self._observe is not None:
            # Last: whoever is told looks at the route, and must find it as this answer has left it.
            self._observe(self.name, now - self._began_at, outcome, batch)

    def _hold(self, outcome: Outcome, now: float) -> None:
        # Where the batch is lost by a refusal, as OTLP has it, a try is dear.
        first = FIRST_HOLD_SECONDS if outcome.may_pass or outcome.is_final else FIRST_REFUSAL_SECONDS
        pause = min(HOLD_SECONDS, first * 2.0 ** min(self._holds, 16))
        if self.held_for is None:
            remedy = outcome.remedy or (
                "check OTEL_EXPORTER_GUARD_API_KEY, OTEL_EXPORTER_GUARD_PROJECT_ID and OTEL_EXPORTER_GUARD_ENDPOINT"
            )
            log_once(
                _logger,
                logging.ERROR,
                f"the {self._whose} backend can't be used for {self.name} ({outcome.text}): {remedy}. "
                f"Rows are kept. The next try is in {pause:.0f} seconds, each further one after twice as long up to "
                f"{HOLD_SECONDS / 60:.0f} minutes, and delivery resumes by itself",
                cause=f"the {self._whose} backend is refused with status {outcome.status}",
            )
            if self._telling is not None:
                self._telling.refused(self.name)
        self._holds += 1
        self.held_for = self.last_error = outcome.text
        self.remedy = outcome.remedy
        self._not_before = now + pause

    def _resume(self, now: float) -> None:
        if self._telling is not None:
            self._telling.succeeded(self.name, now)
        self.held_for = self.last_error = None
        self._holds = 0
        self._not_before = now

    def _log_transition(self, before: BreakerState, why: str) -> None:
        after = self.breaker.state
        if after is before:
            return
        reason = f" ({why})" if after is BreakerState.OPEN and before is BreakerState.CLOSED else ""
        _logger.info("circuit breaker for %s %s: %s%s", self._whose, self.name, after.value, reason)
