"""Finding events: what is asked for, which index answers it, and how far one answer looks.

Events are listed by the time at which they occurred, newest first, and paged
by a cursor (time and id), so that a page costs the same wherever it lies. One
filter has an index of its own. With several, the most selective one's index is
walked and the rest is compared, as far as one look goes (`looks`): when it finds
too little for a page, the answer says how far it looked and goes on from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Subquery,
    and_,
    case,
    func,
    select,
    true,
    tuple_,
)

from .arriving import last_id
from .database import Database
from .functions import lowered, position, whole
from .looks import stretches
from .paging import Cursor, Page, Stretch, followed, looked, paged
from .results import AnySelect
from .tables import HAS_TRACE, SEARCHED, TRACE, agents, api_keys, events, metric_batches, rules

_LONG_AGO = -1e12
_FAR_AHEAD = 1e12

_FOLLOWED = 50_000
"""Rows that are looked at for events that follow another one."""

_MAX_CHOICES = 200

_HOLD_ALL_COLUMNS = frozenset({"address", "endpoint"})
"""Columns whose indexes are good for several filters: with another one, each row would have to be fetched."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of a project; an empty text filters nothing.

    An `address` or `endpoint` that ends in ``*`` matches what begins with it.
    `since` (included) and `until` (excluded) are in Unix seconds. A `trace` is a whole trace id, in lower case; few
    other events may be among those that are found by it.
    """

    project_id: str
    event_type: str = ""
    address: str = ""
    endpoint: str = ""
    action: str = ""
    since: float | None = None
    until: float | None = None
    service: str = ""
    trace: str = ""


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


_FOUND = tuple(events.c[field.name] for field in fields(FoundEvent))


def _asked(wanted: EventFilter) -> dict[str, str]:
    """Return the texts that are filtered by, by column."""
    texts = {column: str(getattr(wanted, column)) for column in SEARCHED}
    return {column: text for column, text in texts.items() if text}


def _is_beginning(column: str, text: str) -> bool:
    return text.endswith("*") and column in ("address", "endpoint")


def _matches(column: ColumnElement[str], name: str, text: str) -> ColumnElement[bool]:
    if _is_beginning(name, text):
        return func.substr(column, 1, len(text) - 1) == text[:-1]
    return column == text


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which rows are walked, newest first, and what they are compared with on the way."""

    walk: AnySelect
    compared: Mapping[str, str]

    def rows(self, limit: int) -> AnySelect:
        """Return the statement that gives the first `limit` events, where nothing is compared."""
        return self._whole(self.walk.limit(limit).subquery(), limit)

    def matching(self, limit: int, rows: int) -> AnySelect:
        """Return the statement that gives the first `limit` events that match among the first `rows`."""
        walked = self.walk.limit(rows).subquery()
        matching = select(walked.c.id).where(*self._matching(walked)).order_by(*_newest_first(walked))
        return self._whole(matching.limit(limit).subquery(), limit)

    def _matching(self, walked: Subquery) -> list[ColumnElement[bool]]:
        return [_matches(walked.c[name], name, text) for name, text in self.compared.items()]

    def _whole(self, chosen: Subquery, limit: int) -> AnySelect:
        return select(*_FOUND).where(events.c.id.in_(select(chosen.c.id))).order_by(*_newest_first(events)).limit(limit)

    def counted(self, seconds: int, rows: int) -> AnySelect:
        """Return the statement that counts what matches of the first `rows`, in stretches of `seconds`."""
        walked = self.walk.limit(rows).subquery()
        matches = and_(true(), *self._matching(walked))
        stretch = whole(walked.c.occurred_at / seconds)
        return select(stretch, func.sum(case((matches, 1), else_=0))).group_by(stretch)

    def having(self, texts: Iterable[str], rows: int) -> AnySelect:
        """Return the statement that gives those of the first `rows` that match and have all of `texts`."""
        walked = self.walk.add_columns(*_ONLY_FOUND).limit(rows).subquery()
        row = lowered(walked.c.row)
        return (
            select(*(walked.c[column.name] for column in _FOUND))
            .where(*self._matching(walked), *(position(row, text) > 0 for text in texts))
            .order_by(*_newest_first(walked))
        )

    def last_compared(self, rows: int) -> AnySelect:
        """Return the statement that gives the place at which comparing ends."""
        walked = self.walk.limit(1).offset(rows - 1).subquery()
        return select(walked.c.occurred_at, walked.c.id)


