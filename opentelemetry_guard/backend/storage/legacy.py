"""Files of the releases that numbered their versions by hand, 1 to 6: everything in them is taken over.

Their tables are set aside, this release's are made, and what was kept is copied; what an old version didn't have is
found in its rows. All of it is one transaction: a file is as it was, or as it is to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, MetaData, Table, cast, func, insert, literal, select, text

from ...events.enrichment import CORRELATION_KEY, SERVICE_NAME
from . import tables
from .incidents import add_incidents
from .results import AnyRow
from .rollups import (
    EVENT_COLUMNS,
    MAX_TEXT,
    add_event_rollups,
    add_metric_rollups,
    event_columns,
    event_facts,
    metric_facts,
)

LAST_VERSION = 6
"""The last number; later ones are names of revisions. A file that has those is numbered one more, which releases that
know numbers alone refuse."""

_ASIDE = "old_"
_CHUNK = 5_000
"""Rows that are held in memory at a time."""

_COPIED = (
    *(tables.agents, tables.rules, tables.api_keys, tables.metrics, tables.metric_batches),
    *(tables.event_minutes, tables.event_tops, tables.metric_minutes, tables.latency_minutes, tables.incidents),
)
"""Tables whose columns are still the same, where a version has them, but for some that have a default."""


@dataclass(frozen=True, slots=True)
class OldTables:
    """What a file of a version has, by the names that its tables were set aside from."""

    version: int
    tables: dict[str, Table]


class UnknownVersion(Exception):
    """The database is of a version that this release doesn't know; the text says which, after the database's name."""


def set_aside(connection: Connection) -> OldTables | None:
    """Rename the tables of an old file, within the transaction under way; None where the file is none.

    Raises:
        UnknownVersion: its number is no release's; the text names it.
    """
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version > LAST_VERSION:
        raise UnknownVersion(f"has version {version}, which this release doesn't know")
    connection.exec_driver_sql(f"PRAGMA user_version = {LAST_VERSION + 1}")
    if version == 0:
        return None
    made = connection.execute(text("SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type")).all()
    old = [name for kind, name in made if kind == "table" and not name.startswith("sqlite_")]
    for kind, name in made:
        if kind in ("index", "trigger"):
            connection.exec_driver_sql(f'DROP {kind} "{name}"')
    for name in old:
        connection.exec_driver_sql(f'ALTER TABLE "{name}" RENAME TO "{_ASIDE}{name}"')
    known = MetaData()
    return OldTables(version, {name: Table(_ASIDE + name, known, autoload_with=connection) for name in old})


def take_over(connection: Connection, old: OldTables) -> None:
    """Copy what was set aside into this release's tables, and drop it."""
    for table in _COPIED:
        if table.name in old.tables:
            _copy(connection, old.tables[table.name], table)
    _take_events(connection, old)
    _count(connection, tables.events, tables.events.c.event_type, old)
    _count(connection, tables.metrics, tables.metrics.c.metric_type, old)
    if old.version == 1:
        _find_figures(connection)
    if "incidents" not in old.tables:
        _find_incidents(connection)
    for name in ("api_keys", "incidents"):
        # A number that was given once is not given again, also where its row is gone.
        if name in old.tables:
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": name})
            renamed = text("UPDATE sqlite_sequence SET name = :name WHERE name = :old")
            connection.execute(renamed, {"name": name, "old": _ASIDE + name})
    for table in old.tables.values():
        connection.exec_driver_sql(f'DROP TABLE "{table.name}"')


def _copy(connection: Connection, old: Table, table: Table) -> None:
    values: dict[str, ColumnElement[Any]] = {column.name: column for column in old.c if column.name in table.c}
    if table is tables.metric_batches and "received_at" not in values:
        # Version 1 didn't say when; the time of the newest row keeps it for as long as any could.
        newest = select(func.max(tables.metrics.c.received_at)).scalar_subquery()
        values["received_at"] = func.coalesce(newest, 0.0)
    connection.execute(insert(table).from_select(list(values), select(*values.values())))


def _take_events(connection: Connection, old: OldTables) -> None:
    events = old.tables["events"]
    # What a row comes again by is its UUID, which SQLite can't read.
    connection.connection.driver_connection.create_function("guard_uuid", 1, _uuid_bytes)  # type: ignore[union-attr]
    key = func.guard_uuid(events.c.idempotency_key)
    day = cast(events.c.received_at / tables.DAY_SECONDS, tables.Number)
    keys = select(events.c.project_id, key, day).where(key.is_not(None))
    connection.execute(
        insert(tables.event_keys).prefix_with("OR IGNORE").from_select(["project_id", "key", "day"], keys)
    )
    if old.version == 1:
        for rows in _chunks(connection, select(events).order_by(events.c.id)):
            connection.execute(insert(tables.events), [_event_columns(row) for row in rows])
        return
    values: dict[str, Any] = {column.name: column for column in events.c if column.name in tables.events.c}
    if "service" not in values:
        named = func.json_extract(events.c.row, f'$.metadata."{SERVICE_NAME}"')
        values["service"] = func.coalesce(func.substr(named, 1, MAX_TEXT), "")
    connection.execute(insert(tables.events).from_select(list(values), select(*values.values())))


def _uuid_bytes(key: str) -> bytes | None:
    try:
        return UUID(key).bytes
    except ValueError:
        return None


def _event_columns(row: AnyRow) -> dict[str, object]:
    facts = event_facts(row.row, row.received_at)
    values = event_columns(row.id, row.project_id, row.batch_id, row.received_at, facts, row.row)
    return dict(zip(EVENT_COLUMNS, values, strict=True))


def _count(connection: Connection, table: Table, kind: Any, old: OldTables) -> None:
    """Count the rows of a table, and go on with its ids where they ended."""
    day = cast(table.c.received_at / tables.DAY_SECONDS, tables.Number)
    counted = select(literal(table.name), day, kind, func.count()).group_by(day, kind)
    connection.execute(insert(tables.stored_rows).from_select(["content", "day", "kind", "amount"], counted))
    given = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    last = connection.execute(given, {"name": old.tables[table.name].name}).scalar()
    if last is not None:
        connection.execute(insert(tables.last_ids), {"content": table.name, "last_id": last})


def _find_figures(connection: Connection) -> None:
    """Add up the figures of the rows that are there: version 1 had none."""
    for project_id, rows in _by_project(connection, tables.events):
        add_event_rollups(connection, project_id, [event_facts(row.row, row.received_at) for row in rows])
    for project_id, rows in _by_project(connection, tables.metrics):
        add_metric_rollups(connection, project_id, [metric_facts(row.row, row.received_at) for row in rows])


def _find_incidents(connection: Connection) -> None:
    """Add up the incidents of the events that are there: files before version 4 had none."""
    for project_id, rows in _by_project(connection, tables.events):
        facts = [(row.id, event_facts(row.row, row.received_at)) for row in rows if CORRELATION_KEY in row.row]
        add_incidents(connection, project_id, facts)


def _by_project(connection: Connection, table: Table) -> Iterator[tuple[str, Sequence[AnyRow]]]:
    """Give all rows of a table in the order of their arrival, those of a project that follow each other together."""
    for rows in _chunks(connection, select(table).order_by(table.c.id)):
        for project_id, of_project in groupby(rows, lambda row: str(row.project_id)):
            yield project_id, list(of_project)


def _chunks(connection: Connection, statement: Any) -> Iterator[Sequence[AnyRow]]:
    result = connection.execution_options(stream_results=True).execute(statement)
    while rows := result.fetchmany(_CHUNK):
        yield rows
