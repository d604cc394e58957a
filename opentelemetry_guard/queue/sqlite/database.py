"""One SQLite file: opening it privately, transactions in bounded time, damage, a full disk, forks.

A full disk must not keep stored rows from leaving. Every change goes to the
write-ahead log first and from there into the file, which may have to grow for
it; a log that has taken the last of the disk could never be emptied again. So
what makes the file grow asks for the room before (`require_space`), and what
empties the file always has the reserve.

A connection never crosses a fork. Where Python forks, connections are closed
before and opened again on both sides, because SQLite counts a process's locks
in memory that the child inherits. A connection that was inherited all the same
(a fork in the middle of a call) is kept and never used nor closed in the child.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

from ..base import QueueUnavailable
from ..process import PerProcess
from .private_file import Identity, directory_lock, identity, prepare_directory, prepare_file, restrict_files

logger = logging.getLogger(__name__)

T = TypeVar("T")

CALL_SECONDS = 0.4
"""How long one call waits, all in all, for other threads and other processes."""
SETTLE_SECONDS = 0.02
"""How long moving the log into the file waits for another process, where that can be done later as well."""
PATIENCE_STEP = 100
"""Milliseconds to which that wait is rounded off, so that it need not be told to SQLite in each transaction."""
CHECK_SECONDS = 0.15
"""How long the integrity check at opening may take; a larger file is judged as it is read."""
CHECKPOINT_PAGES = 256
"""Pages in the write-ahead log after which they are moved into the file."""
JOURNAL_BYTES = CHECKPOINT_PAGES * (4096 + 24) + 32
"""What the write-ahead log is cut back to: the file of that many pages, so that a full disk still has room in it."""
RESERVE_BYTES = 256 * 1024
"""Free bytes on the disk that are kept for taking rows out of the file."""
INSERT_OVERHEAD_BYTES = 64 * 1024
"""By how much the file may grow for one insertion beyond the body: pages of tables and indexes."""
DAMAGED_FILES_KEPT = 3
"""Damaged files that are kept, the newest ones."""
SET_ASIDE = "set_aside"
"""The counter of damaged files that were set aside."""
FREE_PAGES_KEPT = 64
"""Free pages that stay in the file for the next batches."""
FREE_PAGES_RETURNED = 512
"""Free pages that one `reclaim` gives back to the file system at most."""
FREE_PAGES_STEP = 32
"""Free pages that one transaction of it gives back, so that the log stays within its bound and the reserve."""
AMPLE_BYTES = 64 * 1024 * 1024
"""Free bytes on the disk beyond what is to be stored with which nobody has to reckon more closely."""
APPLICATION_ID = 0x4F544721
"""Marks the file as ours, so that nobody else's database is ever changed."""


Moves = Callable[[sqlite3.Connection], object]
"""What is to be done in a transaction of a connection."""