def _newest_first(rows: FromClause) -> tuple[ColumnElement[Any], ...]:
    return rows.c.occurred_at.desc(), rows.c.id.desc()


_WALKED = select(*(events.c[name] for name in ("id", "occurred_at", *SEARCHED))).order_by(*_newest_first(events))
_ONLY_FOUND = tuple(column for column in _FOUND if column.name not in _WALKED.selected_columns)


def _plan(wanted: EventFilter, before: Cursor | None) -> _Plan:
    """Choose the index to walk, and what is compared on it."""
    asked = _asked(wanted)
    first = next((column for column, text in asked.items() if not _is_beginning(column, text)), None)
    if wanted.trace or (len(asked) > 1 and first not in _HOLD_ALL_COLUMNS):
        first = None
    since = _LONG_AGO if wanted.since is None else wanted.since
    until = (_FAR_AHEAD if wanted.until is None else wanted.until, 0)
    # One bound at each end: of two, SQLite would walk down from either, and compare the other row by row.
    place = until if before is None else min(until, (before.occurred_at, before.id))
    index = "trace" if wanted.trace else first or "time"
    walk = _WALKED.with_hint(events, f"INDEXED BY events_by_{index}", "sqlite").where(
        events.c.project_id == wanted.project_id,
        events.c.occurred_at >= since,
        tuple_(events.c.occurred_at, events.c.id) < place,
    )
    if wanted.trace:
        walk = walk.where(TRACE == wanted.trace, HAS_TRACE)  # noqa: SIM300  it is a column
    if first is not None:
        walk = walk.where(events.c[first] == asked[first])
    return _Plan(walk, {column: text for column, text in asked.items() if column != first})


def _stored_after(wanted: EventFilter, after: int) -> AnySelect:
    """Return a walk over what matches and was stored after the event with the id `after`: few rows are new."""
    chosen = (
        select(*_FOUND)
        .with_hint(events, "NOT INDEXED", "sqlite")
        .where(events.c.project_id == wanted.project_id, events.c.id > after)
        .where(*(_matches(events.c[column], column, text) for column, text in _asked(wanted).items()))
    )
    if wanted.since is not None:
        chosen = chosen.where(events.c.occurred_at >= wanted.since)
    return chosen if wanted.until is None else chosen.where(events.c.occurred_at < wanted.until)


