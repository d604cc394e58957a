"""Connections to one database: a private file, or this process's memory.

A call takes a connection for itself and gives it back; where none is free it opens one, up to `CONNECTIONS`. What it
runs is single statements, each a transaction of its own, so that nobody waits for the Python part of another's call.

A connection never crosses a fork. Where Python forks, connections to a file are closed before and opened again on both
sides, because SQLite counts a process's locks in memory that the child inherits. One that was inherited all the same
(a fork in the middle of a call) is never used nor closed in the child.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, TypeVar
from urllib.parse import quote

from ..base import QueueUnavailable
from ..process import PerProcess
from .damage import check_integrity, means_damage, set_aside, times_set_aside
from .disk import CHECKPOINT_PAGES, JOURNAL_BYTES, require_space
from .private_file import Identity, directory_lock, identity, prepare_directory, prepare_file, restrict_files
from .schema import SCHEMA, SCHEMA_VERSION, after_boot

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECTIONS = 4
"""Calls of one process that are under way at once in a file: an export, the sender, a report, a reading of metrics."""
CALL_SECONDS = 0.4
"""How long one call waits, for other threads or in SQLite for other processes."""
SETTLE_SECONDS = 0.02
"""How long housekeeping waits for another process, since that can be done later as well."""
FREE_PAGES_KEPT = 64
"""Free pages that stay in the file for the next batches."""
FREE_PAGES_RETURNED = 512
"""Free pages that one `reclaim` gives back to the file system at most."""
FREE_PAGES_STEP = 32
"""Free pages that one transaction of it gives back, so that the log stays within its bound and the reserve."""
APPLICATION_ID = 0x4F544721
"""Marks the file as ours, so that nobody else's database is ever changed."""

Moves = Callable[[sqlite3.Connection], object]
"""What is to be done on a connection."""


@dataclass(slots=True)
class _Slot:
    """A place for a connection, and the file that it leads to."""

    connection: sqlite3.Connection | None = None
    file: Identity | None = None


