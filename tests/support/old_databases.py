"""SQLite files as releases wrote them that numbered their versions by hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

VERSION_1 = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    batch_id TEXT NOT NULL, received_at REAL NOT NULL, event_type TEXT NOT NULL, row TEXT NOT NULL,
    UNIQUE (project_id, idempotency_key)
);
CREATE INDEX events_by_type ON events (event_type, id);
CREATE TABLE metric_batches (project_id TEXT NOT NULL, batch_id TEXT NOT NULL, PRIMARY KEY (project_id, batch_id))
    WITHOUT ROWID;
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, batch_id TEXT NOT NULL, received_at REAL NOT NULL,
    metric_type TEXT NOT NULL, row TEXT NOT NULL
);
CREATE INDEX metrics_by_type ON metrics (metric_type, id);
CREATE TABLE agents (
    project_id TEXT NOT NULL, install_id TEXT NOT NULL, user_agent TEXT NOT NULL, last_seen REAL NOT NULL,
    status TEXT NOT NULL, PRIMARY KEY (project_id, install_id)
) WITHOUT ROWID;
CREATE TABLE rules (
    project_id TEXT NOT NULL, version INTEGER NOT NULL, rules TEXT NOT NULL, PRIMARY KEY (project_id, version)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""

VERSION_6 = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    batch_id TEXT NOT NULL, received_at REAL NOT NULL, occurred_at REAL NOT NULL, event_type TEXT NOT NULL,
    action TEXT NOT NULL, address TEXT NOT NULL, endpoint TEXT NOT NULL, row TEXT NOT NULL,
    service TEXT NOT NULL DEFAULT '', UNIQUE (project_id, idempotency_key)
);
CREATE INDEX events_by_kind ON events (event_type, id);
CREATE INDEX events_by_time ON events (project_id, occurred_at, id, event_type, action, address, endpoint, service);
CREATE INDEX events_by_address ON events (project_id, address, occurred_at, id, event_type, action, endpoint, service);
CREATE INDEX events_by_endpoint ON events (project_id, endpoint, occurred_at, id, event_type, action, address, service);
CREATE INDEX events_by_service ON events (project_id, service, occurred_at);
CREATE INDEX events_by_type ON events (project_id, event_type, occurred_at);
CREATE INDEX events_by_action ON events (project_id, action, occurred_at);
CREATE INDEX events_by_arrival ON events (received_at);
CREATE TABLE metric_batches (
    project_id TEXT NOT NULL, batch_id TEXT NOT NULL, received_at REAL NOT NULL, PRIMARY KEY (project_id, batch_id)
) WITHOUT ROWID;
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, batch_id TEXT NOT NULL, received_at REAL NOT NULL,
    metric_type TEXT NOT NULL, row TEXT NOT NULL
);
CREATE INDEX metrics_by_type ON metrics (metric_type, id);
CREATE INDEX metrics_by_arrival ON metrics (received_at);
CREATE TABLE agents (
    project_id TEXT NOT NULL, install_id TEXT NOT NULL, user_agent TEXT NOT NULL, last_seen REAL NOT NULL,
    status TEXT NOT NULL, PRIMARY KEY (project_id, install_id)
) WITHOUT ROWID;
CREATE TABLE rules (
    project_id TEXT NOT NULL, version INTEGER NOT NULL, rules TEXT NOT NULL, PRIMARY KEY (project_id, version)
) WITHOUT ROWID;
CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, label TEXT NOT NULL, digest BLOB NOT NULL UNIQUE,
    created_at REAL NOT NULL, revoked_at REAL, per_minute INTEGER,
    role TEXT NOT NULL DEFAULT 'sender'
);
CREATE TABLE stored_rows (
    content TEXT NOT NULL, kind TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (content, kind)
) WITHOUT ROWID;
CREATE TRIGGER events_added AFTER INSERT ON events BEGIN
    INSERT INTO stored_rows (content, kind, amount) VALUES ('events', new.event_type, 1)
    ON CONFLICT DO UPDATE SET amount = amount + 1;
END;
CREATE TRIGGER events_deleted AFTER DELETE ON events BEGIN
    UPDATE stored_rows SET amount = amount - 1 WHERE content = 'events' AND kind = old.event_type;
END;
CREATE TRIGGER metrics_added AFTER INSERT ON metrics BEGIN
    INSERT INTO stored_rows (content, kind, amount) VALUES ('metrics', new.metric_type, 1)
    ON CONFLICT DO UPDATE SET amount = amount + 1;
END;
CREATE TRIGGER metrics_deleted AFTER DELETE ON metrics BEGIN
    UPDATE stored_rows SET amount = amount - 1 WHERE content = 'metrics' AND kind = old.metric_type;
END;
CREATE TABLE event_minutes (
    project_id TEXT NOT NULL, minute INTEGER NOT NULL, event_type TEXT NOT NULL, events INTEGER NOT NULL,
    blocked INTEGER NOT NULL, PRIMARY KEY (project_id, minute, event_type)
) WITHOUT ROWID;
CREATE TABLE event_tops (
    project_id TEXT NOT NULL, dimension TEXT NOT NULL, seconds INTEGER NOT NULL, span INTEGER NOT NULL,
    value TEXT NOT NULL, events INTEGER NOT NULL, PRIMARY KEY (project_id, dimension, seconds, span, value)
) WITHOUT ROWID;
CREATE INDEX event_tops_by_events ON event_tops (project_id, dimension, seconds, span, events);
CREATE TABLE metric_minutes (
    project_id TEXT NOT NULL, minute INTEGER NOT NULL, metric_type TEXT NOT NULL, total REAL NOT NULL,
    weight REAL NOT NULL, largest REAL NOT NULL, PRIMARY KEY (project_id, minute, metric_type)
) WITHOUT ROWID;
CREATE TABLE latency_minutes (
    project_id TEXT NOT NULL, minute INTEGER NOT NULL, bucket INTEGER NOT NULL, requests REAL NOT NULL,
    PRIMARY KEY (project_id, minute, bucket)
) WITHOUT ROWID;
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, correlation_key TEXT NOT NULL,
    first_seen REAL NOT NULL, last_seen REAL NOT NULL, events INTEGER NOT NULL, requests INTEGER NOT NULL,
    stopped INTEGER NOT NULL, severity INTEGER NOT NULL, threat_score INTEGER NOT NULL, last_action TEXT NOT NULL,
    event_types TEXT NOT NULL, addresses TEXT NOT NULL, targets TEXT NOT NULL, latest TEXT NOT NULL,
    last_event INTEGER NOT NULL, state TEXT NOT NULL, state_since REAL NOT NULL, over INTEGER NOT NULL DEFAULT 0,
    UNIQUE (project_id, correlation_key, over)
);
CREATE INDEX incidents_by_activity ON incidents (project_id, last_seen, id, state, severity);
PRAGMA user_version = 6;
"""

