"""Finding events: what is asked for, which index answers it, and how far one answer looks.

Events are listed by the time at which they occurred, newest first, and paged
by a cursor (time and id), so that a page costs the same wherever it lies. One
filter has an index of its own. With several, the most selective one's index is
walked and the rest is compared, for a bounded number of rows: when they hold
too little for a page, the answer says how far it looked and goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .database import Database

_LONG_AGO = -1e12
_FAR_AHEAD = 1e12

COMPARED_ROWS = 50_000
"""Rows of an index that are compared for one page."""

_MAX_CHOICES = 200

# The most selective first: an index is walked for the first one that is set.
_INDEXES = {
    "address": "events_by_address",
    "endpoint": "events_by_endpoint",
    "event_type": "events_by_type",
    "action": "events_by_action",
    "service": "events_by_service",
}
_HOLD_ALL_COLUMNS = frozenset({"events_by_address", "events_by_endpoint"})
"""Indexes that are good for several filters: with another one, each row would have to be fetched for comparing."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of a project; an empty text filters nothing.

    An `address` or `endpoint` that ends in ``*`` matches what begins with it.
    `since` (included) and `until` (excluded) are in Unix seconds.
    """

    project_id: str
    event_type: str = ""
    address: str = ""
    endpoint: str = ""
    action: str = ""
    since: float | None = None
    until: float | None = None
    service: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the list: what follows it is older than `occurred_at` (Unix seconds), or as old with a smaller id."""

    occurred_at: float
    id: int

    def __str__(self) -> str:
        """Spell the cursor for a URL."""
        return f"{self.occurred_at!r}_{self.id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` spelled.

        Raises:
            ValueError: it is no cursor.
        """
        match = re.fullmatch(r"(-?\d{1,15}(?:\.\d{1,20})?(?:e[-+]?\d{1,3})?)_(\d{1,18})", text)
        if match is None:
            raise ValueError("not a place in the list of events")
        return cls(float(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """A stored event: its JSON `row`, and what it is listed by. Times are in Unix seconds."""

    id: int
    batch_id: str
    received_at: float
    occurred_at: float
    row: str

    @property
    def cursor(self) -> Cursor:
        """Its place in the list."""
        return Cursor(self.occurred_at, self.id)


_FOUND = "id, batch_id, received_at, occurred_at, row"


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first. `older` is where to go on, None at the end of the list.

    `cut_short` tells that the bound on compared rows was met before the page was full.
    """

    events: list[FoundEvent]
    older: Cursor | None
    cut_short: bool = False


@dataclass(slots=True)
class _Where:
    """Conditions that all hold, with their parameters. All names in them are this module's."""

    conditions: list[str] = field(default_factory=list)
    parameters: list[object] = field(default_factory=list)

    def add(self, condition: str, *parameters: object) -> None:
        self.conditions.append(condition)
        self.parameters += parameters

    def equals(self, column: str, text: str) -> None:
        if _is_beginning(column, text):
            self.add(f"SUBSTR({column}, 1, ?) = ?", len(text) - 1, text[:-1])
        else:
            self.add(f"{column} = ?", text)

    def __str__(self) -> str:
        return " AND ".join(self.conditions)


def _asked(wanted: EventFilter) -> dict[str, str]:
    """Return the texts that are filtered by, by column."""
    texts = {column: str(getattr(wanted, column)) for column in _INDEXES}
    return {column: text for column, text in texts.items() if text}


def _is_beginning(column: str, text: str) -> bool:
    return text.endswith("*") and column.lstrip("+") in ("address", "endpoint")