class EventSearch:
    """Reads events out of a database; safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        """Search in `database`."""
        self._database = database

    def page(self, wanted: EventFilter, before: Cursor | None, limit: int) -> Page[FoundEvent]:
        """Return the `limit` newest events that match and come after the place `before` in the list."""
        plan = _plan(wanted, before)
        if not plan.compared:
            return paged(self._found(plan.rows(limit + 1)), limit)
        return self._look(wanted, before, limit, lambda plan, left, rows: self._found(plan.matching(left, rows)))

    def page_among(
        self,
        wanted: EventFilter,
        texts: Sequence[str],
        among: Callable[[Iterable[FoundEvent]], Iterable[FoundEvent]],
        before: Cursor | None,
        limit: int,
    ) -> Page[FoundEvent]:
        """Return a page as `page`, of those events alone that `among` gives of them.

        All of `texts`, in small letters, are in the JSON of each of these; capital letters of ASCII are alike. The
        database looks for them, so that no other row has to leave it.
        """
        return self._look(
            wanted, before, limit, lambda plan, left, rows: [*among(self._found(plan.having(texts, rows)))]
        )

    def _look(
        self,
        wanted: EventFilter,
        before: Cursor | None,
        limit: int,
        find: Callable[[_Plan, int, int], list[FoundEvent]],
    ) -> Page[FoundEvent]:
        """Fill a page with what `find` finds along a plan: up to so many events, or more, among so many rows."""

        def walk(place: Cursor | None, most: int, rows: int) -> Stretch[FoundEvent]:
            plan = _plan(wanted, place)
            return find(plan, most, rows), lambda: self._reached(plan, rows)

        return looked(walk, before, limit)

    def _reached(self, plan: _Plan, rows: int) -> Cursor | None:
        """Return the place after so many rows of a plan; None at the end of the list."""
        last = self._database.read(plan.last_compared(rows))
        return Cursor(*last[0]) if last else None

    def counts(self, wanted: EventFilter, seconds: int) -> tuple[Counter[int], bool]:
        """Count what matches by when it occurred, as far as one look goes.

        The counts are by the number of the stretch of so many seconds since 1970; what occurred before is not counted.
        With them comes whether there are more rows.
        """
        counts: Counter[int] = Counter()
        place: Cursor | None = None
        for rows in stretches():
            plan = _plan(wanted, place)
            counts.update(
                {int(stretch): int(matching) for stretch, matching in self._database.read(plan.counted(seconds, rows))}
            )
            place = self._reached(plan, rows)
            if place is None:
                return counts, False
        return counts, True

    def arrived(self, wanted: EventFilter, after: int, limit: int) -> list[FoundEvent]:
        """Return up to `limit` of the events that match and were stored after the one with the id `after`."""
        return self._found(_stored_after(wanted, after).order_by(events.c.id.desc()).limit(limit))

    def following(self, wanted: EventFilter, after: int, limit: int) -> tuple[list[FoundEvent], int, bool]:
        """Return up to `limit` events that match and follow the one with the id `after`, in the order of arrival.

        With them come the id that was reached, and whether there are later ones.
        """
        newest = self.newest_id()
        if newest < after:
            # The database is another one.
            return [], newest, False
        reached = min(newest, after + _FOLLOWED)
        found = self._found(
            _stored_after(wanted, after).where(events.c.id <= reached).order_by(events.c.id).limit(limit)
        )
        if len(found) == limit:
            reached = found[-1].id
        return found, reached, reached < newest

    def newest_id(self) -> int:
        """Return the id of the event that was stored last, 0 when there was none."""
        with self._database.reading() as connection:
            return last_id(connection, events)

    def one(self, project_id: str, event_id: int) -> FoundEvent | None:
        """Return the event with the id `event_id`; None when the project has none."""
        found = self._found(select(*_FOUND).where(events.c.id == event_id, events.c.project_id == project_id))
        return found[0] if found else None

    def _found(self, statement: Executable) -> list[FoundEvent]:
        return [FoundEvent(*values) for values in self._database.read(statement)]

    def everything(self, wanted: EventFilter, rows_at_a_time: int = 500) -> Iterator[FoundEvent]:
        """Give every event that matches, newest first, reading some rows at a time."""
        return followed(lambda before: self.page(wanted, before, rows_at_a_time))

    def event_types(self, project_id: str) -> list[str]:
        """Return the project's event types in alphabetical order."""
        return self._choices("event_type", project_id)

    def actions(self, project_id: str) -> list[str]:
        """Return the project's actions in alphabetical order."""
        return self._choices("action", project_id)

    def services(self, project_id: str) -> list[str]:
        """Return the project's services in alphabetical order."""
        return self._choices("service", project_id)

    def _choices(self, column: str, project_id: str) -> list[str]:
        of_project = (events.c.project_id == project_id, events.c[column] > "")
        found = self._database.read(distinct(events.c[column], f"events_by_{column}", *of_project).limit(_MAX_CHOICES))
        return [value for (value,) in found]

    def projects(self) -> list[str]:
        """Return the projects that have rows, agents, rules or keys, in alphabetical order."""
        stepped = (distinct(events.c.project_id, "events_by_time"), distinct(metric_batches.c.project_id))
        others = (select(table.c.project_id).distinct() for table in (agents, rules, api_keys))
        return sorted({project_id for query in (*stepped, *others) for (project_id,) in self._database.read(query)})


def distinct(column: Column[Any], index: str | None = None, *conditions: ColumnElement[bool]) -> AnySelect:
    """Return the statement that gives a column's values, one step in its index each: DISTINCT would walk every row."""
    least = select(func.min(column).label("value")).where(*conditions)
    if index is not None:
        least = least.with_hint(column.table, f"INDEXED BY {index}", "sqlite")
    steps = least.cte("steps", recursive=True)
    following = select(least.where(column > steps.c.value).scalar_subquery()).where(steps.c.value.is_not(None))
    steps = steps.union_all(following)
    return select(steps.c.value).where(steps.c.value.is_not(None))
