"""When the events of a list happened: how many in each of some sixty stretches of time.

What is filtered by type and time alone is counted out of the rollups, anything
else along the index of the list. Either looks at a bounded number of rows, the
newest first, and says when there were more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import case, cast, func, select, true

from .database import Database
from .search import EventFilter, EventSearch
from .tables import event_minutes

MOST_BARS = 60
"""Stretches of time at most."""

_DAY = 86_400
_LENGTHS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, _DAY)
_LONGEST = 7 * _DAY
"""Seconds that are counted where no beginning is asked for."""

_MOST_COUNTS = 100_000
"""Rows of the rollups that are added up."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Events by time: each of `bars` begins at a moment (Unix seconds) and is `seconds` long.

    `cut_short` tells that there were more rows than are looked at: what is older than these is not counted.
    """

    seconds: int
    bars: Sequence[tuple[int, int]]
    cut_short: bool

    @property
    def events(self) -> int:
        """How many there are in all bars."""
        return sum(count for _, count in self.bars)


def histogram(database: Database, wanted: EventFilter, now: float) -> Histogram | None:
    """Count the events that match by time, up to `now` (Unix seconds); None where the project has none in that time."""
    kept = _kept(database, wanted.project_id)
    if kept is None:
        return None
    until = min(kept[1] if wanted.until is None else wanted.until, now, kept[1])
    since = max(until - _LONGEST if wanted.since is None else wanted.since, kept[0])
    if since >= until:
        return None
    seconds = bar_seconds(until - since)
    if wanted.address or wanted.endpoint or wanted.action or wanted.service:
        counts, cut_short = EventSearch(database).counts(wanted, seconds)
    else:
        counts, cut_short = _added_up(database, wanted, seconds, since, until)
    first, last = math.floor(since / seconds), math.ceil(until / seconds)
    bars = [(number * seconds, counts[number]) for number in range(first, last)]
    return Histogram(seconds, bars, cut_short)


def bar_seconds(span: float) -> int:
    """Return how long a bar is, so that `span` seconds have as many as there is room for."""
    # One is left for the part of a bar at either end.
    least = span / (MOST_BARS - 1)
    return next((length for length in _LENGTHS if length >= least), math.ceil(least / _DAY) * _DAY)


def _kept(database: Database, project_id: str) -> tuple[float, float] | None:
    """Return when the first minute with events begins, and when the last one ends."""
    # Two questions, each of which is a step in the index; of both in one, every row would be looked at.
    ends = (
        select(edge(event_minutes.c.minute)).where(event_minutes.c.project_id == project_id).scalar_subquery()
        for edge in (func.min, func.max)
    )
    first, last = database.read(select(*ends))[0]
    return None if first is None else (max(first * 60.0, 0.0), last * 60.0 + 60.0)


def _added_up(
    database: Database, wanted: EventFilter, seconds: int, since: float, until: float
) -> tuple[Counter[int], bool]:
    newest = (
        select(event_minutes.c.minute, event_minutes.c.events, event_minutes.c.event_type)
        .where(
            event_minutes.c.project_id == wanted.project_id,
            event_minutes.c.minute >= math.floor(since / 60),
            event_minutes.c.minute < math.ceil(until / 60),
        )
        .order_by(event_minutes.c.minute.desc())
        .limit(_MOST_COUNTS)
        .subquery()
    )
    bar = newest.c.minute // (seconds // 60)
    asked = newest.c.event_type == wanted.event_type if wanted.event_type else true()
    counted = cast(func.sum(case((asked, newest.c.events), else_=0)), newest.c.events.type)
    found = database.read(select(bar, counted, func.count()).group_by(bar))
    return Counter({bar: events for bar, events, _ in found}), sum(rows for *_, rows in found) >= _MOST_COUNTS
