"""Rows on their way into the tables: which are new, which ids they get, and what is counted with them.

All of it happens within one writing transaction: until its end nobody else gives ids or counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import orjson
from sqlalchemy import Connection, Table, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from ...models import SecurityEvent, SecurityMetric
from .database import Database
from .incidents import add_incidents
from .many import ManyRows
from .rollups import (
    EVENT_COLUMNS,
    EventFacts,
    MetricFacts,
    add_event_rollups,
    add_metric_rollups,
    event_columns,
    facts_of_event,
    facts_of_metric,
)
from .tables import day_of, event_keys, events, last_ids, metric_batches, metrics, stored_rows, without_nul
from .user_places import add_user_places

T = TypeVar("T")


class NewEvent(NamedTuple):
    """An event before it is stored: its UUID's bytes, what it is searched and counted by, and its JSON."""

    key: bytes
    facts: EventFacts
    row: str


@dataclass(frozen=True, slots=True)
class NewMetric:
    """A metric before it is stored: what it adds to the figures, and its JSON."""

    facts: MetricFacts
    row: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Where rows come from: a project's batch, received at a time in Unix seconds."""

    project_id: str
    batch_id: str
    received_at: float


@dataclass(frozen=True, slots=True)
class Offered:
    """A batch with its rows."""

    batch: Batch
    events: Sequence[NewEvent] = ()
    metrics: Sequence[NewMetric] = ()

    @property
    def size(self) -> int:
        """How many rows it has."""
        return len(self.events) + len(self.metrics)


@dataclass(slots=True)
class _OfProject:
    """The new rows of one project, each with the batch that it is of."""

    events: list[tuple[Batch, NewEvent]] = field(default_factory=list)
    metrics: list[tuple[Batch, NewMetric]] = field(default_factory=list)


def read_events(offered: Sequence[SecurityEvent], received_at: float) -> list[NewEvent]:
    """Make events ready to be stored; of several with one key the first is taken.

    The trace id is the first of the metadata: whatever else there is may have one somewhere too, and an event is found
    by the first one (`tables.TRACE`).
    """
    found: dict[bytes, NewEvent] = {}
    for event in offered:
        # It is spelled as usual, by the model.
        key = bytes.fromhex(event.idempotency_key.replace("-", ""))
        if key not in found:
            metadata = event.metadata
            if "trace_id" in metadata and next(iter(metadata)) != "trace_id":
                event.metadata = {"trace_id": metadata["trace_id"], **metadata}
            found[key] = NewEvent(key, facts_of_event(event, received_at), _json_of(event))
    return list(found.values())


def _json_of(row: SecurityEvent | SecurityMetric) -> str:
    """Return what `model_dump_json` returns, which takes several times as long."""
    values, more = vars(row), row.model_extra
    try:
        return orjson.dumps({**values, **more} if more else values, option=orjson.OPT_UTC_Z).decode()
    except TypeError:
        # A number of more than 64 bits, or what somebody has put there who is no sender.
        return row.model_dump_json()


def read_metrics(offered: Sequence[SecurityMetric], received_at: float) -> list[NewMetric]:
    """Make metrics ready to be stored."""
    return [NewMetric(facts_of_metric(metric, received_at), _json_of(metric)) for metric in offered]


def add_batches(database: Database, connection: Connection, offered: Sequence[Offered]) -> list[int]:
    """Store the rows of several batches that their projects don't have, each once; return how many of each batch.

    Of an event that comes in two of them, the first one's is stored.
    """
    accepted = [0] * len(offered)
    projects: defaultdict[str, _OfProject] = defaultdict(_OfProject)
    new = _new_events(connection, offered)
    begun = _begun(connection, offered)
    for place, one in enumerate(offered):
        project = projects[one.batch.project_id]
        project.events += [(one.batch, event) for event in new[place]]
        accepted[place] += len(new[place])
        if place in begun:
            project.metrics += [(one.batch, metric) for metric in one.metrics]
            accepted[place] += len(one.metrics)
    for project_id, of_project in projects.items():
        _add_events(database, connection, project_id, of_project.events)
        _add_metrics(database, connection, project_id, of_project.metrics)
    return accepted


_CLAIM = ManyRows(
    insert(event_keys).on_conflict_do_nothing().returning(event_keys.c.project_id, event_keys.c.key),
    ("project_id", "key", "day"),
)


def _new_events(connection: Connection, offered: Sequence[Offered]) -> list[Sequence[NewEvent]]:
    """Note the keys of events, and return of each batch the events that their project didn't have."""
    rows = [(one.batch.project_id, event.key, day_of(one.batch.received_at)) for one in offered for event in one.events]
    noted = _CLAIM.run(connection, rows)
    if len(noted) == len(rows):
        return [one.events for one in offered]
    claimed = {(project_id, key) for project_id, key in noted}
    return [[event for event in one.events if _is_first(claimed, one.batch.project_id, event.key)] for one in offered]


