"""What of a batch the backend has taken and not kept, by the counts of its answer: how many rows, which, and why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ..events.codec import Row, parse_timestamp
from ..queue.base import DROPPED_REJECTED, DROPPED_TIMESTAMP, Batch
from .outcome import Outcome

CLOCK_SECONDS = 30.0
"""Seconds by which this clock may differ from the backend's before it is the cause."""
WAITED_SECONDS = 900.0
"""Seconds that events have waited when that is the cause; no backend drops younger ones for their age."""
AHEAD_SECONDS = 60.0
"""Seconds that a timestamp may be ahead of the backend's clock; no backend drops such events as too early."""


def with_rejections(outcome: Outcome, batch: Batch, was_sent_before: bool, now: float | None = None) -> Outcome:
    """Return the outcome of an accepted batch with what of it was rejected, and the cause as its reason.

    Args:
        outcome: the answer, with its counts.
        batch: what was sent.
        was_sent_before: whether it may have arrived already, with its answer lost. The backend may then leave out what
            it has, so fewer processed rows are no rejection.
        now: Unix seconds.
    """
    now = time.time() if now is None else now
    invalid = min(batch.rows, outcome.invalid_timestamps)
    missing = 0 if outcome.processed is None or was_sent_before else max(0, batch.rows - invalid - outcome.processed)
    rejected = {reason: rows for reason, rows in ((DROPPED_TIMESTAMP, invalid), (DROPPED_REJECTED, missing)) if rows}
    if not rejected:
        return outcome
    causes = [_cause_of_invalid(outcome, batch, now)] if invalid else []
    if missing:
        causes.append(f"{missing} of {batch.rows} {batch.kind} were not processed, and the backend doesn't say why")
    return replace(outcome, rejected=rejected, reason="; ".join(causes))


def _cause_of_invalid(outcome: Outcome, batch: Batch, now: float) -> str:
    ahead = 0.0 if outcome.server_time is None else now - outcome.server_time
    waited = now - batch.created_at
    if abs(ahead) >= CLOCK_SECONDS:
        direction = "ahead of" if ahead > 0 else "behind"
        cause = (
            f"this machine's clock is {abs(ahead):.0f} seconds {direction} the backend's: set it, by NTP for example"
        )
    elif waited >= WAITED_SECONDS:
        cause = f"they had waited for {waited / 60:.0f} minutes, longer than the backend takes events"
    else:
        cause = "they say when they happened wrongly, or are older than the backend takes: check what emits them"
    return f"{outcome.invalid_timestamps} of {batch.rows} events were dropped for their timestamps: {cause}"


def untimely(rows: Sequence[Row], count: int, now: float) -> list[Row]:
    """Return those `count` of `rows` that were dropped for their timestamps; none where it can't be told which.

    A backend takes what lies in a window around its clock, which says `now`
    (Unix seconds). So what it drops are the oldest rows, where none is ahead
    of the clock; the newest, where none is old; where there are both, only
    their number can tell.
    """
    if len(rows) <= count:
        return list(rows)
    told = [parse_timestamp(row.get("timestamp")) for row in rows]
    times = [time.timestamp() for time in told if time is not None]
    if len(times) < len(rows):
        return []
    order = sorted(range(len(rows)), key=times.__getitem__)
    early = [index for index in order if times[index] < now - WAITED_SECONDS]
    ahead = [index for index in order if times[index] > now + AHEAD_SECONDS]
    found: Sequence[int] = ()
    if len(early) + len(ahead) == count:
        found = early + ahead
    elif len(early) > count and not ahead and times[order[count - 1]] < times[order[count]]:
        found = order[:count]
    elif len(ahead) > count and not early and times[order[-count - 1]] < times[order[-count]]:
        found = order[-count:]
    return [rows[index] for index in found]
