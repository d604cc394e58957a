"""The tables, and how a file of an earlier version becomes one of this version."""

from __future__ import annotations

import sqlite3

from ...events.enrichment import CORRELATION_KEY, SERVICE_NAME
from .incidents import COLUMNS, add_incidents
from .incidents import TABLE as INCIDENTS
from .rollups import MAX_TEXT, add_event_rollups, add_metric_rollups, event_facts, metric_facts

SCHEMA_VERSION = 6
"""Written to the file's `user_version`."""


def _counting(table: str, kind: str) -> tuple[str, str]:
    """Return the triggers that keep count of a table's rows; the names are this module's."""
    return (
        f"""CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
            INSERT INTO stored_rows (content, kind, amount) VALUES ('{table}', new.{kind}, 1)
            ON CONFLICT DO UPDATE SET amount = amount + 1;
        END""",  # noqa: S608
        f"""CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
            UPDATE stored_rows SET amount = amount - 1 WHERE content = '{table}' AND kind = old.{kind};
        END""",  # noqa: S608
    )


# One index for each filter, in the order of the list. Those that are walked for several filters hold all of them.
_FOR_SEVERAL_FILTERS = (
    "CREATE INDEX events_by_time ON events"
    " (project_id, occurred_at, id, event_type, action, address, endpoint, service)",
    "CREATE INDEX events_by_address ON events"
    " (project_id, address, occurred_at, id, event_type, action, endpoint, service)",
    "CREATE INDEX events_by_endpoint ON events"
    " (project_id, endpoint, occurred_at, id, event_type, action, address, service)",
    "CREATE INDEX events_by_service ON events (project_id, service, occurred_at)",
)

_TABLES = (
    # What a row says is in `row`; the columns before it repeat what is searched by.
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        batch_id TEXT NOT NULL,
        received_at REAL NOT NULL,
        occurred_at REAL NOT NULL,
        event_type TEXT NOT NULL,
        action TEXT NOT NULL,
        address TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        row TEXT NOT NULL,
        service TEXT NOT NULL DEFAULT '',
        UNIQUE (project_id, idempotency_key)
    )""",
    "CREATE INDEX events_by_kind ON events (event_type, id)",
    *_FOR_SEVERAL_FILTERS,
    "CREATE INDEX events_by_type ON events (project_id, event_type, occurred_at)",
    "CREATE INDEX events_by_action ON events (project_id, action, occurred_at)",
    "CREATE INDEX events_by_arrival ON events (received_at)",
    """CREATE TABLE metric_batches (
        project_id TEXT NOT NULL,
        batch_id TEXT NOT NULL,
        received_at REAL NOT NULL,
        PRIMARY KEY (project_id, batch_id)
    ) WITHOUT ROWID""",
    """CREATE TABLE metrics (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id TEXT NOT NULL,
        batch_id TEXT NOT NULL,
        received_at REAL NOT NULL,
        metric_type TEXT NOT NULL,
        row TEXT NOT NULL
    )""",
    "CREATE INDEX metrics_by_type ON metrics (metric_type, id)",
    "CREATE INDEX metrics_by_arrival ON metrics (received_at)",
    """CREATE TABLE agents (
        project_id TEXT NOT NULL,
        install_id TEXT NOT NULL,
        user_agent TEXT NOT NULL,
        last_seen REAL NOT NULL,
        status TEXT NOT NULL,
        PRIMARY KEY (project_id, install_id)
    ) WITHOUT ROWID""",
    """CREATE TABLE rules (
        project_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        rules TEXT NOT NULL,
        PRIMARY KEY (project_id, version)
    ) WITHOUT ROWID""",
    # A revoked key stays, so that the list shows what became of it. `digest` is the key's SHA-256.
    """CREATE TABLE api_keys (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id TEXT NOT NULL,
        label TEXT NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        created_at REAL NOT NULL,
        revoked_at REAL,
        per_minute INTEGER,
        role TEXT NOT NULL DEFAULT 'sender'
    )""",
    # How many rows there are of each kind: counting a million of them takes the better part of a second.
    """CREATE TABLE stored_rows (
        content TEXT NOT NULL,
        kind TEXT NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (content, kind)
    ) WITHOUT ROWID""",
    *_counting("events", "event_type"),
    *_counting("metrics", "metric_type"),
    # Rollups: what the overview adds up, kept in the transaction that stores the rows.
    """CREATE TABLE event_minutes (
        project_id TEXT NOT NULL,
        minute INTEGER NOT NULL,
        event_type TEXT NOT NULL,
        events INTEGER NOT NULL,
        blocked INTEGER NOT NULL,
        PRIMARY KEY (project_id, minute, event_type)
    ) WITHOUT ROWID""",
    """CREATE TABLE event_tops (
        project_id TEXT NOT NULL,
        dimension TEXT NOT NULL,
        seconds INTEGER NOT NULL,
        span INTEGER NOT NULL,
        value TEXT NOT NULL,
        events INTEGER NOT NULL,
        PRIMARY KEY (project_id, dimension, seconds, span, value)
    ) WITHOUT ROWID""",
    "CREATE INDEX event_tops_by_events ON event_tops (project_id, dimension, seconds, span, events)",
    """CREATE TABLE metric_minutes (
        project_id TEXT NOT NULL,
        minute INTEGER NOT NULL,
        metric_type TEXT NOT NULL,
        total REAL NOT NULL,
        weight REAL NOT NULL,
        largest REAL NOT NULL,
        PRIMARY KEY (project_id, minute, metric_type)
    ) WITHOUT ROWID""",
    """CREATE TABLE latency_minutes (
        project_id TEXT NOT NULL,
        minute INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        requests REAL NOT NULL,
        PRIMARY KEY (project_id, minute, bucket)
    ) WITHOUT ROWID""",
    *INCIDENTS,
)

_CHUNK = 5_000
"""Rows that a migration holds in memory at a time."""


def prepare(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file of `version` (0: a new one) to `SCHEMA_VERSION`, within the transaction that is under way."""
    if version == SCHEMA_VERSION:
        return
    if version > 1:
        # Every key was for sending.
        connection.execute("ALTER TABLE api_keys ADD COLUMN role TEXT NOT NULL DEFAULT 'sender'")
    if version == 4:
        _let_incidents_end(connection)
    elif version in (2, 3):
        if version == 2:
            _add_services(connection)
        for statement in INCIDENTS:
            connection.execute(statement)
    elif version < 2:
        if version == 1:
            _set_aside_version_1(connection)
        for statement in _TABLES:
            connection.execute(statement)
        if version == 1:
            _take_over_version_1(connection)
    if 0 < version < 4:
        _find_incidents(connection)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _add_services(connection: sqlite3.Connection) -> None:
    """Give events of version 2 their service: some have one in the metadata."""
    connection.execute("ALTER TABLE events ADD COLUMN service TEXT NOT NULL DEFAULT ''")
    connection.execute(
        "UPDATE events SET service = COALESCE(SUBSTR(json_extract(row, ?), 1, ?), '') WHERE INSTR(row, ?) > 0",
        (f'$.metadata."{SERVICE_NAME}"', MAX_TEXT, SERVICE_NAME),
    )
    for index in ("events_by_time", "events_by_address", "events_by_endpoint"):
        connection.execute(f"DROP INDEX {index}")
    for statement in _FOR_SEVERAL_FILTERS:
        connection.execute(statement)