def _is_first(claimed: set[tuple[str, T]], project_id: str, name: T) -> bool:
    """Whether a key or an id was claimed, and nobody has asked for it before."""
    if (project_id, name) not in claimed:
        return False
    claimed.remove((project_id, name))
    return True


_NEW_BATCH = ManyRows(
    insert(metric_batches).on_conflict_do_nothing().returning(metric_batches.c.project_id, metric_batches.c.batch_id),
    ("project_id", "batch_id", "received_at"),
)


def _begun(connection: Connection, offered: Sequence[Offered]) -> set[int]:
    """Note the batches that have metrics, and return the places of those that their project didn't have."""
    with_metrics = [(place, one.batch) for place, one in enumerate(offered) if one.metrics]
    rows = [(batch.project_id, batch.batch_id, batch.received_at) for _, batch in with_metrics]
    claimed = {(project_id, batch_id) for project_id, batch_id in _NEW_BATCH.run(connection, rows)}
    # It is returned as it is stored.
    return {place for place, batch in with_metrics if _is_first(claimed, batch.project_id, without_nul(batch.batch_id))}


def _add_events(
    database: Database, connection: Connection, project_id: str, new: Sequence[tuple[Batch, NewEvent]]
) -> None:
    if not new:
        return
    first = _enter(database, connection, events, [(batch, event.facts.event_type) for batch, event in new])
    rows = [
        event_columns(number, project_id, batch.batch_id, batch.received_at, event.facts, event.row)
        for number, (batch, event) in enumerate(new, first)
    ]
    database.kind.insert(connection, events, EVENT_COLUMNS, rows)
    facts = [event.facts for _, event in new]
    add_event_rollups(connection, project_id, facts)
    add_user_places(connection, project_id, facts, max(batch.received_at for batch, _ in new))
    add_incidents(connection, project_id, enumerate(facts, first))


_METRIC_COLUMNS = tuple(column.name for column in metrics.c)


def _add_metrics(
    database: Database, connection: Connection, project_id: str, new: Sequence[tuple[Batch, NewMetric]]
) -> None:
    if not new:
        return
    first = _enter(database, connection, metrics, [(batch, metric.facts.metric_type) for batch, metric in new])
    rows = [
        (number, project_id, batch.batch_id, batch.received_at, metric.facts.metric_type, metric.row)
        for number, (batch, metric) in enumerate(new, first)
    ]
    database.kind.insert(connection, metrics, _METRIC_COLUMNS, rows)
    add_metric_rollups(connection, project_id, [metric.facts for _, metric in new])


_one_more = insert(last_ids)
_GIVE = _one_more.on_conflict_do_update(
    index_elements=last_ids.primary_key, set_={"last_id": last_ids.c.last_id + _one_more.excluded.last_id}
).returning(last_ids.c.last_id)


def _give_ids(connection: Connection, table: Table, amount: int) -> int:
    """Return the first of `amount` ids in a row; nobody else gives any until the end of the transaction."""
    last = connection.execute(_GIVE, {"content": table.name, "last_id": amount}).scalar_one()
    return int(last) - amount + 1


def last_id(connection: Connection, table: Table) -> int:
    """Return the id that a row of `table` was given last, 0 when there was none."""
    found = connection.execute(_LAST, {"name": table.name}).scalar()
    return 0 if found is None else int(found)


_LAST = select(last_ids.c.last_id).where(last_ids.c.content == bindparam("name"))

_some_more = insert(stored_rows)
_COUNT = ManyRows(
    _some_more.on_conflict_do_update(
        index_elements=stored_rows.primary_key, set_={"amount": stored_rows.c.amount + _some_more.excluded.amount}
    ),
    ("content", "day", "kind", "amount"),
)


def _enter(database: Database, connection: Connection, table: Table, new: Sequence[tuple[Batch, str]]) -> int:
    """Count rows by the day on which they came and their kind, and see to it that there is room; return the first id.

    Args:
        database: where they go.
        connection: of the transaction under way.
        table: of the rows.
        new: of each row its batch and its kind.
    """
    first = _give_ids(connection, table, len(new))
    kinds = Counter((day_of(batch.received_at), kind) for batch, kind in new)
    for day in {day for day, _ in kinds}:
        database.kind.make_room(connection, day)
    _COUNT.run(connection, [(table.name, day, kind, amount) for (day, kind), amount in kinds.items()])
    return first
