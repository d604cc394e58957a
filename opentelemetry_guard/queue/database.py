"""One SQLite file: opening it privately, transactions in bounded time, damage, forks.

A connection never crosses a fork. Where Python forks, connections are closed
before and opened again on both sides, because SQLite counts a process's locks
in memory that the child inherits. A connection that was inherited all the same
(a fork in the middle of a call) is kept and never used nor closed in the child.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from .base import QueueUnavailable
from .private_file import Identity, directory_lock, identity, prepare_directory, prepare_file
from .process import PerProcess

logger = logging.getLogger(__name__)

T = TypeVar("T")

CALL_SECONDS = 0.4
"""How long one call waits, all in all, for other threads and other processes."""
CHECK_SECONDS = 0.15
"""How long the integrity check at opening may take; a larger file is judged as it is read."""
JOURNAL_BYTES = 4 * 1024 * 1024
"""What the write-ahead log is cut back to after a checkpoint."""
FREE_PAGES_KEPT = 64
"""Free pages that stay in the file for the next batches."""
FREE_PAGES_RETURNED = 512
"""Free pages that one `reclaim` gives back to the file system at most."""
APPLICATION_ID = 0x4F544721
"""Marks the file as ours, so that nobody else's database is ever changed."""


@dataclass(slots=True)
class _Handle:
    """One process's connection. The lock is held for every use of the other fields and of the connection."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: sqlite3.Connection | None = None
    file: Identity | None = None


class Database:
    """A private SQLite file with a schema, opened at the first `run` and shared by threads and processes."""

    def __init__(self, path: Path, schema: str, version: int) -> None:
        """Take the file's `path`, the statements that create the `schema`, and its `version` (from 1)."""
        self.path = path
        self._schema = schema
        self._version = version
        self._handles: PerProcess[_Handle] = PerProcess(_Handle)
        self.set_aside = 0
        _databases[id(self)] = self

    @property
    def is_open(self) -> bool:
        """Whether this process has a connection."""
        return self._handles.get().connection is not None

    @property
    def exists(self) -> bool:
        """Whether there is a file, as far as one can see."""
        try:
            return identity(self.path) is not None
        except OSError:
            return True

    def run(self, operation: Callable[[sqlite3.Connection], T], *, begin: str = "BEGIN IMMEDIATE") -> T:
        """Run `operation` in one transaction and return what it returns; whatever it raises rolls everything back.

        On a damaged file it runs once more, on a new one.

        Raises:
            QueueUnavailable: nothing happened; the text names the file and the cause.
        """
        deadline = time.monotonic() + CALL_SECONDS
        handle = self._handle()
        if not handle.lock.acquire(timeout=CALL_SECONDS):
            raise QueueUnavailable(f"{self.path} is busy: another thread has been using it for {CALL_SECONDS} s")
        try:
            try:
                return self._transact(handle, deadline, operation, begin)
            except sqlite3.DatabaseError as error:
                if not _means_damage(error):
                    raise
                self._set_aside(handle, error)
                return self._transact(handle, time.monotonic() + CALL_SECONDS, operation, begin)
        except (sqlite3.Error, OSError) as error:
            raise QueueUnavailable(f"{self.path}: {error}") from error
        finally:
            handle.lock.release()

    def reclaim(self) -> None:
        """Give a bounded number of free pages back to the file system, if nobody is in the way."""
        handle = self._handle()
        if not handle.lock.acquire(blocking=False):
            return
        try:
            if handle.connection is None:
                return
            handle.connection.execute("PRAGMA busy_timeout = 20")
            (free,) = handle.connection.execute("PRAGMA freelist_count").fetchone()
            pages = min(free - FREE_PAGES_KEPT, FREE_PAGES_RETURNED)
            if pages > 0:
                # A script, since `execute` makes one step and each step frees one page
                handle.connection.executescript(f"PRAGMA incremental_vacuum({pages})")
        except sqlite3.Error as error:
            logger.debug("%s keeps its free pages for now: %s", self.path, error)
        finally:
            handle.lock.release()

    def close(self) -> None:
        """Close this process's connection; the next `run` opens the file again."""
        handle = self._handle()
        if not handle.lock.acquire(timeout=CALL_SECONDS):
            raise QueueUnavailable(f"{self.path} is busy: another thread has been using it for {CALL_SECONDS} s")
        try:
            _disconnect(handle)
        except sqlite3.Error as error:
            raise QueueUnavailable(f"{self.path}: {error}") from error
        finally:
            handle.lock.release()

    def _handle(self) -> _Handle:
        handle = self._handles.get()
        for inherited in self._handles.inherited():
            if inherited.connection is not None and inherited not in _inherited:
                _inherited.append(inherited)
        return handle

    def _transact(
        self, handle: _Handle, deadline: float, operation: Callable[[sqlite3.Connection], T], begin: str
    ) -> T:
        """Run one transaction; the caller holds the handle's lock."""
        if handle.connection is not None and handle.file != identity(self.path):
            # Somebody removed or replaced the file: what is written to it now would be lost
            _disconnect(handle)
        if handle.connection is None:
            self._connect(handle, deadline)
        connection = handle.connection
        assert connection is not None  # noqa: S101 (for the type checker: _connect sets it or raises)
        connection.execute(f"PRAGMA busy_timeout = {_milliseconds_left(deadline)}")
        connection.execute(begin)
        try:
            result = operation(connection)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(handle, connection)
            raise
        return result

    def _connect(self, handle: _Handle, deadline: float) -> None:
        """Open the file, creating it where it is absent; the caller holds the handle's lock."""
        prepare_directory(self.path.parent)
        with directory_lock(self.path.parent, deadline):
            file = prepare_file(self.path)
            uri = f"file:{quote(str(self.path))}?mode=rw"
            # Autocommit: transactions are begun and ended here, not by the module
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            handle.connection, handle.file = connection, file
            try:
                connection.execute(f"PRAGMA busy_timeout = {_milliseconds_left(deadline)}")
                # A damaged text must reach its checksum instead of raising
                connection.text_factory = _decode
                existed = self._set_up(connection)
            except BaseException:
                handle.connection = None
                connection.close()
                raise
        if existed:
            _check_integrity(connection)

    def _set_up(self, connection: sqlite3.Connection) -> bool:
        """Create the schema in an empty file, or check the existing one; return whether there was one."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise QueueUnavailable(f"{self.path} is the database of something else; choose another path")
        if tables and version != self._version:
            raise QueueUnavailable(
                f"{self.path} has schema version {version}, this release knows {self._version}; "
                "upgrade opentelemetry-guard or choose another path"
            )
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        if not tables:
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {self._version}; {self._schema} COMMIT;"
            )
        return bool(tables)

    def _set_aside(self, handle: _Handle, error: sqlite3.DatabaseError) -> None:
        """Move the damaged file out of the way, unless another process did; the caller holds the handle's lock."""
        damaged = handle.file or identity(self.path)
        _disconnect(handle)
        with directory_lock(self.path.parent, time.monotonic() + CALL_SECONDS):
            if damaged is None or identity(self.path) != damaged:
                return
            target = _free_name(self.path)
            for suffix in ("-wal", "-shm", ""):
                source = Path(f"{self.path}{suffix}")
                if identity(source) is not None:
                    source.rename(f"{target}{suffix}")
        self.set_aside += 1
        logger.error(
            "The queue %s is damaged (%s); it was set aside as %s and a new one is begun", self.path, error, target
        )


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _milliseconds_left(deadline: float) -> int:
    return max(1, int((deadline - time.monotonic()) * 1000))