_COPIED = (
    *("metric_batches", "metrics", "agents", "rules", "api_keys"),
    *("event_minutes", "event_tops", "metric_minutes", "latency_minutes", "incidents"),
)


def make_old(path: Path, version: int) -> None:
    """Make a closed file of today one of `version` (2 to 6) with the same rows in it."""
    today = path.rename(path.with_suffix(".today"))
    with closing(sqlite3.connect(path)) as old, old:
        old.executescript(VERSION_6)
        old.execute("ATTACH ? AS today", (str(today),))
        for table in _COPIED:
            names = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM today.{table}")
        searched = "batch_id, received_at, occurred_at, event_type, action, address, endpoint, row, service"
        old.execute(
            f"INSERT INTO main.events (id, project_id, idempotency_key, {searched})"
            f" SELECT id, project_id, json_extract(row, '$.idempotency_key'), {searched} FROM today.events"
        )
        if version < 6:
            old.execute("ALTER TABLE main.api_keys DROP COLUMN role")
        if version < 5:
            _let_no_incident_end(old)
        if version < 4:
            old.execute("DROP TABLE incidents")
        if version < 3:
            _forget_services(old)
        old.execute(f"PRAGMA user_version = {version}")
    today.unlink()


def _let_no_incident_end(old: sqlite3.Connection) -> None:
    """Give the incidents the table of version 4, which has one of a key."""
    (now,) = old.execute("SELECT sql FROM main.sqlite_master WHERE name = 'incidents'").fetchone()
    columns = ", ".join(row[1] for row in old.execute("PRAGMA main.table_info(incidents)") if row[1] != "over")
    then = now.replace("over INTEGER NOT NULL DEFAULT 0,", "").replace("correlation_key, over", "correlation_key")
    old.execute("DROP INDEX main.incidents_by_activity")
    old.execute("ALTER TABLE main.incidents RENAME TO later")
    old.execute(then)
    old.execute(f"INSERT INTO main.incidents SELECT {columns} FROM later")
    old.execute("DROP TABLE later")
    old.execute("CREATE INDEX incidents_by_activity ON incidents (project_id, last_seen, id, state, severity)")


def _forget_services(old: sqlite3.Connection) -> None:
    """Give the events the columns and indexes of version 2."""
    for index in ("events_by_time", "events_by_address", "events_by_endpoint", "events_by_service"):
        old.execute(f"DROP INDEX main.{index}")
    old.execute("ALTER TABLE main.events DROP COLUMN service")
    old.execute("CREATE INDEX events_by_time ON events (project_id, occurred_at)")
    old.execute("CREATE INDEX events_by_address ON events (project_id, address)")
    old.execute("CREATE INDEX events_by_endpoint ON events (project_id, endpoint)")