class _Connections:
    """One process's connections. Who has taken a slot is the only one to touch it.

    Who waits for a slot gets the next one that is given back, in the order of asking: whoever takes and gives back in
    a loop keeps nobody waiting for longer than one call. `_lock` guards `_free` and `_waiting` and is held for a few
    steps only. `checked` is the file that was sound when it was opened first, `left` those that were removed or set
    aside; `carried` is what the next connection writes down of them.
    """

    def __init__(self, number: int) -> None:
        self.slots = [_Slot() for _ in range(number)]
        self.checked: Identity | None = None
        self.left: set[Identity] = set()
        self.carried: list[Moves] = []
        self._lock = threading.Lock()
        self._free = list(self.slots)
        self._waiting: deque[SimpleQueue[_Slot]] = deque()

    def take(self, seconds: float | None) -> _Slot | None:
        """Take a slot, one that is open where there is one; None when none is given back for so long."""
        with self._lock:
            if self._free:
                return self._free.pop()
            place: SimpleQueue[_Slot] = SimpleQueue()
            self._waiting.append(place)
        try:
            return place.get(timeout=seconds)
        except BaseException as error:  # also what interrupts a caller: the slot may be on its way
            with self._lock:
                given = place not in self._waiting
                if not given:
                    self._waiting.remove(place)
            slot = place.get() if given else None
            if isinstance(error, Empty):
                return slot
            if slot is not None:
                self.give_back(slot)
            raise

    def give_back(self, slot: _Slot) -> None:
        """Give a slot to whoever has waited longest, or keep it for the next call."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().put(slot)
            else:
                self._free.append(slot)


class Database:
    """A database with the queue's schema, opened at the first `run`."""

    in_memory = True
    number = 1

    def __init__(self) -> None:
        """Begin without a connection."""
        self._connections: PerProcess[_Connections] = PerProcess(lambda: _Connections(self.number))
        _databases.add(self)

    def __str__(self) -> str:
        """Name it in messages."""
        return "the queue in memory"

    @property
    def is_open(self) -> bool:
        """Whether this process has a connection."""
        return any(slot.connection is not None for slot in self._connections.get().slots)

    @property
    def exists(self) -> bool:
        """Whether there may be something in it."""
        return self.is_open

    def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `operation` returns, which runs statements on a connection that it has for itself.

        On a damaged file it runs once more, on a new one; on a full disk
        once more after a checkpoint, which lets the log begin at its start.

        Raises:
            QueueUnavailable: what the last statement was to do has not happened; the text names the file and the cause.
        """
        try:
            with self._slot(None if self.in_memory else CALL_SECONDS) as slot:
                try:
                    return operation(self._ready(slot))
                except sqlite3.DatabaseError as error:
                    if means_damage(error):
                        self._set_aside(slot, error)
                    elif "disk is full" not in str(error) or not _checkpoint(slot, CALL_SECONDS, "RESTART"):
                        raise
                return operation(self._ready(slot))
        except (sqlite3.Error, OSError) as error:
            raise QueueUnavailable(f"{self}: {error}") from error

    def require_space(self, connection: sqlite3.Connection, size: int) -> bool:
        """Refuse what there is no room for; return whether `settle` should follow. Memory has all the room."""
        return False

    def settle(self) -> None:
        """Move the log into the file, as far as nobody is in the way."""
        with suppress(QueueUnavailable), self._slot(0) as slot:
            _checkpoint(slot, SETTLE_SECONDS, "PASSIVE")

    def reclaim(self) -> bool:
        """Give a bounded number of free pages back to the system, if nobody is in the way; return whether more are."""
        with suppress(QueueUnavailable), self._slot(0) as slot:
            if slot.connection is None:
                return False
            try:
                with _patience(slot.connection, SETTLE_SECONDS):
                    (free,) = slot.connection.execute("PRAGMA freelist_count").fetchone()
                    for _ in range(0, min(free - FREE_PAGES_KEPT, FREE_PAGES_RETURNED), FREE_PAGES_STEP):
                        # A script, since `execute` makes one step and each step frees one page
                        slot.connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES_STEP})")
                return bool(free - FREE_PAGES_KEPT > FREE_PAGES_RETURNED)
            except sqlite3.Error as error:
                logger.debug("%s keeps its free pages for now: %s", self, error)
        return False

    def close(self) -> None:
        """Close this process's connections; the next `run` opens the file again. What is in memory stays."""

    def before_fork(self) -> list[_Slot]:
        """Wait for the calls that are under way and return the slots, which are closed where they lead to a file."""
        slots: list[_Slot] = []
        ends = time.monotonic() + CALL_SECONDS
        while len(slots) < self.number:
            slot = self._connections.get().take(max(0.0, ends - time.monotonic()))
            if slot is None:
                break
            slots.append(slot)
            self._close_before_fork(slot)
        return slots

    def after_fork_in_parent(self, slots: list[_Slot]) -> None:
        """Go on with the slots that `before_fork` has taken."""
        for slot in slots:
            self._connections.get().give_back(slot)

    def _close_before_fork(self, slot: _Slot) -> None:
        """Leave memory alone: it ends with its connection, and the child begins an empty one of its own."""

    @contextmanager
    def _slot(self, seconds: float | None) -> Iterator[_Slot]:
        """Take a slot for the length of a `with`, after waiting for one for so long; None waits for ever."""
        connections = self._connections.get()
        slot = connections.take(seconds)
        if slot is None:
            raise QueueUnavailable(f"{self} is busy: other threads have been using it for {seconds} s")
        try:
            yield slot
        finally:
            connections.give_back(slot)

    def _ready(self, slot: _Slot) -> sqlite3.Connection:
        """Return the slot's connection, opened where it is not."""
        if slot.connection is None:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.executescript(_creation(0))
            slot.connection = connection
        return slot.connection

    def _set_aside(self, slot: _Slot, error: sqlite3.DatabaseError) -> None:
        """Begin anew after damage."""
        raise error


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

    def _close_before_fork(self, slot: _Slot) -> None:
        self._connections.get().checked = None
        try:
            _disconnect(slot)
        except sqlite3.Error as error:
            logger.debug("%s can't be closed: %s", self, error)

    def _ready(self, slot: _Slot) -> sqlite3.Connection:
        if slot.connection is not None and slot.file != identity(self.path):
            self._leave(slot)
        return slot.connection or self._connect(slot)

    def _leave(self, slot: _Slot) -> None:
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
        _disconnect(slot)

    def _connect(self, slot: _Slot) -> sqlite3.Connection:
        """Open the file, creating it where it is absent."""
        prepare_directory(self.path.parent, self._private_directory)
        with directory_lock(self.path.parent, time.monotonic() + CALL_SECONDS):
            file = prepare_file(self.path)
            uri = f"file:{quote(str(self.path))}?mode=rw"
            # Autocommit: each statement is a transaction
            connection = sqlite3.connect(
                uri, timeout=CALL_SECONDS, uri=True, isolation_level=None, check_same_thread=False
            )
            slot.connection, slot.file = connection, file
            try:
                # A damaged text must reach its checksum instead of raising
                connection.text_factory = _decode
                existed = self._set_up(connection)
                # Only now is it known to be ours
                restrict_files(Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
            except BaseException:
                slot.connection = None
                connection.close()
                raise
        of_process = self._connections.get()
        of_process.left.discard(file)  # a removed file's number may be used again
        if of_process.checked != file:
            if existed:
                check_integrity(connection)
            after_boot(connection)
            self._at_opening(connection)
            of_process.checked = file
        while of_process.carried:
            of_process.carried[0](connection)
            del of_process.carried[0]
        return connection

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
            connection.executescript(_creation(times_set_aside(self.path)))
        return bool(tables)

    def _set_aside(self, slot: _Slot, error: sqlite3.DatabaseError) -> None:
        """Move the damaged file out of the way, unless another process did."""
        damaged = slot.file or identity(self.path)
        _disconnect(slot)
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


def _creation(times_set_aside: int) -> str:
    return (
        f"PRAGMA auto_vacuum = INCREMENTAL; BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; {SCHEMA} "
        f"INSERT INTO facts VALUES ('set_aside', {times_set_aside}); COMMIT;"
    )


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


@contextmanager
def _patience(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Have statements wait for other processes for so long."""
    connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(CALL_SECONDS * 1000)}")


def _checkpoint(slot: _Slot, seconds: float, mode: Literal["PASSIVE", "RESTART"]) -> bool:
    """Move the log into the file; return whether it could.

    RESTART waits for readers, so that the next transaction begins at the log's start. Never TRUNCATE: on a full disk
    the room that the log has is kept.
    """
    if slot.connection is None:
        return False
    try:
        with _patience(slot.connection, seconds):
            (busy, _, _) = slot.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.Error as error:
        logger.debug("The log of a full disk's database cannot be emptied: %s", error)
        return False
    return not busy


def _disconnect(slot: _Slot) -> None:
    connection, slot.connection, slot.file = slot.connection, None, None
    if connection is not None:
        connection.close()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_held_over_fork: list[tuple[Database, list[_Slot]]] = []


def _before_fork() -> None:
    """Keep other threads from using a connection until the fork has happened."""
    _held_over_fork.extend((database, database.before_fork()) for database in _databases)


def _after_fork_in_parent() -> None:
    while _held_over_fork:
        database, slots = _held_over_fork.pop()
        database.after_fork_in_parent(slots)


if hasattr(os, "register_at_fork"):
    # The child's connections are its own (PerProcess), it only forgets which ones its parent held
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_held_over_fork.clear
    )