def _plan(wanted: EventFilter, before: Cursor | None) -> tuple[str, _Where, _Where]:
    """Choose the index to walk, newest first; return the conditions of the walk, and those that are compared on it."""
    asked = _asked(wanted)
    first = next((column for column, text in asked.items() if not _is_beginning(column, text)), None)
    index = _INDEXES[first] if first else "events_by_time"
    if len(asked) > 1 and index not in _HOLD_ALL_COLUMNS:
        first, index = None, "events_by_time"
    walk, rest = _Where(), _Where()
    walk.add("project_id = ?", wanted.project_id)
    for column, text in asked.items():
        (walk if column == first else rest).equals(column, text)
    since = _LONG_AGO if wanted.since is None else wanted.since
    until = (_FAR_AHEAD if wanted.until is None else wanted.until, 0)
    # One bound at each end: of two, SQLite would walk down from either, and compare the other row by row.
    place = until if before is None else min(until, (before.occurred_at, before.id))
    walk.add("occurred_at >= ? AND (occurred_at, id) < (?, ?)", since, *place)
    return index, walk, rest


def _stored_after(wanted: EventFilter, after: int) -> _Where:
    """Return the conditions of a walk over what was stored after the event with the id `after`."""
    new = _Where()
    new.add("project_id = ? AND id > ?", wanted.project_id, after)
    for column, text in _asked(wanted).items():
        # The plus sign keeps the walk on the ids: few rows are new.
        new.equals(f"+{column}", text)
    for sign, moment in ((">=", wanted.since), ("<", wanted.until)):
        if moment is not None:
            new.add(f"+occurred_at {sign} ?", moment)
    return new