def _free_name(path: Path) -> Path:
    """Return ``<name>.damaged-<unixtime>``, counted on while it is taken."""
    stamp = int(time.time())
    while identity(candidate := path.with_name(f"{path.name}.damaged-{stamp}")) is not None:
        stamp += 1
    return candidate


def _means_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that the file is damaged; by its text, since error codes came with Python 3.11."""
    text = str(error)
    return "file is not a database" in text or "malformed" in text


def _check_integrity(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError when the file is found damaged within `CHECK_SECONDS`."""
    stop = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > stop, 10_000)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return
    finally:
        connection.set_progress_handler(None, 0)
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"malformed: {verdict}")


def _roll_back(handle: _Handle, connection: sqlite3.Connection) -> None:
    """End a failed transaction; a connection that cannot even do that is given up."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        logger.debug("A connection is given up, it cannot roll back: %s", error)
        _disconnect(handle)


def _disconnect(handle: _Handle) -> None:
    connection, handle.connection, handle.file = handle.connection, None, None
    if connection is not None:
        connection.close()


_databases: weakref.WeakValueDictionary[int, Database] = weakref.WeakValueDictionary()
_inherited: list[_Handle] = []
_held_over_fork: list[_Handle] = []


def _before_fork() -> None:
    """Close every connection, and keep other threads from opening one until the fork has happened."""
    for reference in _databases.valuerefs():
        database = reference()
        if database is None:
            continue
        handle = database._handles.get()
        if not handle.lock.acquire(timeout=CALL_SECONDS):
            continue
        _held_over_fork.append(handle)
        try:
            _disconnect(handle)
        except sqlite3.Error as error:
            logger.debug("%s stays open over a fork: %s", database.path, error)


def _after_fork_in_parent() -> None:
    while _held_over_fork:
        _held_over_fork.pop().lock.release()


if hasattr(os, "register_at_fork"):
    # The child's handles are its own (PerProcess), it only forgets which ones its parent held
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_held_over_fork.clear
    )
