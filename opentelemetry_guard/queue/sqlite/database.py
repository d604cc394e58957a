"""Connections to one database: this process's memory here, a private file in `file`.

A call takes a connection for itself and gives it back; where none is free it opens one, up to the `number` that there
may be, or waits for its turn. What it runs is single statements, each a transaction of its own, so that nobody waits
for the Python part of another's call.

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
from queue import Empty, SimpleQueue
from typing import Literal, TypeVar

from ..base import QueueUnavailable
from ..process import PerProcess
from .damage import means_damage
from .private_file import Identity
from .schema import SCHEMA, SCHEMA_VERSION

logger = logging.getLogger(__name__)

T = TypeVar("T")

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
class Slot:
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
        self.slots = [Slot() for _ in range(number)]
        self.checked: Identity | None = None
        self.left: set[Identity] = set()
        self.carried: list[Moves] = []
        self._lock = threading.Lock()
        self._free = list(self.slots)
        self._waiting: deque[SimpleQueue[Slot]] = deque()

    def take(self, seconds: float | None) -> Slot | None:
        """Take a slot, one that is open where there is one; None when none is given back for so long."""
        with self._lock:
            if self._free:
                return self._free.pop()
            place: SimpleQueue[Slot] = SimpleQueue()
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

    def give_back(self, slot: Slot) -> None:
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

    def before_fork(self) -> list[Slot]:
        """Wait for the calls that are under way and return the slots, which are closed where they lead to a file."""
        slots: list[Slot] = []
        ends = time.monotonic() + CALL_SECONDS
        while len(slots) < self.number:
            slot = self._connections.get().take(max(0.0, ends - time.monotonic()))
            if slot is None:
                break
            slots.append(slot)
            self._close_before_fork(slot)
        return slots

    def after_fork_in_parent(self, slots: list[Slot]) -> None:
        """Go on with the slots that `before_fork` has taken."""
        for slot in slots:
            self._connections.get().give_back(slot)

    def _close_before_fork(self, slot: Slot) -> None:
        """Leave memory alone: it ends with its connection, and the child begins an empty one of its own."""

    @contextmanager
    def _slot(self, seconds: float | None) -> Iterator[Slot]:
        """Take a slot for the length of a `with`, after waiting for one for so long; None waits for ever."""
        connections = self._connections.get()
        slot = connections.take(seconds)
        if slot is None:
            raise QueueUnavailable(f"{self} is busy: other threads have been using it for {seconds} s")
        try:
            yield slot
        finally:
            connections.give_back(slot)

    def _ready(self, slot: Slot) -> sqlite3.Connection:
        """Return the slot's connection, opened where it is not."""
        if slot.connection is None:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.executescript(f"PRAGMA auto_vacuum = INCREMENTAL; {creation(0)}")
            slot.connection = connection
        return slot.connection

    def _set_aside(self, slot: Slot, error: sqlite3.DatabaseError) -> None:
        """Begin anew after damage."""
        raise error


def creation(times_set_aside: int) -> str:
    """Return the statements that make an empty database ours."""
    return (
        f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; {SCHEMA} "
        f"INSERT INTO facts VALUES ('set_aside', {times_set_aside}); COMMIT;"
    )


@contextmanager
def _patience(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Have statements wait for other processes for so long."""
    connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(CALL_SECONDS * 1000)}")


def _checkpoint(slot: Slot, seconds: float, mode: Literal["PASSIVE", "RESTART"]) -> bool:
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


def disconnect(slot: Slot) -> None:
    """Close the connection of a slot."""
    connection, slot.connection, slot.file = slot.connection, None, None
    if connection is not None:
        connection.close()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_held_over_fork: list[tuple[Database, list[Slot]]] = []


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