class EventSearch:
    """Reads events out of a database; safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        """Search in `database`."""
        self._database = database

    def page(self, wanted: EventFilter, before: Cursor | None, limit: int) -> Page:
        """Return the `limit` newest events that match and come after the place `before` in the list."""
        index, walk, rest = _plan(wanted, before)
        order = "ORDER BY occurred_at DESC, id DESC"
        inner = (
            f"SELECT id, occurred_at, event_type, action, address, endpoint, service FROM events INDEXED BY {index}"  # noqa: S608
            f" WHERE {walk} {order}"
        )
        compared = f" LIMIT {COMPARED_ROWS}) WHERE {rest} {order} LIMIT ?" if rest.conditions else " LIMIT ?)"
        found = self._database.read(
            f"SELECT {_FOUND} FROM events WHERE id IN (SELECT id FROM ({inner}{compared}) {order}",  # noqa: S608
            (*walk.parameters, *rest.parameters, limit + 1),
        )
        events = [FoundEvent(*values) for values in found]
        if len(events) > limit:
            return Page(events[:limit], events[limit - 1].cursor)
        if not rest.conditions:
            return Page(events, None)
        last = self._database.read(
            f"SELECT occurred_at, id FROM ({inner} LIMIT 1 OFFSET {COMPARED_ROWS - 1})",  # noqa: S608
            walk.parameters,
        )
        if not last:
            return Page(events, None)
        return Page(events, Cursor(*last[0]), cut_short=True)

    def moments(self, wanted: EventFilter) -> tuple[list[float], bool]:
        """Return when what matches occurred (Unix seconds), among the rows that are compared for one page.

        With it comes whether there are more of these.
        """
        index, walk, rest = _plan(wanted, None)
        found = self._database.read(
            f"SELECT occurred_at, {rest if rest.conditions else 'TRUE'} FROM (SELECT occurred_at, event_type, action,"  # noqa: S608
            f" address, endpoint, service FROM events INDEXED BY {index} WHERE {walk}"
            f" ORDER BY occurred_at DESC, id DESC LIMIT {COMPARED_ROWS})",
            (*rest.parameters, *walk.parameters),
        )
        return [moment for moment, matches in found if matches], len(found) == COMPARED_ROWS

    def arrived(self, wanted: EventFilter, after: int, limit: int) -> list[FoundEvent]:
        """Return up to `limit` of the events that match and were stored after the one with the id `after`."""
        new = _stored_after(wanted, after)
        found = self._database.read(
            f"SELECT {_FOUND} FROM events NOT INDEXED WHERE {new} ORDER BY id DESC LIMIT ?",  # noqa: S608
            [*new.parameters, limit],
        )
        return [FoundEvent(*values) for values in found]

    def following(self, wanted: EventFilter, after: int, limit: int) -> tuple[list[FoundEvent], int, bool]:
        """Return up to `limit` events that match and follow the one with the id `after`, in the order of arrival.

        With them come the id that was reached, and whether there are later ones.
        """
        newest = self.newest_id()
        if newest < after:
            # The newest rows were deleted, or the file is another one.
            return [], newest, False
        reached = min(newest, after + COMPARED_ROWS)
        new = _stored_after(wanted, after)
        new.add("id <= ?", reached)
        found = self._database.read(
            f"SELECT {_FOUND} FROM events NOT INDEXED WHERE {new} ORDER BY id LIMIT ?",  # noqa: S608
            [*new.parameters, limit],
        )
        events = [FoundEvent(*values) for values in found]
        if len(events) == limit:
            reached = events[-1].id
        return events, reached, reached < newest

    def newest_id(self) -> int:
        """Return the id of the event that was stored last, 0 when there is none."""
        return int(self._database.read("SELECT COALESCE(MAX(id), 0) FROM events")[0][0])

    def one(self, project_id: str, event_id: int) -> FoundEvent | None:
        """Return the event with the id `event_id`; None when the project has none."""
        found = self._database.read(
            f"SELECT {_FOUND} FROM events WHERE id = ? AND project_id = ?",  # noqa: S608
            (event_id, project_id),
        )
        return FoundEvent(*found[0]) if found else None

    def everything(self, wanted: EventFilter, rows_at_a_time: int = 500) -> Iterator[FoundEvent]:
        """Give every event that matches, newest first, reading some rows at a time."""
        page = self.page(wanted, None, rows_at_a_time)
        yield from page.events
        while page.older is not None:
            page = self.page(wanted, page.older, rows_at_a_time)
            yield from page.events

    def event_types(self, project_id: str) -> list[str]:
        """Return the project's event types in alphabetical order."""
        return self._distinct("event_type", "events_by_type", project_id)

    def actions(self, project_id: str) -> list[str]:
        """Return the project's actions in alphabetical order."""
        return self._distinct("action", "events_by_action", project_id)

    def services(self, project_id: str) -> list[str]:
        """Return the project's services in alphabetical order."""
        return self._distinct("service", "events_by_service", project_id)

    def _distinct(self, column: str, index: str, project_id: str) -> list[str]:
        # One step in the index for each value; DISTINCT would walk over every row.
        following = f"SELECT MIN({column}) FROM events INDEXED BY {index} WHERE project_id = ? AND {column} > "  # noqa: S608
        found = self._database.read(
            f"WITH RECURSIVE choices (value) AS ({following} '' UNION ALL"  # noqa: S608
            f" SELECT ({following} choices.value) FROM choices WHERE choices.value IS NOT NULL)"
            f" SELECT value FROM choices WHERE value IS NOT NULL LIMIT {_MAX_CHOICES}",
            (project_id, project_id),
        )
        return [value for (value,) in found]

    def projects(self) -> list[str]:
        """Return the projects that have rows, agents, rules or keys, in alphabetical order."""
        with_events = (
            "WITH RECURSIVE named (id) AS (SELECT MIN(project_id) FROM events UNION ALL"
            " SELECT (SELECT MIN(project_id) FROM events WHERE project_id > named.id) FROM named"
            " WHERE named.id IS NOT NULL) SELECT id FROM named WHERE id IS NOT NULL"
        )
        with_metrics = with_events.replace("events", "metric_batches")
        others = "SELECT project_id FROM {} GROUP BY project_id"
        found = {
            project_id
            for query in (with_events, with_metrics, *map(others.format, ("agents", "rules", "api_keys")))
            for (project_id,) in self._database.read(query)
        }
        return sorted(found)