@dataclass(slots=True)
class _Handle:
    """One process's connection. The lock is held for every use of the other fields and of the connection."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: sqlite3.Connection | None = None
    file: Identity | None = None
    busy_timeout: int = -1
    carried: list[Moves] = field(default_factory=list)


class Database:
    """A private SQLite file with a schema, opened at the first `run` and shared by threads and processes."""

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        migrations: Mapping[int, str],
        private_directory: bool = False,
        at_opening: Callable[[sqlite3.Connection], object] = lambda connection: None,
        at_leaving: Callable[[sqlite3.Connection], Moves] = lambda connection: lambda connection: None,
    ) -> None:
        """Take the file's `path`, the statements that create the `schema`, and its `version` (from 1).

        The schema has a table ``counters (name, value)``. `migrations` has, for each older version that can be
        opened, the statements that make it the next one. With `private_directory` an existing directory is made 0700.
        `at_opening` is called in a transaction with every connection to a file that is sound, `at_leaving` with one
        to a file that somebody removed or replaced; what it returns, with the connection to the file that follows.
        """
        self.path = path
        self._schema = schema
        self._version = version
        self._migrations = migrations
        self._private_directory = private_directory
        self._at_opening = at_opening
        self._at_leaving = at_leaving
        self._handles: PerProcess[_Handle] = PerProcess(_Handle)
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

        With an empty `begin` it is one statement, which is a transaction of its own.

        On a damaged file it runs once more, on a new one; on a full disk
        once more after a checkpoint, which lets the log begin at its start.

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
                if _means_damage(error):
                    self._set_aside(handle, error)
                    deadline = time.monotonic() + CALL_SECONDS
                elif not (_means_full(error) and _checkpoint(handle, deadline, "RESTART")):
                    raise
                return self._transact(handle, deadline, operation, begin)
        except (sqlite3.Error, OSError) as error:
            raise QueueUnavailable(f"{self.path}: {error}") from error
        finally:
            handle.lock.release()

    def has_ample_space(self, size: int) -> bool:
        """Whether the disk has so much room that `require_space` need not be asked for a body of `size` bytes."""
        try:
            return shutil.disk_usage(self.path.parent).free >= AMPLE_BYTES + 2 * size
        except OSError:
            return False  # No directory yet; whatever else it is, the transaction meets it too

    def require_space(self, connection: sqlite3.Connection, size: int) -> bool:
        """Refuse a body of `size` bytes for which the disk has no room, within a transaction and before the insertion.

        Return whether room is so short that `settle` should follow the
        transaction: then the file never has to grow for what is in the log.

        Raises:
            QueueUnavailable: what is free is needed to empty the log and the file.
        """
        disk = shutil.disk_usage(self.path.parent)
        if not disk.total:
            return False  # A file system that does not know its size
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
        needed = space_needed(
            size,
            database=pages * page_size,
            free_inside=free_pages * page_size,
            file=_size(self.path),
            journal=_size(Path(f"{self.path}-wal")),
        )
        if disk.free < needed:
            raise QueueUnavailable(
                f"{self.path}: the disk is almost full: {disk.free} bytes are free, {needed} are needed to store "
                f"{size} more and still take out what is stored; free some space"
            )
        return disk.free < needed + JOURNAL_BYTES

    def settle(self) -> None:
        """Move the log into the file, as far as nobody is in the way."""
        handle = self._handle()
        if handle.lock.acquire(blocking=False):
            try:
                _checkpoint(handle, time.monotonic() + SETTLE_SECONDS, "PASSIVE")
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
            handle.busy_timeout = -1
            handle.connection.execute("PRAGMA busy_timeout = 20")
            (free,) = handle.connection.execute("PRAGMA freelist_count").fetchone()
            pages = min(free - FREE_PAGES_KEPT, FREE_PAGES_RETURNED)
            for _ in range(0, pages, FREE_PAGES_STEP):
                # A script, since `execute` makes one step and each step frees one page
                handle.connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES_STEP})")
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
            self._leave(handle)
        if handle.connection is None:
            self._connect(handle, deadline)
        connection = handle.connection
        assert connection is not None  # noqa: S101 (for the type checker: _connect sets it or raises)
        _set_patience(handle, connection, deadline)
        if not begin:
            return operation(connection)
        connection.execute(begin)
        try:
            result = operation(connection)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(handle, connection)
            raise
        return result

    def _leave(self, handle: _Handle) -> None:
        """Give up a file that somebody removed or replaced: what is written to it now would be lost.

        What was in it can still be counted.
        """
        assert handle.connection is not None  # noqa: S101 (for the type checker: the caller has looked)
        logger.error(
            "Somebody removed or replaced the queue %s while it was in use: what waited in it is lost, and a new one "
            "is begun; stop the applications that use a queue before you remove it",
            self.path,
        )
        try:
            handle.carried.append(self._at_leaving(handle.connection))
        except sqlite3.Error as error:
            logger.debug("what was in %s can't be counted: %s", self.path, error)
        _disconnect(handle)

    def _connect(self, handle: _Handle, deadline: float) -> None:
        """Open the file, creating it where it is absent; the caller holds the handle's lock."""
        prepare_directory(self.path.parent, self._private_directory)
        with directory_lock(self.path.parent, deadline):
            file = prepare_file(self.path)
            uri = f"file:{quote(str(self.path))}?mode=rw"
            # Autocommit: transactions are begun and ended here, not by the module
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            handle.connection, handle.file, handle.busy_timeout = connection, file, -1
            try:
                connection.execute(f"PRAGMA busy_timeout = {_milliseconds_left(deadline)}")
                # A damaged text must reach its checksum instead of raising
                connection.text_factory = _decode
                existed = self._set_up(connection)
                # Only now is it known to be ours
                restrict_files(Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
            except BaseException:
                handle.connection = None
                connection.close()
                raise
        if existed:
            _check_integrity(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._at_opening(connection)
            for moves in handle.carried:
                moves(connection)
            connection.execute("COMMIT")
            handle.carried.clear()
        except BaseException:
            _roll_back(handle, connection)
            raise

    def _set_up(self, connection: sqlite3.Connection) -> bool:
        """Create the schema in an empty file, or check the existing one; return whether there was one."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise QueueUnavailable(f"{self.path} is the database of something else; choose another path")
        if tables and version != self._version and version not in self._migrations:
            raise QueueUnavailable(
                f"{self.path} has schema version {version}, this release knows {self._version}; "
                "upgrade opentelemetry-guard or choose another path"
            )
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        if not tables:
            # From the names, since the damaged file can no longer tell
            set_aside = max(map(_number, _damaged_files(self.path)), default=0)
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; "  # noqa: S608
                f"PRAGMA user_version = {self._version}; {self._schema} "
                f"INSERT INTO counters VALUES ('{SET_ASIDE}', {set_aside}); COMMIT;"
            )
        elif version != self._version:
            steps = "".join(self._migrations[older] for older in range(version, self._version))
            connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {self._version}; COMMIT;")
        return bool(tables)

    def _set_aside(self, handle: _Handle, error: sqlite3.DatabaseError) -> None:
        """Move the damaged file out of the way, unless another process did; the caller holds the handle's lock."""
        damaged = handle.file or identity(self.path)
        _disconnect(handle)
        with directory_lock(self.path.parent, time.monotonic() + CALL_SECONDS):
            if damaged is None or identity(self.path) != damaged:
                return
            target = _next_name(self.path)
            for suffix in ("-wal", "-shm", ""):
                source = Path(f"{self.path}{suffix}")
                if identity(source) is not None:
                    source.rename(f"{target}{suffix}")
            _remove_old_damaged_files(self.path)
        logger.error(
            "The queue %s is damaged (%s); it was set aside as %s and a new one is begun", self.path, error, target
        )


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _set_patience(handle: _Handle, connection: sqlite3.Connection, deadline: float) -> None:
    """Have statements wait for other processes until the deadline or a little less, which is seldom a change."""
    left = _milliseconds_left(deadline)
    timeout = left - left % PATIENCE_STEP or left
    if handle.busy_timeout != timeout:
        connection.execute(f"PRAGMA busy_timeout = {timeout}")
        handle.busy_timeout = timeout


def _milliseconds_left(deadline: float) -> int:
    return max(1, int((deadline - time.monotonic()) * 1000))


def space_needed(size: int, *, database: int, free_inside: int, file: int, journal: int) -> int:
    """Return how many bytes must be free on the disk for a body of `size` bytes to be stored.

    `database` is the size of the content, of which `free_inside` is unused; `file` and `journal` are what the file
    and its log occupy. After the insertion there has to be room for the whole log, for the file to grow to its
    content, and for the reserve. All in bytes.
    """
    ungrown = max(0, database - file)
    growth = max(0, size + INSERT_OVERHEAD_BYTES - free_inside)
    return ungrown + growth + size + max(0, JOURNAL_BYTES - journal) + RESERVE_BYTES


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


_DAMAGED_NAME = re.compile(r"\.damaged-\d+-(\d+)\Z")


def _next_name(path: Path) -> Path:
    """Return ``<name>.damaged-<unixtime>-<number>``; the numbers begin at 1."""
    number = max(map(_number, _damaged_files(path)), default=0) + 1
    return path.with_name(f"{path.name}.damaged-{int(time.time())}-{number}")


def _number(damaged: Path) -> int:
    found = _DAMAGED_NAME.search(damaged.name)
    return int(found[1]) if found else 0


def _damaged_files(path: Path) -> list[Path]:
    """Return the damaged files that were set aside for `path`, without their logs, the oldest first."""
    found = (file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.damaged-"))
    return sorted((file for file in found if _number(file)), key=_number)


def _remove_old_damaged_files(path: Path) -> None:
    for file in _damaged_files(path)[:-DAMAGED_FILES_KEPT]:
        for suffix in ("-wal", "-shm", ""):
            Path(f"{file}{suffix}").unlink(missing_ok=True)


def _means_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that the file is damaged; by its text, since error codes came with Python 3.11."""
    text = str(error)
    return "file is not a database" in text or "malformed" in text


def _means_full(error: sqlite3.DatabaseError) -> bool:
    return "disk is full" in str(error)


def _checkpoint(handle: _Handle, deadline: float, mode: Literal["PASSIVE", "RESTART"]) -> bool:
    """Move the log into the file; return whether it could. The caller holds the handle's lock.

    RESTART waits for readers, so that the next transaction begins at the log's start. Never TRUNCATE: on a full disk
    the room that the log has is kept.
    """
    if handle.connection is None:
        return False
    try:
        handle.busy_timeout = -1
        handle.connection.execute(f"PRAGMA busy_timeout = {_milliseconds_left(deadline)}")
        (busy, _, _) = handle.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.Error as error:
        logger.debug("The log of a full disk's database cannot be emptied: %s", error)
        return False
    return not busy


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
