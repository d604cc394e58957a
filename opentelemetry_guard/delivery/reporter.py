"""Tells the backend how this process is doing: at the start, now and then, when that changes, and at the end."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.instrumentation.utils import suppress_instrumentation

from ..once import log_once
from .control import Control
from .outcome import Outcome, Verdict
from .route import Route
from .transport import Transport

if TYPE_CHECKING:
    from ..models import AgentStatus

_logger = logging.getLogger(__name__)

CALL_SECONDS = 10.0
"""Seconds that one report may take at most, whatever the request timeout is: other deliveries' wait behind it."""
CHANGE_SECONDS = 10.0
"""Seconds between two reports at least, where the interval is longer and the state goes up and down."""
FINAL_SECONDS = 1.0
"""Seconds that the last report may take at most."""
CHILD_PAUSE = (0.1, 1.0)
"""Least and most seconds from a fork to the child's first report, which spreads siblings."""


class StatusReporter:
    """Posts one delivery's status.

    `_calling` is held for a whole report, so that the last one doesn't meet
    one that is under way. The times are monotonic seconds; `due_at` is
    written by several threads, each of which means "not later than".
    """

    starts_in_child = False

    def __init__(
        self,
        interval: float,
        status: Callable[[], AgentStatus],
        transport: Callable[[], Transport],
        route: Callable[[], Route],
        control: Control,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Make a reporter that has nothing to do before `start`.

        Args:
            interval: seconds between two reports.
            status: returns the status of this moment.
            transport: returns what carries it.
            route: returns what paces the calls.
            control: whose thread reports.
            uniform: the source of jitter.
        """
        self._interval = interval
        self._status = status
        self._transport = transport
        self._route = route
        self._control = control
        self._uniform = uniform
        self.due_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self._calling = threading.Lock()
        self._reported: str | None = None
        self._reported_at = float("-inf")
        self._next_report = 0.0

    def start(self) -> None:
        """Report now, and from then on."""
        self._control.add(self)

    def state_may_have_changed(self) -> None:
        """Look soon whether the state is another, and report it if so."""
        soon = max(time.monotonic(), self._reported_at + min(CHANGE_SECONDS, self._interval))
        if soon < self.due_at:
            self.due_at = soon
            self._control.wake()

    def run(self) -> None:
        """Report if it is time to, or if the state has changed."""
        self.due_at = float("inf")
        with self._calling:
            next_look = self._report_if_due()
        self.due_at = min(self.due_at, next_look)

    def stop(self, timeout: float) -> None:
        """End, with a last report if `timeout` seconds are enough for one and the backend can be reached."""
        self._control.remove(self)
        deadline = time.monotonic() + min(timeout, FINAL_SECONDS)
        if timeout <= 0 or not self._calling.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return
        try:
            now = time.monotonic()
            if now < deadline and self._route().ready_at(now) <= now:
                with suppress_instrumentation():
                    self._report(self._status(), deadline - now)
        finally:
            self._calling.release()

    def withdraw(self) -> None:
        """End without a last report."""
        self._control.remove(self)

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child, which reports for itself."""
        self._begin()
        self.due_at = time.monotonic() + self._uniform(*CHILD_PAUSE)

    def _report_if_due(self) -> float:
        """Return the time of the next look. The caller holds `_calling`."""
        now = time.monotonic()
        if (ready_at := self._route().ready_at(now)) > now:
            return ready_at
        status = self._status()
        if now >= self._next_report or status.status != self._reported:
            self._report(status, CALL_SECONDS)
        return max(self._next_report, self._route().ready_at(now))

    def _report(self, status: AgentStatus, timeout: float) -> None:
        route = self._route()
        route.begin(time.monotonic())
        outcome = self._transport().send_status(status, timeout)
        now = time.monotonic()
        route.settle(outcome, now)
        self._reported_at = now
        if outcome.verdict is Verdict.RETRY:
            self._next_report = route.ready_at(now)
        else:
            # A part of it is jitter, so that a fleet that was started together doesn't report together.
            self._next_report = now + self._uniform(0.8, 1.0) * self._interval
            self._reported = status.status
            route.complaint = _complaint(outcome)


def _complaint(outcome: Outcome) -> str | None:
    """Return what the backend has against a report that reached it, and say it once; None where it took the report."""
    if outcome.verdict in (Verdict.ACCEPTED, Verdict.MISCONFIGURED):
        # Why nothing of ours is taken, the route says.
        return None
    log_once(
        _logger,
        logging.WARNING,
        f"the Guard backend doesn't take status reports: {outcome.text[:200]}",
        cause=f"status reports refused with {outcome.status}",
    )
    return outcome.text
