"""How a delivery is doing, as a person would say it: the reading of its figures becomes an `AgentStatus`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from ..events.tally import SWITCHED_OFF
from ..events.trouble import BREAKER_OPEN, DEAD_LETTERS
from ..models import AgentState, AgentStatus
from ..queue.base import DROPPED_PURGED, DROPPED_REJECTED, DROPPED_TIMESTAMP, KINDS
from .breaker import BreakerState
from .route import RouteName
from .stats import DeliveryStats, RouteStats

LATELY_SECONDS = 900.0
"""Seconds for which lost and refused rows are a reason to worry."""
LATE_SECONDS = 300.0
"""Seconds that a row may wait before that is worth a word."""
LONG_OUTAGE_SECONDS = 900.0
"""Seconds that a row has waited when an outage is more than a passing one."""
NEARLY_FULL = 0.8
"""Share of the queue's bound from which on it is said to be nearly full."""
MAX_ERRORS = 10
"""Errors that one status names."""
MAX_ERROR = 300
"""Characters of one error."""

Severity = Literal["degraded", "failed"]
Problem = tuple[Severity, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an assessment is made of.

    Attributes:
        stats: the delivery's figures.
        now: Unix seconds of the reading.
        uptime: seconds since the delivery was made.
        last_flush: Unix seconds at which the backend last took rows from this process, None for never.
        can_call: whether there is an API key, or a transport that needs none.
        writable: whether the queue takes rows; they wait in memory where it doesn't.
        max_bytes: bound of the queue.
        dropped_lately: rows that were dropped within `LATELY_SECONDS`.
        refused_lately: rows that became dead letters in that time.
        lost_lately: rows that this process lost before the queue in that time.
        unenforced: what of dynamic rules is not enforced, in words.
        sender_died: whether the thread that sends had ended although nobody ended it.
        rejection: why the backend has lately not kept rows that it took, None where it has kept all.
    """

    stats: DeliveryStats
    now: float
    uptime: float
    last_flush: float | None = None
    can_call: bool = True
    writable: bool = True
    max_bytes: int = 0
    dropped_lately: int = 0
    refused_lately: int = 0
    lost_lately: int = 0
    unenforced: tuple[str, ...] = ()
    sender_died: bool = False
    rejection: str | None = None


class Lately:
    """Tells how far a count has risen within `LATELY_SECONDS`. Times are monotonic seconds and come from the caller."""

    def __init__(self, start: int | None) -> None:
        """Begin at `start`; None takes the first count as the beginning, for a store that has a past."""
        self._counts: deque[tuple[float, int]] = deque()
        self._before = start

    def rise(self, count: int, now: float) -> int:
        """Note a count, and return by how much it is above that of `LATELY_SECONDS` ago."""
        if self._before is None:
            self._before = count
        while self._counts and self._counts[0][0] <= now - LATELY_SECONDS:
            self._before = self._counts.popleft()[1]
        if not self._counts or self._counts[-1][1] != count:
            self._counts.append((now, count))
        return max(0, count - self._before)


class Trends:
    """How far the counts of a delivery have risen lately that should not rise at all."""

    def __init__(self, fresh: bool) -> None:
        """Begin at zero for a `fresh` store; one with a past has counts that are none of this process's."""
        start = 0 if fresh else None
        self._dropped = Lately(start)
        self._refused = Lately(start)
        self._lost = Lately(0)

    def rises(self, stats: DeliveryStats, now: float) -> tuple[int, int, int]:
        """Return by how many rows those that were dropped, dead-lettered and lost before the queue have risen."""
        ledgers = stats.ledger.values()
        return (
            self._dropped.rise(sum(_rows(ledger.dropped, _TOLD_OTHERWISE) for ledger in ledgers), now),
            self._refused.rise(sum(ledger.dead_lettered for ledger in ledgers), now),
            self._lost.rise(sum(_rows(lost, {SWITCHED_OFF}) for lost in stats.process.dropped.values()), now),
        )


_TOLD_OTHERWISE = frozenset({DROPPED_PURGED, DROPPED_TIMESTAMP, DROPPED_REJECTED})
"""Reasons that are no loss of ours: what somebody wanted, and what the backend has decided."""


def _rows(reasons: Mapping[str, int], but: Set[str]) -> int:
    """Add up the rows of all reasons but some."""
    return sum(rows for reason, rows in reasons.items() if reason not in but)


def assess(reading: Reading) -> AgentStatus:
    """Return the status that a reading adds up to.

    *failed* means that rows are being lost, or that none will be delivered
    until a person has changed something; *degraded* that something is wrong
    which may pass, and that nothing is lost so far.
    """
    problems = list(_problems(reading))
    # The worst first: what comes after the tenth is left out.
    problems.sort(key=lambda problem: problem[0] != "failed")
    state: AgentState = problems[0][0] if problems else "healthy"
    events = reading.stats.ledger["events"]
    lost = reading.stats.process.dropped.get("events", {})
    return AgentStatus(
        timestamp=datetime.fromtimestamp(reading.now, timezone.utc),
        status=state,
        uptime=reading.uptime,
        events_sent=events.delivered,
        events_failed=events.dead_lettered + sum(events.dropped.values()) + _rows(lost, {SWITCHED_OFF}),
        buffer_size=sum(ledger.queued + ledger.in_flight for ledger in reading.stats.ledger.values()),
        last_flush=None if reading.last_flush is None else datetime.fromtimestamp(reading.last_flush, timezone.utc),
        errors=[text[:MAX_ERROR] for _, text in problems[:MAX_ERRORS]],
    )


def _problems(reading: Reading) -> Iterator[Problem]:
    if reading.sender_died:
        yield "failed", "the thread that sends rows had been ended from outside; another one is started"
    yield from _problems_of_backend(reading)
    yield from _problems_of_queue(reading)
    if reading.dropped_lately:
        yield "failed", f"{reading.dropped_lately} rows were dropped lately ({_reasons(reading.stats)})"
    if reading.refused_lately:
        yield (
            "degraded",
            f"the backend has refused {reading.refused_lately} rows lately; {DEAD_LETTERS}, with its answer",
        )
    if reading.rejection is not None:
        yield "degraded", f"the backend does not keep all rows that it takes: {reading.rejection}"
    for problem in reading.unenforced:
        yield "degraded", f"dynamic rules: {problem}"
    if reading.lost_lately:
        yield "degraded", f"{reading.lost_lately} rows were lost lately before they reached the queue"


def _problems_of_backend(reading: Reading) -> Iterator[Problem]:
    if not reading.can_call:
        yield "failed", "there is no API key, so rows only wait: set OTEL_EXPORTER_GUARD_API_KEY"
        return
    seen: set[str] = set()
    age = 0.0 if reading.stats.oldest is None else reading.now - reading.stats.oldest
    for name, route in reading.stats.routes.items():
        if route.last_error is None or route.last_error in seen:
            continue
        seen.add(route.last_error)
        carries_rows = name in KINDS
        if route.held:
            yield (
                "failed" if carries_rows else "degraded",
                f"the backend doesn't take our {_CALLS[name]} ({route.last_error[:120]}); rows are kept: "
                f"{route.remedy or _CHECK_ALL}",
            )
        else:
            long = carries_rows and age > LONG_OUTAGE_SECONDS
            yield "failed" if long else "degraded", f"{_what_fails(name, route)}: {route.last_error}"


_CHECK_ALL = "check OTEL_EXPORTER_GUARD_API_KEY, OTEL_EXPORTER_GUARD_PROJECT_ID and OTEL_EXPORTER_GUARD_ENDPOINT"

_CALLS: Mapping[RouteName, str] = {
    "events": "events",
    "metrics": "metrics",
    "status": "status reports",
    "rules": "questions for rules",
}


def _what_fails(name: RouteName, route: RouteStats) -> str:
    if name in KINDS:
        pace = "" if route.breaker is BreakerState.CLOSED else f", {BREAKER_OPEN}"
        return f"{name} can't be delivered now and wait{pace}"
    return "status reports fail" if name == "status" else "the backend's rules can't be used, the last ones stay"


def _problems_of_queue(reading: Reading) -> Iterator[Problem]:
    stats = reading.stats
    if stats.unreadable is not None:
        yield "degraded", f"a queue can't be read: {stats.unreadable}"
    if not reading.writable:
        yield "degraded", "the queue can't be written, rows wait in memory and end with the process"
    if reading.max_bytes and stats.bytes > NEARLY_FULL * reading.max_bytes:
        full = f"{stats.bytes / reading.max_bytes:.0%}"
        yield "degraded", f"the queue is {full} full; beyond OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES rows are dropped"
    if stats.oldest is not None and reading.now - stats.oldest > LATE_SECONDS:
        yield "degraded", f"the oldest row has waited for {(reading.now - stats.oldest) / 60:.0f} minutes"
    if stats.set_aside:
        yield "degraded", f"{stats.set_aside} damaged queue files were set aside"


def _reasons(stats: DeliveryStats) -> str:
    reasons: Sequence[str] = sorted({reason for ledger in stats.ledger.values() for reason in ledger.dropped})
    return ", ".join(reasons)
