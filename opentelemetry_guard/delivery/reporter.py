"""Tells the backend how this process is doing: at the start, now and then, when that changes, and at the end."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.instrumentation.utils import suppress_instrumentation

from ..settings.once import log_once
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
    one that is under way. The times are monotonic seconds; `_scheduling`
    guards the changes of `due_at`, by several threads, each of which means
    "not later than". Where the settings change, the reporter stays: what it
    has reported already, it reports again only to another receiver.
    """

    starts_in_child = False

    def __init__(
        self,
        interval: Callable[[], float],
        status: Callable[[], AgentStatus],
        receiver: Callable[[], object],
        transport: Callable[[], Transport],
        route: Callable[[], Route],
        control: Control,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Make a reporter that has nothing to do before `start`.

        Args:
            interval: returns the seconds between two reports.
            status: returns the status of this moment.
            receiver: returns what tells one that gets the reports from another; it changes after `transport` does.
            transport: returns what carries it.
            route: returns what paces the calls.
            control: whose thread reports.
            uniform: the source of jitter.
        """
        self._interval = interval
        self._status = status
        self._receiver = receiver
        self._transport = transport
        self._route = route
        self._control = control
        self._uniform = uniform
        self.due_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self._calling = threading.Lock()
        self._scheduling = threading.Lock()
        self._reported: tuple[object, str] | None = None  # the receiver that has it, and the state
        self._reported_at = float("-inf")
        self._next_report = 0.0

    def start(self) -> None:
        """Report now, and from then on."""
        self._control.add(self)

    def state_may_have_changed(self) -> None:
        """Look soon whether the state is another, and report it if so."""
        soon = max(time.monotonic(), self._reported_at + min(CHANGE_SECONDS, self._interval()))
        if self._look_by(soon):
            self._control.wake()

    def settings_changed(self) -> None:
        """Look at once whether another receiver has no report yet, or the last one failed; nothing is waited for."""
        self._look_by(0.0)
        self._control.wake()

    def run(self) -> None:
        """Report if it is time to, if the state has changed, or if there is another receiver."""
        with self._scheduling:
            self.due_at = float("inf")
        with self._calling:
            next_look = self._report_if_due()
        self._look_by(next_look)

    def _look_by(self, at: float) -> bool:
        """Make `at` the time of the next look, unless that is earlier; return whether it was not."""
        with self._scheduling:
            sooner = at < self.due_at
            if sooner:
                self.due_at = at
            return sooner

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
        if now >= self._due_again() or (self._receiver(), status.status) != self._reported:
            self._report(status, CALL_SECONDS)
        return max(self._due_again(), self._route().ready_at(now))

    def _due_again(self) -> float:
        # The interval may have become shorter since the last report.
        return min(self._next_report, self._reported_at + self._interval())

    def _report(self, status: AgentStatus, timeout: float) -> None:
        # First: if it is another one before the call is made, that one gets a report of its own.
        receiver = self._receiver()
        route = self._route()
        route.begin(time.monotonic())
        outcome = self._transport().send_status(status, timeout)
        now = time.monotonic()
        route.settle(outcome, now)
        self._reported_at = now
        # What nobody has taken is still to be reported: other settings may make it possible at once.
        failed = outcome.verdict in (Verdict.RETRY, Verdict.MISCONFIGURED)
        self._reported = None if failed else (receiver, status.status)
        if outcome.verdict is Verdict.RETRY:
            self._next_report = route.ready_at(now)
        else:
            # A part of it is jitter, so that a fleet that was started together doesn't report together.
            self._next_report = now + self._uniform(0.8, 1.0) * self._interval()
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
