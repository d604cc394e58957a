"""The tables of a queue and the triggers that keep its ledger. SQLite 3.24 knows all of it."""

from __future__ import annotations

import sqlite3
import time

from ..steady import boot

SCHEMA_VERSION = 3
LIVE = "('ready', 'deferred', 'in flight')"
"""States of batches that are not delivered yet; the only one beside them that a row can have is `dead`."""

# No look goes through more rows than it returns, however deep the queue is: `batches_by_owner` has the newest ready
# batch of one owner, `batches_by_due` the deferred ones that came due, `batches_by_age` the oldest and newest of all.
#
# `incoming` takes batches in and out in one statement: a row with a body is stored, one without is a batch in flight
# that leaves for those that follow in the same statement. A row with the end of a lease renews it.
SCHEMA = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE owners (owner TEXT PRIMARY KEY, lease_until REAL NOT NULL) WITHOUT ROWID;
INSERT INTO owners VALUES ('', -9e999);
CREATE TABLE finished (seq INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE);
CREATE TABLE ledger (
    kind TEXT NOT NULL, state TEXT NOT NULL, rows INTEGER NOT NULL, batches INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (kind, state)
) WITHOUT ROWID;
INSERT INTO ledger VALUES ('events', 'ready', 0, 0, 0), ('metrics', 'ready', 0, 0, 0);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, rows INTEGER NOT NULL,
    size INTEGER NOT NULL, content_encoding TEXT NOT NULL, encrypted INTEGER NOT NULL, created_at REAL NOT NULL,
    checksum INTEGER NOT NULL, owner TEXT, state TEXT NOT NULL, due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL, refusals INTEGER NOT NULL DEFAULT 0, status INTEGER, reason TEXT, time REAL
);
CREATE INDEX batches_by_owner ON batches (owner, kind, state, created_at);
CREATE INDEX batches_by_due ON batches (owner, kind, due) WHERE state = 'deferred';
CREATE INDEX batches_by_age ON batches (kind, created_at) WHERE state <> 'dead';
CREATE INDEX dead_by_time ON batches (time) WHERE state = 'dead';
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE VIEW incoming AS
    SELECT batch_id, kind, rows, size, content_encoding, encrypted, created_at, checksum, body, owner, state, attempts,
    status, reason, time, 0.0 AS lease_until FROM batches JOIN bodies USING (seq);

CREATE TRIGGER batch_leaves INSTEAD OF INSERT ON incoming WHEN NEW.body IS NULL BEGIN
    DELETE FROM batches WHERE batch_id = NEW.batch_id AND owner = NEW.owner AND state = 'in flight';
    SELECT RAISE(ABORT, 'not held') WHERE changes() = 0;
    INSERT OR REPLACE INTO finished (batch_id)
        SELECT NEW.batch_id WHERE NEW.state = 'replaced' AND EXISTS (SELECT 1 FROM facts WHERE name = 'remembers');
END;
CREATE TRIGGER batch_comes INSTEAD OF INSERT ON incoming WHEN NEW.body IS NOT NULL BEGIN
    INSERT INTO batches (batch_id, kind, rows, size, content_encoding, encrypted, created_at, checksum, owner, state,
        attempts, status, reason, time)
        VALUES (NEW.batch_id, NEW.kind, NEW.rows, NEW.size, NEW.content_encoding, NEW.encrypted, NEW.created_at,
        NEW.checksum, NEW.owner, NEW.state, NEW.attempts, NEW.status, NEW.reason, NEW.time);
    INSERT INTO bodies SELECT seq, NEW.body FROM batches WHERE batch_id = NEW.batch_id;
    INSERT INTO owners SELECT NEW.owner, NEW.lease_until WHERE NEW.lease_until IS NOT NULL
        ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until;
END;
CREATE TRIGGER batch_stored AFTER INSERT ON batches BEGIN
    INSERT INTO ledger VALUES (NEW.kind, NEW.state, NEW.rows, 1, NEW.size)
        ON CONFLICT (kind, state) DO UPDATE SET rows = rows + NEW.rows, batches = batches + 1, bytes = bytes + NEW.size;
    DELETE FROM batches WHERE seq = NEW.seq AND state NOT IN ('ready', 'in flight', 'dead');
END;
CREATE TRIGGER batch_moved AFTER UPDATE OF state ON batches WHEN OLD.state <> NEW.state BEGIN
    UPDATE ledger SET rows = rows - OLD.rows, batches = batches - 1, bytes = bytes - OLD.size
        WHERE kind = OLD.kind AND state = OLD.state;
    INSERT INTO ledger VALUES (NEW.kind, NEW.state, NEW.rows, 1, NEW.size)
        ON CONFLICT (kind, state) DO UPDATE SET rows = rows + NEW.rows, batches = batches + 1, bytes = bytes + NEW.size;
    INSERT OR REPLACE INTO finished (batch_id)
        SELECT NEW.batch_id WHERE NEW.state = 'delivered' AND EXISTS (SELECT 1 FROM facts WHERE name = 'remembers');
    DELETE FROM batches WHERE seq = NEW.seq AND NEW.state NOT IN {LIVE} AND NEW.state <> 'dead';
END;
CREATE TRIGGER batch_removed AFTER DELETE ON batches BEGIN
    DELETE FROM bodies WHERE seq = OLD.seq;
    UPDATE ledger SET rows = rows - OLD.rows, batches = batches - 1, bytes = bytes - OLD.size
        WHERE kind = OLD.kind AND state = OLD.state AND (OLD.state IN {LIVE} OR OLD.state = 'dead');
END;
CREATE TRIGGER finished_bounded AFTER INSERT ON finished BEGIN
    DELETE FROM finished WHERE seq <= NEW.seq - (SELECT value FROM facts WHERE name = 'remembers');
END;
"""

_LONGEST_SECONDS = 3600.0


def after_boot(connection: sqlite3.Connection) -> None:
    """End every lease and every wait that began before this machine was started the last time, with all its processes.

    Where nothing tells one start from the next, what lies further ahead than a lease or a wait can be is that old.
    """
    number, longest = boot(), time.monotonic() + _LONGEST_SECONDS
    found = connection.execute("SELECT value FROM facts WHERE name = 'boot'").fetchone()
    if found is not None and found[0] == number:
        if number:
            return
    else:
        connection.execute("INSERT OR REPLACE INTO facts VALUES ('boot', ?)", (number,))
        longest = float("-inf")
    connection.execute("UPDATE owners SET lease_until = ? WHERE lease_until > ?", (float("-inf"), longest))
    connection.execute("UPDATE batches SET due = 0 WHERE state = 'deferred' AND due > ?", (longest,))
