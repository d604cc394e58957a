"""What is particular to a database in one SQLite file: how it is opened, and that one process writes at a time.

WAL lets a reader see the last commit while the writer is at work, so neither waits for the other.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, FromClause, Table, create_engine, event
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from .many import ManyRows

_BUSY_SECONDS = 5.0
"""How long a statement waits for another process that writes to the same file."""

_TURN_SECONDS = (0.001, 0.003)
"""Seconds between two looks at whether another process has done writing."""

_CACHE_KIBIBYTES = 16 * 1024
"""Memory of one connection for pages: the inner ones of the indexes of a large file."""

_CHECKPOINT_PAGES = 8_000
"""Pages (32 MiB) that the log may have before they go to the file: rows come in any order of the indexes, so that
batch after batch changes the same pages, and each of them is written there once."""

_LEAST_VERSION = (3, 35)
"""The first release of SQLite whose INSERT tells what it has inserted (2021)."""


class _Compiler(SQLiteCompiler):
    """Writes what `with_hint` says for SQLite: which index of a table is walked."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text


class SqliteFile:
    """One file. A new one is readable by its owner alone."""

    in_days = False
    """Whether rows are kept by the day on which they came, so that a day can be dropped."""

    def __init__(self, path: Path) -> None:
        """Keep rows in the file at `path`."""
        self.name = str(path)
        self.path = path

    def engine(self, connections: int, *, reading: bool) -> Engine:
        """Return an engine of so many connections at most, each of which commits every statement until told otherwise.

        Raises:
            OSError: the file can't be made.
            RuntimeError: the SQLite of this Python is too old.
        """
        if sqlite3.sqlite_version_info < _LEAST_VERSION:
            raise RuntimeError(f"SQLite {sqlite3.sqlite_version} is older than {'.'.join(map(str, _LEAST_VERSION))}")
        _create_private(self.path)
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            isolation_level="AUTOCOMMIT",
            pool_size=connections,
            max_overflow=0,
            pool_timeout=60,
            pool_use_lifo=True,
            connect_args={"timeout": _BUSY_SECONDS},
        )
        engine.dialect.statement_compiler = _Compiler
        event.listen(engine, "connect", _prepare)
        return engine

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that nobody else writes during; who waits for other processes gets its turn.

        SQLite waits longer and longer between two looks: processes which are never idle would keep one that waits from
        finding the lock free.
        """
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - the connection is in use
        until = time.monotonic() + _BUSY_SECONDS
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    break
            time.sleep(random.uniform(*_TURN_SECONDS))
        # What is wrong is raised as SQLAlchemy's error.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def make_room(self, connection: Connection, day: int) -> None:
        """Do nothing: a file has room for every day."""

    def insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Insert many rows, each with its values in the order of `columns`, which is the table's."""
        _inserting(table, tuple(columns)).run(connection, rows)


@lru_cache(maxsize=8)
def _inserting(table: Table, columns: tuple[str, ...]) -> ManyRows:
    return ManyRows(insert(table), columns)


def _create_private(path: Path) -> None:
    """Create a missing file with mode 0600: SQLite would give it the mode of the umask."""
    # A file that exists is not opened: closing it again would drop the locks of this process's other connections.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA cache_size = {-_CACHE_KIBIBYTES}")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
