"""The store of one host: a small SQLite file, which only its owner can read."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from ...settings.state import foreign
from .stores import Claim, Claimed, Row, Total, packed, unpacked

_WAIT_SECONDS = 1.0
_MAX_PAGES = 8192
"""Pages of 4,096 bytes that the file has at most."""
_CLEAN_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (name BLOB PRIMARY KEY, found BLOB NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (key BLOB PRIMARY KEY, name TEXT NOT NULL, number INTEGER NOT NULL,
    next REAL NOT NULL, until REAL NOT NULL, explained INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, found BLOB NOT NULL) WITHOUT ROWID;
"""

_abandoned: list[sqlite3.Connection] = []
"""Connections that a fork has brought along: closing one would take the parent's file apart."""


class SqliteStore:
    """Counts in a file; used by one thread. What can be lost are counts of an hour, so nothing is synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._cleaned = 0.0

    def secret(self) -> bytes:
        """Return the key of the hashes, which the first process of all makes."""
        connection = self._connected()
        with connection:
            connection.execute("INSERT OR IGNORE INTO facts VALUES ('secret', ?)", (secrets.token_bytes(16),))
        ((found,),) = connection.execute("SELECT found FROM facts WHERE name = 'secret'")
        return bytes(found)

    def exchange(self, rows: Sequence[Row]) -> list[tuple[Total, Total | None]]:
        """Add to the rows; return what all have in each, and in the one before where that was asked for."""
        connection, now = self._connected(), time.time()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if now - self._cleaned > _CLEAN_SECONDS:
                self._cleaned = now
                connection.execute("DELETE FROM rows WHERE until < ?", (now,))
                connection.execute("DELETE FROM told WHERE until < ?", (now,))
            return [self._added(connection, row, now) for row in rows]

    def _added(self, connection: sqlite3.Connection, row: Row, now: float) -> tuple[Total, Total | None]:
        known = self._read(connection, row, row.name)
        total = Total(tuple(a + b for a, b in zip(known.counts, row.counts, strict=True)), known.bits | row.bits)
        connection.execute(
            "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET found = excluded.found",
            (row.name, packed(total.counts, total.bits, row.width), now + row.seconds),
        )
        return total, None if row.before is None else self._read(connection, row, row.before)

    @staticmethod
    def _read(connection: sqlite3.Connection, row: Row, name: bytes) -> Total:
        found = connection.execute("SELECT found FROM rows WHERE name = ?", (name,)).fetchone()
        return unpacked(found[0] if found else b"", len(row.counts), row.width)

    def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Return for each claim what was granted, None where another process was first."""
        connection = self._connected()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            return [self._claimed(connection, claim, time.time()) for claim in claims]

    @staticmethod
    def _claimed(connection: sqlite3.Connection, claim: Claim, now: float) -> Claimed | None:
        found = connection.execute(
            "SELECT name, number, next, until, explained FROM told WHERE key = ?", (claim.key,)
        ).fetchone()
        name, number, explained = claim.name, 0, 0
        if found is not None and now < found[3]:
            explained = int(found[4])
            if now < found[2] and explained & claim.bit:
                return None
            name, number = str(found[0]), int(found[1]) + 1
        connection.execute(
            "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?, ?, ?)",
            (claim.key, name, number, now + claim.pause, now + claim.seconds, explained | claim.explains),
        )
        return Claimed(name, number)

    def keep(self, text: bytes) -> None:
        """Keep what is usual over a restart, instead of what was kept before."""
        connection = self._connected()
        with connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('usual', ?)", (text,))

    def kept(self) -> bytes | None:
        """Return what was kept, None where there is nothing."""
        found = self._connected().execute("SELECT found FROM facts WHERE name = 'usual'").fetchone()
        return bytes(found[0]) if found else None

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
        self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid != os.getpid():
            _abandoned.append(self._connection)
            self._connection = None
        if self._connection is None:
            _make_private(self._path)
            connection = sqlite3.connect(
                self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            for setting in ("journal_mode = WAL", "synchronous = OFF", f"max_page_count = {_MAX_PAGES}"):
                connection.execute(f"PRAGMA {setting}")
            connection.executescript(_SCHEMA)
            self._connection, self._pid = connection, os.getpid()
        return self._connection


def _make_private(path: Path) -> None:
    """Create a file and its directory for their owner alone, or refuse what somebody else could have put there.

    Raises:
        OSError: it is somebody else's, no file, or can't be created.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    if why := foreign(path, os.lstat(path), "file") or foreign(path.parent, os.lstat(path.parent), "directory"):
        raise PermissionError(f"the {why}")
