"""A database in a private file: opened and checked, given up when it was removed, set aside when it is damaged."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ..base import QueueUnavailable
from .damage import check_integrity, set_aside, times_set_aside
from .database import APPLICATION_ID, CALL_SECONDS, Database, Moves, Slot, creation, disconnect
from .disk import CHECKPOINT_PAGES, JOURNAL_BYTES, require_space
from .private_file import Identity, directory_lock, identity, prepare_directory, prepare_file, restrict_files
from .schema import SCHEMA_VERSION, after_boot

logger = logging.getLogger(__name__)

CONNECTIONS = 4
"""Calls of one process that are under way at once in a file: an export, the sender, a report, a reading of metrics."""


class FileDatabase(Database):
    """A database in a private file, shared by threads and processes."""

    in_memory = False
    number = CONNECTIONS

    def __init__(
        self,
        path: Path,
        private_directory: bool = False,
        at_opening: Moves = lambda connection: None,
        at_leaving: Callable[[sqlite3.Connection], Moves] = lambda connection: lambda connection: None,
    ) -> None:
        """Take the file's `path`. With `private_directory` an existing directory is made 0700.

        `at_opening` is called with the first connection to a file that is sound, `at_leaving` with one to a file that
        somebody removed or replaced; what it returns, with the connection to the file that follows.
        """
        super().__init__()
        self.path = path
        self._private_directory = private_directory
        self._at_opening = at_opening
        self._at_leaving = at_leaving

    def __str__(self) -> str:
        """Name the file."""
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether there is a file, as far as one can see, or was until somebody removed it."""
        try:
            return identity(self.path) is not None or self.is_open
        except OSError:
            return True

    def require_space(self, connection: sqlite3.Connection, size: int) -> bool:
        """Refuse a body of `size` bytes for which the disk has no room; return whether `settle` should follow."""
        return require_space(self.path, connection, size)

    def close(self) -> None:
        """Close this process's connections; the next `run` opens the file again."""
        slots = self.before_fork()
        self.after_fork_in_parent(slots)
        if len(slots) < self.number:
            raise QueueUnavailable(f"{self} is busy: another thread has been using it for {CALL_SECONDS} s")

    def _close_before_fork(self, slot: Slot) -> None:
        self._connections.get().checked = None
        try:
            disconnect(slot)
        except sqlite3.Error as error:
            logger.debug("%s can't be closed: %s", self, error)

    def _ready(self, slot: Slot) -> sqlite3.Connection:
        if slot.connection is not None and slot.file != identity(self.path):
            self._leave(slot)
        return slot.connection or self._connect(slot)

    def _leave(self, slot: Slot) -> None:
        """Give up a file that was removed or replaced: what is written to it now would be lost.

        What was in it can still be counted, once for all connections.
        """
        of_process = self._connections.get()
        if slot.connection is not None and slot.file is not None and slot.file not in of_process.left:
            of_process.left.add(slot.file)
            logger.error(
                "Somebody removed or replaced the queue %s while it was in use: what waited in it is lost, and a new "
                "one is begun; stop the applications that use a queue before you remove it",
                self.path,
            )
            try:
                of_process.carried.append(self._at_leaving(slot.connection))
            except sqlite3.Error as error:
                logger.debug("what was in %s can't be counted: %s", self.path, error)
        of_process.checked = None
        disconnect(slot)

    def _connect(self, slot: Slot) -> sqlite3.Connection:
        """Open the file, creating it where it is absent."""
        prepare_directory(self.path.parent, self._private_directory)
        with directory_lock(self.path.parent, time.monotonic() + CALL_SECONDS):
            file = prepare_file(self.path)
            uri = f"file:{quote(str(self.path))}?mode=rw"
            # Autocommit: each statement is a transaction
            connection = sqlite3.connect(
                uri, timeout=CALL_SECONDS, uri=True, isolation_level=None, check_same_thread=False
            )
            slot.file = file
            with _closing_on_failure(connection):
                # A damaged text must reach its checksum instead of raising
                connection.text_factory = _decode
                existed = self._set_up(connection)
                # Only now is it known to be ours
                restrict_files(Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
        with _closing_on_failure(connection):
            self._begin(connection, file, existed)
        slot.connection = connection
        return connection

    def _begin(self, connection: sqlite3.Connection, file: Identity, existed: bool) -> None:
        """Do what comes before the first move of a process in a file: all of it, or none where it fails."""
        of_process = self._connections.get()
        of_process.left.discard(file)  # a removed file's number may be used again
        if of_process.checked == file and not of_process.carried:
            return
        if existed:
            check_integrity(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            after_boot(connection)
            self._at_opening(connection)
            for move in of_process.carried:
                move(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        of_process.carried.clear()
        of_process.checked = file

    def _set_up(self, connection: sqlite3.Connection) -> bool:
        """Create the schema in an empty file, or check the existing one; return whether there was one."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise QueueUnavailable(f"{self.path} is the database of something else; choose another path")
        if tables and version != SCHEMA_VERSION:
            raise QueueUnavailable(
                f"{self.path} has schema version {version}, this release knows {SCHEMA_VERSION}; "
                "upgrade opentelemetry-guard or choose another path"
            )
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        if not tables:
            connection.executescript(creation(times_set_aside(self.path)))
        return bool(tables)

    def _set_aside(self, slot: Slot, error: sqlite3.DatabaseError) -> None:
        """Move the damaged file out of the way, unless another process did."""
        damaged = slot.file or identity(self.path)
        disconnect(slot)
        with directory_lock(self.path.parent, time.monotonic() + CALL_SECONDS):
            if damaged is None or identity(self.path) != damaged:
                return
            of_process = self._connections.get()
            of_process.left.add(damaged)
            of_process.checked = None
            target = set_aside(self.path)
        logger.error(
            "The queue %s is damaged (%s); it was set aside as %s and a new one is begun", self.path, error, target
        )


@contextmanager
def _closing_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")
