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

from .database import Database
from .search import EventFilter, EventSearch

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
        counts, cut_short = _walked(EventSearch(database), wanted, seconds)
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
    found = database.read(
        "SELECT (SELECT MIN(minute) FROM event_minutes WHERE project_id = ?),"
        " (SELECT MAX(minute) FROM event_minutes WHERE project_id = ?)",
        (project_id, project_id),
    )
    first, last = found[0]
    return None if first is None else (max(first * 60.0, 0.0), last * 60.0 + 60.0)


def _added_up(
    database: Database, wanted: EventFilter, seconds: int, since: float, until: float
) -> tuple[Counter[int], bool]:
    found = database.read(
        "SELECT minute / ?, SUM(CASE WHEN ? IN ('', event_type) THEN events ELSE 0 END), COUNT(*) FROM"
        " (SELECT minute, events, event_type FROM event_minutes"
        " WHERE project_id = ? AND minute >= ? AND minute < ? ORDER BY minute DESC LIMIT ?) GROUP BY 1",
        (
            *(seconds // 60, wanted.event_type, wanted.project_id),
            *(math.floor(since / 60), math.ceil(until / 60), _MOST_COUNTS),
        ),
    )
    return Counter({bar: events for bar, events, _ in found}), sum(rows for *_, rows in found) >= _MOST_COUNTS


def _walked(search: EventSearch, wanted: EventFilter, seconds: int) -> tuple[Counter[int], bool]:
    moments, cut_short = search.moments(wanted)
    return Counter(math.floor(moment / seconds) for moment in moments), cut_short