def _let_incidents_end(connection: sqlite3.Connection) -> None:
    """Make room for several incidents of one key, of which version 4 had one at most."""
    connection.execute("DROP INDEX incidents_by_activity")
    connection.execute("ALTER TABLE incidents RENAME TO old_incidents")
    for statement in INCIDENTS:
        connection.execute(statement)
    columns = f"{COLUMNS}, last_event"
    connection.execute(f"INSERT INTO incidents ({columns}) SELECT {columns} FROM old_incidents")  # noqa: S608
    connection.execute("DROP TABLE old_incidents")


def _find_incidents(connection: sqlite3.Connection) -> None:
    """Add up the incidents of the events that are there: files before version 4 had none."""
    events = connection.execute(
        "SELECT project_id, id, row, received_at FROM events WHERE INSTR(row, ?) > 0 ORDER BY id", (CORRELATION_KEY,)
    )
    while rows := events.fetchmany(_CHUNK):
        for project_id in {row[0] for row in rows}:
            mine = [(row[1], event_facts(row[2], row[3])) for row in rows if row[0] == project_id]
            add_incidents(connection, project_id, mine)


_VERSION_1_TABLES = ("events", "metric_batches", "metrics", "agents", "rules")


def _set_aside_version_1(connection: sqlite3.Connection) -> None:
    for index in ("events_by_type", "metrics_by_type"):
        connection.execute(f"DROP INDEX IF EXISTS {index}")
    for table in _VERSION_1_TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")


def _take_over_version_1(connection: sqlite3.Connection) -> None:
    """Copy what version 1 held: its rows had none of the searched columns, and there were no rollups."""
    connection.execute(
        "INSERT INTO agents SELECT project_id, install_id, user_agent, last_seen, status FROM old_agents"
    )
    connection.execute("INSERT INTO rules SELECT project_id, version, rules FROM old_rules")
    connection.execute(
        "INSERT INTO metric_batches SELECT project_id, batch_id,"
        " COALESCE((SELECT MAX(received_at) FROM old_metrics), 0) FROM old_metric_batches"
    )
    events = connection.execute(
        "SELECT id, project_id, idempotency_key, batch_id, received_at, row FROM old_events ORDER BY id"
    )
    while rows := events.fetchmany(_CHUNK):
        facts = [event_facts(str(row[5]), float(row[4])) for row in rows]
        connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *row[:5],
                    *(fact.occurred_at, fact.event_type, fact.action, fact.address, fact.endpoint),
                    *(row[5], fact.service),
                )
                for row, fact in zip(rows, facts, strict=True)
            ],
        )
        for project_id in {row[1] for row in rows}:
            mine = [fact for row, fact in zip(rows, facts, strict=True) if row[1] == project_id]
            add_event_rollups(connection, project_id, mine)
    metrics = connection.execute("SELECT id, project_id, batch_id, received_at, metric_type, row FROM old_metrics")
    while rows := metrics.fetchmany(_CHUNK):
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
        for project_id in {row[1] for row in rows}:
            add_metric_rollups(
                connection, project_id, [metric_facts(row[5], row[3]) for row in rows if row[1] == project_id]
            )
    for table in _VERSION_1_TABLES:
        connection.execute(f"DROP TABLE old_{table}")
