"""Rows on their way into the tables: which are new, which ids they get, and what is counted with them.

All of it happens within one writing transaction: until its end nobody else gives ids or counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Table, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from ...models import SecurityEvent, SecurityMetric
from .database import Database
from .incidents import add_incidents
from .rollups import (
    EventFacts,
    MetricFacts,
    add_event_rollups,
    add_metric_rollups,
    event_columns,
    event_facts,
    metric_facts,
)
from .tables import day_of, event_keys, events, last_ids, metric_batches, metrics, stored_rows
from .user_places import add_user_places


@dataclass(frozen=True, slots=True)
class NewEvent:
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


def read_events(offered: Sequence[SecurityEvent], received_at: float) -> list[NewEvent]:
    """Make events ready to be stored; of several with one key the first is taken.

    The trace id is the first of the metadata: whatever else there is may have one somewhere too, and an event is found
    by the first one (`tables.TRACE`).
    """
    found: dict[bytes, NewEvent] = {}
    for event in offered:
        key = UUID(event.idempotency_key).bytes
        if key not in found:
            if "trace_id" in event.metadata:
                event.metadata = {"trace_id": event.metadata["trace_id"], **event.metadata}
            row = event.model_dump_json()
            found[key] = NewEvent(key, event_facts(row, received_at), row)
    return list(found.values())


def read_metrics(offered: Sequence[SecurityMetric], received_at: float) -> list[NewMetric]:
    """Make metrics ready to be stored."""
    rows = [metric.model_dump_json() for metric in offered]
    return [NewMetric(metric_facts(row, received_at), row) for row in rows]


_CLAIM = insert(event_keys).on_conflict_do_nothing().returning(event_keys.c.key)


def add_events(database: Database, connection: Connection, batch: Batch, offered: Sequence[NewEvent]) -> int:
    """Store the events whose keys the project doesn't have, each of them once; return how many."""
    if not offered:
        return 0
    day = day_of(batch.received_at)
    claims = [{"project_id": batch.project_id, "key": event.key, "day": day} for event in offered]
    claimed = set(connection.scalars(_CLAIM, claims))
    new = [event for event in offered if event.key in claimed]
    if not new:
        return 0
    first = _give_ids(connection, events, len(new))
    database.kind.make_room(connection, day)
    place = (batch.project_id, batch.batch_id, batch.received_at)
    rows = [event_columns(number, *place, event.facts, event.row) for number, event in enumerate(new, first)]
    database.kind.insert(connection, events, rows)
    _count(connection, events, day, Counter(event.facts.event_type for event in new))
    add_event_rollups(connection, batch.project_id, [event.facts for event in new])
    add_user_places(connection, batch.project_id, (event.facts for event in new), batch.received_at)
    add_incidents(connection, batch.project_id, enumerate((event.facts for event in new), first))
    return len(new)


_NEW_BATCH = insert(metric_batches).on_conflict_do_nothing().returning(metric_batches.c.batch_id)


def add_metrics(database: Database, connection: Connection, batch: Batch, offered: Sequence[NewMetric]) -> int:
    """Store the metrics of a batch that the project doesn't have; return how many."""
    if not offered:
        return 0
    day, columns = day_of(batch.received_at), {"project_id": batch.project_id, "received_at": batch.received_at}
    if connection.execute(_NEW_BATCH, {**columns, "batch_id": batch.batch_id}).first() is None:
        return 0
    first = _give_ids(connection, metrics, len(offered))
    database.kind.make_room(connection, day)
    columns |= {"batch_id": batch.batch_id}
    rows = [
        {"id": number, **columns, "metric_type": metric.facts.metric_type, "row": metric.row}
        for number, metric in enumerate(offered, first)
    ]
    database.kind.insert(connection, metrics, rows)
    _count(connection, metrics, day, Counter(metric.facts.metric_type for metric in offered))
    add_metric_rollups(connection, batch.project_id, [metric.facts for metric in offered])
    return len(offered)


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
_COUNT = _some_more.on_conflict_do_update(
    index_elements=stored_rows.primary_key, set_={"amount": stored_rows.c.amount + _some_more.excluded.amount}
)


def _count(connection: Connection, table: Table, day: int, kinds: Counter[str]) -> None:
    rows = [{"content": table.name, "day": day, "kind": kind, "amount": amount} for kind, amount in kinds.items()]
    connection.execute(_COUNT, rows)
