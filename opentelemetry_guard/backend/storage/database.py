"""The file behind the store: who may write when, who may read meanwhile, and which version it has.

There is one writing connection and a few reading ones. WAL lets a reader see
the last commit while the writer is at work, so neither waits for the other.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from .schema import SCHEMA_VERSION, prepare

_BUSY_SECONDS = 5.0
"""How long a statement waits for another process that writes to the same file."""

_READERS = 4
"""Reading connections: so many pages can be under way before one waits."""

_CACHE_KIBIBYTES = 16 * 1024
"""Memory of one connection for pages: the inner ones of the indexes of a large file."""

_CHECKPOINT_PAGES = 8_000
"""Pages (32 MiB) that the log may have before they go to the file: rows come in any order of the indexes, so that
batch after batch changes the same pages, and each of them is written there once."""


class StoreError(Exception):
    """The database file cannot be opened or is of another version; the text names it and the remedy."""


class Database:
    """One SQLite file. Every method is safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        """Open the database at `path` and bring it to this release's version; a new file is its owner's alone.

        Raises:
            StoreError: the file cannot be opened, is no database, or is of a version this release doesn't know.
        """
        self.path = path
        # Who holds the lock is the only one to touch the writer.
        self._write_lock = threading.Lock()
        # Whoever took a reader out of the queue is the only one to touch it, until it is put back.
        self._readers = queue.LifoQueue[sqlite3.Connection](_READERS)
        with ExitStack() as opened:
            try:
                _create_private(path)
                self._writer = opened.enter_context(closing(_open(path)))
                self._bring_up_to_date()
                for _ in range(_READERS):
                    self._readers.put(opened.enter_context(closing(_open(path))))
            except (OSError, sqlite3.Error) as error:
                raise StoreError(
                    f"The database {path} cannot be opened: {error}. "
                    "Name a file of this backend's, or a new one, in a directory that can be written."
                ) from error
            opened.pop_all()  # they stay open

    def _bring_up_to_date(self) -> None:
        version = _version(self._writer)
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"The database {self.path} has version {version}, this release reads versions up to {SCHEMA_VERSION}: "
                "use another file."
            )
        with self.writing() as connection:
            # Read again: another process may have done it while this one waited for its turn.
            prepare(connection, _version(connection))

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the writing connection inside a transaction that ends with the block; when it has, it is on the disk."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself; there is nothing left to roll back then.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a reading connection for the block."""
        connection = self._readers.get()
        try:
            yield connection
        finally:
            self._readers.put(connection)

    def read(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one query; the columns' types are those of the schema."""
        with self.reading() as connection, closing(connection.execute(query, parameters)) as cursor:
            return cursor.fetchall()

    def close(self) -> None:
        """Close the file once everybody is done with it; nothing can be read or stored afterwards."""
        with self._write_lock:
            for connection in [self._writer, *(self._readers.get() for _ in range(_READERS))]:
                connection.close()


def _version(connection: sqlite3.Connection) -> int:
    with closing(connection.execute("PRAGMA user_version")) as cursor:
        return int(cursor.fetchone()[0])


def _create_private(path: Path) -> None:
    """Create a missing file with mode 0600: SQLite would give it the mode of the umask."""
    # A file that exists is not opened: closing it again would drop the locks of this process's other connections.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = {-_CACHE_KIBIBYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    return connection
