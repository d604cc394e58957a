"""The delivery queue in an SQLite file, shared by all processes of one host."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast
from uuid import uuid4

from ..base import (
    DROPPED_CORRUPT,
    DROPPED_DEAD_LETTER_OVERFLOW,
    DROPPED_OVERFLOW,
    DROPPED_PURGED,
    DROPPED_STORE_REMOVED,
    KINDS,
    Batch,
    DeadLetter,
    Kind,
    Lease,
    Ledger,
    QueueOptions,
    QueueStats,
    QueueUnavailable,
    WaitingBatch,
)
from ..exchange import check_exchange, check_ids, delivered_rows
from ..local import Holding
from ..overflow import End, eviction_order, room_can_be_made
from ..process import PerProcess
from ..steady import STEADY, boot
from ..url import destination_path, sqlite_path
from .database import SET_ASIDE, Database

logger = logging.getLogger(__name__)

T = TypeVar("T")

CLAIM_BATCHES = 64
"""Batches of dead owners that one `lease` takes over at most."""
PROMOTE_BATCHES = 1000
"""Deferred batches that one `lease` finds due at most."""
RECLAIM_BYTES = 1024 * 1024
"""Removed bodies, in bytes, after which free pages go back to the file system."""

UNOWNED = ""
"""The owner whose lease has always run out: what it has, anybody may claim."""

DEFERRED, IN_FLIGHT, READY = 0, 1, 2
"""States of a stored batch; ready and deferred ones are the ledger's `queued`. A claim takes the highest first."""

SCHEMA_VERSION = 2
_FINISHED = "CREATE TABLE IF NOT EXISTS finished (seq INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE);"
MIGRATIONS = {1: _FINISHED}
"""For each older version, the statements that make it the next one."""
# Bodies are apart, so that a change of state rewrites a few bytes and not the body. `batches_by_owner` finds the newest
# ready batch of one owner, `batches_by_due` the deferred ones that came due, `batches_by_age` the oldest and newest of
# all: none of them looks at more rows than it returns, however deep the queue is.
SCHEMA = (
    """
CREATE TABLE owners (owner TEXT PRIMARY KEY, lease_until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX owners_by_lease ON owners (lease_until);
INSERT INTO owners VALUES ('', -9e999);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, rows INTEGER NOT NULL,
    size INTEGER NOT NULL, content_encoding TEXT NOT NULL, encrypted INTEGER NOT NULL, created_at REAL NOT NULL,
    checksum INTEGER NOT NULL, owner TEXT NOT NULL, state INTEGER NOT NULL, due REAL NOT NULL,
    attempts INTEGER NOT NULL, refusals INTEGER NOT NULL
);
CREATE INDEX batches_by_owner ON batches (owner, kind, state, created_at);
CREATE INDEX batches_by_due ON batches (owner, kind, due) WHERE state = 0;
CREATE INDEX batches_by_age ON batches (kind, created_at);
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE dead_letters (
    seq INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, rows INTEGER NOT NULL,
    size INTEGER NOT NULL, content_encoding TEXT NOT NULL, encrypted INTEGER NOT NULL, created_at REAL NOT NULL,
    checksum INTEGER NOT NULL, status INTEGER NOT NULL, reason TEXT NOT NULL, time REAL NOT NULL, body BLOB NOT NULL
);
CREATE INDEX dead_letters_by_time ON dead_letters (time);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
    + _FINISHED
)


class SqliteQueue:
    """A delivery queue in a private SQLite file, shared by the threads and processes of one host.

    Each object is one owner; a forked child is another. The file is created
    with mode 0600 in a directory of mode 0700 at the first call, not before.
    A damaged file is set aside under another name, and a new one begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: QueueOptions,
        *,
        clock: Callable[[], float] = time.time,
        remembers: int = 0,
        private_directory: bool = False,
    ) -> None:
        """Take the file's `path`, and bounds, lease time (seconds) and overflow policy from `options`.

        `clock` returns Unix seconds; `append` renews this owner's lease by it. The ids of the newest `remembers`
        batches that were delivered or replaced are kept, for `adopt`. With `private_directory` an existing directory
        of this user's that others may read is made 0700 too; without it stays as it is.
        """
        self._remembers = remembers
        self._options = options
        self._clock = clock
        self._database = Database(
            Path(os.path.abspath(os.fspath(path))),
            SCHEMA,
            SCHEMA_VERSION,
            MIGRATIONS,
            private_directory,
            _after_boot,
            self._count_lost,
        )
        self._owner: PerProcess[str] = PerProcess(_new_owner)
        self._removed_bytes = 0

    @classmethod
    def from_url(cls, url: str, options: QueueOptions) -> SqliteQueue:
        """Make the queue of ``sqlite:///path/guard.db``, whose file is ``/path/guard-<destination>.db``.

        Raises:
            ValueError: the URL names no absolute file.
        """
        return cls(destination_path(sqlite_path(url), options.destination), options)

    def __repr__(self) -> str:
        """Name the file."""
        return f"SqliteQueue({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The database's file."""
        return self._database.path

    def append(self, batch: Batch) -> None:
        """Store a batch as `DeliveryQueue.append` says; renews this owner's lease."""
        self._append(batch, attempts=0)

    def _append(self, batch: Batch, attempts: int) -> None:
        now = STEADY.at(self._clock())
        size = len(batch.body)
        roomy = self._database.has_ample_space(size)

        def work(tx: _Transaction) -> None:
            known, lease_until, stored = tx.look(batch.batch_id)
            if known or (attempts and tx.is_finished(batch.batch_id)):
                return
            if not tx.is_fresh(lease_until, now):
                tx.renew(now)
            if not roomy:
                tx.disk_is_short = self._database.require_space(tx.connection, size)
            tx.count(batch.kind, "accepted", batch.rows)
            if stored + size <= self._options.max_bytes or self._make_room(tx, batch.kind, size):
                tx.store(batch, attempts)
            else:
                tx.count_dropped(batch.kind, DROPPED_OVERFLOW, batch.rows)

        try:
            self._write(work)
        except QueueUnavailable:
            # If it is for want of room: what was removed may have left some
            self._database.reclaim()
            self._database.settle()
            raise

    def account(self, kind: Kind, rows: int, reason: str) -> None:
        """Count rows that were accepted and dropped without becoming a batch."""
        if rows < 0:
            raise ValueError(f"rows must not be negative, got {rows}")
        if rows == 0:
            return

        def work(tx: _Transaction) -> None:
            tx.count(kind, "accepted", rows)
            tx.count_dropped(kind, reason, rows)

        self._write(work)

    def exists(self) -> bool:
        """Whether the file exists, or did until somebody removed it; it is not opened for that."""
        return self._database.exists or self._database.is_open

    def lease(
        self,
        kind: Kind,
        now: float,
        max_batches: int = 1,
        max_bytes: int = 0,
        max_rows: int = 0,
        oldest: bool = False,
    ) -> list[Lease]:
        """Hand out the newest or oldest due batches of `kind` as `DeliveryQueue.lease` says."""
        # Mostly there is nothing, and a look keeps nobody from writing
        now = STEADY.at(now)
        if self._database.is_open and self._database.run(lambda found: self._on(found).is_idle(kind, now), begin=""):
            return []

        def work(tx: _Transaction) -> list[Lease]:
            end: End = "oldest" if oldest else "newest"
            tx.renew(now)
            tx.promote(kind, now)
            if oldest:
                tx.claim(kind, now, end)
            leases = tx.hand_out(kind, end, max_batches, max_bytes, max_rows)
            if not leases and not oldest and tx.claim(kind, now, end):
                leases = tx.hand_out(kind, end, max_batches, max_bytes, max_rows)
            return leases

        return self._write(work)

    def acknowledge(
        self, batch_id: str, rejected: Mapping[str, int] | None = None, letters: Sequence[DeadLetter] = ()
    ) -> bool:
        """Remove a batch that is in flight, delivered but for what `DeliveryQueue.acknowledge` takes out."""

        def work(tx: _Transaction) -> bool:
            held = tx.held(batch_id)
            if held is None:
                return False
            tx.remove(held)
            tx.remember(held.batch_id, self._remembers)
            tx.count(held.kind, "delivered", delivered_rows(held.rows, rejected, letters))
            for reason, rows in (rejected or {}).items():
                tx.count_dropped(held.kind, reason, rows)
            for letter in letters:
                tx.bury(letter, self._options.max_dead_letter_bytes)
            return True

        return self._write(work)

    def defer(self, batch_id: str, until: float, refusals: int = 0) -> bool:
        """Put a batch that is in flight back until `until` (Unix seconds)."""
        due = STEADY.at(until)

        def work(tx: _Transaction) -> bool:
            held = tx.held(batch_id)
            if held is None:
                return False
            tx.move(held, DEFERRED)
            tx.execute("UPDATE batches SET due = ?, refusals = ? WHERE seq = ?", due, refusals, held.seq)
            return True

        return self._write(work)

    def replace(
        self,
        batch_ids: Sequence[str],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter] = (),
        in_flight: bool = False,
    ) -> bool:
        """Exchange batches that are in flight for others and dead letters; ValueError when the rows differ."""
        check_ids(batch_ids)

        def work(tx: _Transaction) -> bool:
            old = [held for held in map(tx.held, batch_ids) if held is not None]
            if len(old) != len(batch_ids):
                return False
            check_exchange([Batch(held.batch_id, held.kind, held.rows, b"") for held in old], batches, letters)
            buried = {letter.batch.batch_id for letter in letters}
            for held in old:
                tx.remove(held)
                if held.batch_id not in buried:
                    tx.remember(held.batch_id, self._remembers)
            for new in [*batches, *(letter.batch for letter in letters)]:
                if tx.is_stored(new.batch_id):
                    raise ValueError(
                        f"batch {new.batch_id!r} is stored already; a new batch needs a batch_id of its own"
                    )
            for batch in batches:
                tx.store(batch, attempts=1, state=IN_FLIGHT if in_flight else READY)
            for letter in letters:
                tx.bury(letter, self._options.max_dead_letter_bytes)
            return True

        return self._write(work)

    def renew(self, now: float) -> None:
        """Extend this owner's lease to `now` plus the lease time."""
        steady = STEADY.at(now)
        self._write(lambda tx: tx.renew(steady))

    def release(self) -> None:
        """Give up this owner's lease, so that others can claim what it holds at once; opens nothing."""
        if self._database.is_open:
            self._write(_Transaction.release)

    def waiting(self, limit: int = 100, offset: int = 0) -> list[WaitingBatch]:
        """Return what is queued or in flight, of every owner, the last stored first."""

        def work(connection: sqlite3.Connection) -> list[WaitingBatch]:
            found = connection.execute(
                "SELECT batch_id, kind, rows, size, created_at, state = ?, attempts, encrypted FROM batches "
                "ORDER BY seq DESC LIMIT ? OFFSET ?",
                (IN_FLIGHT, limit, offset),
            )
            return [
                WaitingBatch(batch_id, kind, rows, size, created_at, bool(in_flight), attempts, bool(encrypted))
                for batch_id, kind, rows, size, created_at, in_flight, attempts, encrypted in found
            ]

        return self._database.run(work, begin="BEGIN")

    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """Return dead letters, newest first."""

        def work(connection: sqlite3.Connection) -> list[DeadLetter]:
            found = connection.execute(
                "SELECT batch_id, kind, rows, body, content_encoding, encrypted, created_at, status, reason, time "
                "FROM dead_letters ORDER BY time DESC, seq DESC LIMIT ? OFFSET ?",
                (limit, offset),
            )
            return [
                DeadLetter(
                    Batch(batch_id, kind, rows, body, content_encoding, bool(encrypted), created_at),
                    status,
                    reason,
                    when,
                )
                for batch_id, kind, rows, body, content_encoding, encrypted, created_at, status, reason, when in found
            ]

        return self._database.run(work, begin="BEGIN")

    def replay(self, batch_ids: Sequence[str] | None = None) -> int:
        """Queue dead letters again, newest first, as far as the bound has room; return how many moved."""

        def work(tx: _Transaction) -> int:
            moved = 0
            free = self._options.max_bytes - sum(tx.byte_counts().values())
            for letter in tx.letters(batch_ids):
                if letter.size > free:
                    continue
                free -= letter.size
                tx.exhume(letter)
                moved += 1
            return moved

        return self._write(work)

    def purge(self, batch_ids: Sequence[str] | None = None) -> int:
        """Drop dead letters; return how many batches went."""

        def work(tx: _Transaction) -> int:
            letters = tx.letters(batch_ids)
            for letter in letters:
                tx.drop_letter(letter, DROPPED_PURGED)
            return len(letters)

        return self._write(work)

    def stats(self) -> QueueStats:
        """Return one consistent reading; its cost does not depend on the depth."""

        def work(connection: sqlite3.Connection) -> QueueStats:
            counters: dict[str, int] = dict(connection.execute("SELECT name, value FROM counters"))
            oldest = [
                connection.execute("SELECT min(created_at) FROM batches WHERE kind = ?", (kind,)).fetchone()[0]
                for kind in KINDS
            ]
            return QueueStats(
                ledger={kind: _ledger(counters, kind) for kind in KINDS},
                depth=counters.get("depth", 0),
                bytes=sum(value for name, value in counters.items() if name.startswith(_BYTES)),
                oldest=min((created for created in oldest if created is not None), default=None),
                set_aside=counters.get(SET_ASIDE, 0),
            )

        return self._database.run(work, begin="BEGIN")

    def close(self) -> None:
        """Release, and close the connection. A later call opens the file again, as the same owner."""
        try:
            self.release()
        finally:
            self._database.close()

    def adopt(self, batch: Batch) -> None:
        """Store a batch of another machine's, as `LocalQueue.adopt` says."""
        self._append(batch, attempts=1)

    def read(self, batch_ids: Sequence[str]) -> list[Batch]:
        """Return those of the batches that are this owner's and sound, as `LocalQueue.read` says."""

        def work(connection: sqlite3.Connection) -> list[Batch]:
            tx = self._on(connection)
            return [batch for batch in map(tx.read, batch_ids) if batch is not None]

        return self._database.run(work, begin="BEGIN")

    def holdings(self, batch_ids: Sequence[str]) -> dict[str, Holding]:
        """Say where each of the batches is, as `LocalQueue.holdings` says."""

        def work(connection: sqlite3.Connection) -> dict[str, Holding]:
            tx = self._on(connection)
            found = ((batch_id, tx.holding(batch_id)) for batch_id in batch_ids)
            return {batch_id: holding for batch_id, holding in found if holding is not None}

        return self._database.run(work, begin="BEGIN")

    def finished(self, batch_ids: Sequence[str]) -> list[str]:
        """Return those of the batches that are remembered as delivered or replaced."""

        def work(connection: sqlite3.Connection) -> list[str]:
            return [batch_id for batch_id in batch_ids if self._on(connection).is_finished(batch_id)]

        return self._database.run(work, begin="BEGIN")

    def forget(self, batch_id: str) -> bool:
        """Remove a batch together with its acceptance, as `LocalQueue.forget` says."""

        def work(tx: _Transaction) -> bool:
            owned = tx.owned(batch_id)
            if owned is None:
                return False
            tx.remove(owned)
            tx.count(owned.kind, "accepted", -owned.rows)
            return True

        return self._write(work)

    def _count_lost(self, connection: sqlite3.Connection) -> Callable[[sqlite3.Connection], object]:
        """Count what this owner had in a file that is gone; return what writes it down in the next one.

        Each owner counts its own rows, so that none is counted twice.
        """
        tx = self._on(connection)
        lost: list[tuple[Kind, int]] = tx.execute(
            "SELECT kind, sum(rows) FROM batches WHERE owner = ? GROUP BY kind", tx.owner
        ).fetchall()

        def write_down(following: sqlite3.Connection) -> None:
            tx = self._on(following)
            for kind, rows in lost:
                tx.count(kind, "accepted", rows)
                tx.count_dropped(kind, DROPPED_STORE_REMOVED, rows)
            tx.write_counters()

        return write_down

    def _on(self, connection: sqlite3.Connection) -> _Transaction:
        return _Transaction(connection, self._owner.get(), self._options.lease_seconds)

    def _write(self, work: Callable[[_Transaction], T]) -> T:
        """Run `work` in one write transaction, then say and tidy up what it left, outside the lock."""
        # The last one is what counts: on a damaged file the work is done twice
        transactions: list[_Transaction] = []

        def operation(connection: sqlite3.Connection) -> T:
            tx = self._on(connection)
            transactions.append(tx)
            result = work(tx)
            tx.write_counters()
            return result

        result = self._database.run(operation)
        done = transactions[-1]
        for batch_id in done.corrupt:
            logger.error("Batch %r in the queue %s was corrupt and is dropped", batch_id, self.path)
        if done.disk_is_short:
            self._database.settle()
        # Not exact under threads, and need not be: it only paces the housekeeping
        self._removed_bytes += done.removed_bytes
        if self._removed_bytes >= RECLAIM_BYTES:
            self._removed_bytes = 0
            self._database.reclaim()
        return result

    def _make_room(self, tx: _Transaction, kind: Kind, size: int) -> bool:
        """Evict what the overflow policy gives up for an incoming body; False when it has to go itself."""
        stored = tx.byte_counts()
        excess = sum(stored.values()) + size - self._options.max_bytes
        if excess <= 0:
            return True
        order = eviction_order(kind, self._options.overflow)
        queued = {victim: stored.get(f"{_BYTES_QUEUED}{victim}", 0) for victim in KINDS}
        if not room_can_be_made(size, excess, self._options.max_bytes, queued, order):
            return False
        for victims, end in order:
            while excess > 0 and (evicted := tx.evict(victims, end)) is not None:
                excess -= evicted
        return True


_BOOT = "boot"
_LONGEST_SECONDS = 3600.0


def _after_boot(connection: sqlite3.Connection) -> None:
    """End every lease and every wait that began before this machine was started the last time, with all its processes.

    Where nothing tells one start from the next, what lies further ahead than a lease or a wait can be is that old.
    """
    number, longest = boot(), time.monotonic() + _LONGEST_SECONDS
    found = connection.execute("SELECT value FROM counters WHERE name = ?", (_BOOT,)).fetchone()
    if found is not None and found[0] == number:
        if number:
            return
    else:
        connection.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (_BOOT, number))
        longest = float("-inf")
    connection.execute("UPDATE owners SET lease_until = ? WHERE lease_until > ?", (float("-inf"), longest))
    connection.execute("UPDATE batches SET due = 0 WHERE state = ? AND due > ?", (DEFERRED, longest))


_BYTES = "bytes."
_BYTES_QUEUED = "bytes.queued."
_BYTES_IN_FLIGHT = "bytes.in_flight"
_DEAD_LETTER_BYTES = "dead_letter_bytes"


@dataclass(frozen=True, slots=True)
class _Stored:
    """What moving a batch or a dead letter needs to know of it."""

    seq: int
    batch_id: str
    kind: Kind
    rows: int
    size: int
    state: int


class _Transaction:
    """The moves of one write transaction. Every move counts itself; the counters are written once, at the end.

    Each step of a statement gives the interpreter away and has to get it back, which in a busy process takes
    milliseconds while the store is locked: what is done often is done in few statements.
    """

    def __init__(self, connection: sqlite3.Connection, owner: str, lease_seconds: float) -> None:
        self.owner = owner
        self.corrupt: list[str] = []
        self.removed_bytes = 0
        self.disk_is_short = False
        self.connection = connection
        self._lease_seconds = lease_seconds
        self._counts: Counter[str] = Counter()

    def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        return self.connection.execute(statement, cast("Sequence[str]", parameters))

    def count(self, kind: Kind, account: str, rows: int) -> None:
        self._counts[f"{kind}.{account}"] += rows

    def count_dropped(self, kind: Kind, reason: str, rows: int) -> None:
        self.count(kind, f"{_DROPPED}{reason}", rows)

    def write_counters(self) -> None:
        if changed := [(name, value) for name, value in self._counts.items() if value]:
            self.execute(
                f"INSERT INTO counters VALUES {', '.join(['(?, ?)'] * len(changed))} "  # noqa: S608
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                *(each for pair in changed for each in pair),
            )

    def look(self, batch_id: str) -> tuple[bool, float | None, int]:
        """Return whether a batch or a dead letter has this id, the end of this owner's lease, and the stored bytes."""
        known, lease_until, size = self.execute(
            "SELECT EXISTS (SELECT 1 FROM batches WHERE batch_id = ?1) "
            "OR EXISTS (SELECT 1 FROM dead_letters WHERE batch_id = ?1), "
            "(SELECT lease_until FROM owners WHERE owner = ?2), "
            "(SELECT coalesce(sum(value), 0) FROM counters WHERE name GLOB ?3)",
            batch_id,
            self.owner,
            f"{_BYTES}*",
        ).fetchone()
        return bool(known), lease_until, size

    def is_fresh(self, lease_until: float | None, now: float) -> bool:
        """Whether a lease was taken just now, so that taking it again would change little."""
        return lease_until is not None and 0.75 <= (lease_until - now) / self._lease_seconds <= 1.0

    def is_idle(self, kind: Kind, now: float) -> bool:
        """Whether `lease` has nothing to do: no batch that is due or left behind, and no lease to renew."""
        lease_until, due = self.execute(
            "SELECT (SELECT lease_until FROM owners WHERE owner = ?1), "
            "EXISTS (SELECT 1 FROM batches WHERE owner = ?1 AND kind = ?2 AND state = 2) "
            "OR EXISTS (SELECT 1 FROM batches WHERE owner = ?1 AND kind = ?2 AND state = 0 AND due <= ?3) "
            "OR EXISTS (SELECT 1 FROM owners WHERE lease_until < ?3 AND owner <> ?1 AND "
            "EXISTS (SELECT 1 FROM batches WHERE batches.owner = owners.owner AND kind = ?2))",
            self.owner,
            kind,
            now,
        ).fetchone()
        return not due and self.is_fresh(lease_until, now)

    def byte_counts(self) -> dict[str, int]:
        """Return the bytes of stored bodies, as they were when the transaction began."""
        return dict(self.execute("SELECT name, value FROM counters WHERE name GLOB ?", f"{_BYTES}*"))

    def renew(self, now: float) -> None:
        self.execute(
            "INSERT INTO owners VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until",
            self.owner,
            now + self._lease_seconds,
        )

    def release(self) -> None:
        self.execute("UPDATE owners SET lease_until = ? WHERE owner = ?", float("-inf"), self.owner)
        self._forget_if_empty(self.owner)

    def is_stored(self, batch_id: str) -> bool:
        """Whether a batch or a dead letter has this id."""
        return any(
            self.execute(f"SELECT 1 FROM {table} WHERE batch_id = ?", batch_id).fetchone()  # noqa: S608
            for table in ("batches", "dead_letters")
        )

    def remember(self, batch_id: str, bound: int) -> None:
        """Keep the id of a batch that has left the store for good, and those of the newest `bound` in all."""
        if bound:
            seq = self.execute("INSERT OR REPLACE INTO finished (batch_id) VALUES (?)", batch_id).lastrowid or 0
            self.execute("DELETE FROM finished WHERE seq <= ?", seq - bound)

    def is_finished(self, batch_id: str) -> bool:
        """Whether a batch was here, and was delivered or replaced."""
        return self.execute("SELECT 1 FROM finished WHERE batch_id = ?", batch_id).fetchone() is not None

    def store(self, batch: Batch, attempts: int, state: int = READY) -> None:
        """Add a batch, this owner's."""
        self._insert(batch, _checksum(batch), self.owner, attempts, state)

    def held(self, batch_id: str) -> _Stored | None:
        """Return a batch that is in flight and this owner's."""
        row = self.execute(
            f"SELECT {_STORED} FROM batches WHERE batch_id = ? AND owner = ? AND state = ?",  # noqa: S608
            batch_id,
            self.owner,
            IN_FLIGHT,
        ).fetchone()
        return None if row is None else _Stored(*row)

    def owned(self, batch_id: str) -> _Stored | None:
        """Return a batch of this owner's, in whatever state."""
        row = self.execute(
            f"SELECT {_STORED} FROM batches WHERE batch_id = ? AND owner = ?",  # noqa: S608
            batch_id,
            self.owner,
        ).fetchone()
        return None if row is None else _Stored(*row)

    def read(self, batch_id: str) -> Batch | None:
        """Return the body of a batch of this owner's, None when its checksum is wrong."""
        row = self.execute(
            "SELECT kind, rows, body, content_encoding, encrypted, created_at, checksum "
            "FROM batches JOIN bodies USING (seq) WHERE batch_id = ? AND owner = ?",
            batch_id,
            self.owner,
        ).fetchone()
        if row is None or not isinstance(row[2], bytes):
            return None
        kind, rows, body, content_encoding, encrypted, created_at, checksum = row
        batch = Batch(batch_id, kind, rows, body, content_encoding, bool(encrypted), created_at)
        return batch if checksum == _checksum(batch) else None

    def holding(self, batch_id: str) -> Holding | None:
        """Say where a batch is."""
        row = self.execute("SELECT owner FROM batches WHERE batch_id = ?", batch_id).fetchone()
        if row is not None:
            return "mine" if row[0] == self.owner else "theirs"
        dead = self.execute("SELECT 1 FROM dead_letters WHERE batch_id = ?", batch_id).fetchone()
        return None if dead is None else "dead"

    def move(self, stored: _Stored, state: int, attempt: bool = False) -> None:
        """Give a batch another state; with `attempt` its delivery is begun once more."""
        self.execute(
            "UPDATE batches SET state = ?, attempts = attempts + ? WHERE seq = ?", state, int(attempt), stored.seq
        )
        self._count_state(stored.kind, stored.state, -stored.rows, -stored.size)
        self._count_state(stored.kind, state, stored.rows, stored.size)

    def remove(self, stored: _Stored) -> None:
        """Take a batch out of the store."""
        self.execute("DELETE FROM batches WHERE seq = ?", stored.seq)
        self.execute("DELETE FROM bodies WHERE seq = ?", stored.seq)
        self._counts["depth"] -= 1
        self._count_state(stored.kind, stored.state, -stored.rows, -stored.size)
        self.removed_bytes += stored.size

    def evict(self, kind: Kind, end: End) -> int | None:
        """Drop the oldest or newest queued batch of a kind; return its bytes, None when nothing is queued."""
        direction = _direction(end)
        row = self.execute(
            f"SELECT {_STORED} FROM batches WHERE kind = ? AND state <> ? "  # noqa: S608
            f"ORDER BY created_at {direction}, seq {direction} LIMIT 1",
            kind,
            IN_FLIGHT,
        ).fetchone()
        if row is None:
            return None
        stored = _Stored(*row)
        self.remove(stored)
        self.count_dropped(kind, DROPPED_OVERFLOW, stored.rows)
        return stored.size

    def promote(self, kind: Kind, now: float) -> None:
        """Make this owner's deferred batches that are due ready."""
        self.execute(
            "UPDATE batches SET state = ? WHERE seq IN (SELECT seq FROM batches "
            "WHERE owner = ? AND kind = ? AND state = 0 AND due <= ? ORDER BY due LIMIT ?)",
            READY,
            self.owner,
            kind,
            now,
            PROMOTE_BATCHES,
        )

    def hand_out(self, kind: Kind, end: End, max_batches: int, max_bytes: int, max_rows: int) -> list[Lease]:
        """Put this owner's ready batches in flight, from one end: one that was attempted, or several that were not."""
        direction = _direction(end)
        leases: list[Lease] = []
        size = rows = 0
        while len(leases) < max_batches:
            row = self.execute(
                f"SELECT {_STORED}, attempts, refusals, content_encoding, encrypted, created_at, checksum, "  # noqa: S608
                "(SELECT body FROM bodies WHERE bodies.seq = batches.seq) "
                "FROM batches WHERE owner = ? AND kind = ? AND state = ? "
                f"ORDER BY created_at {direction}, seq {direction} LIMIT 1",
                self.owner,
                kind,
                READY,
            ).fetchone()
            if row is None:
                break
            stored = _Stored(*row[:6])
            attempts, refusals, content_encoding, encrypted, created_at, checksum, body = row[6:]
            size += stored.size
            rows += stored.rows
            if leases and (attempts or 0 < max_bytes < size or 0 < max_rows < rows):
                break
            body = body if isinstance(body, bytes) else b""
            batch = Batch(stored.batch_id, kind, stored.rows, body, content_encoding, bool(encrypted), created_at)
            if checksum != _checksum(batch):
                self.remove(stored)
                self.count_dropped(kind, DROPPED_CORRUPT, stored.rows)
                self.corrupt.append(stored.batch_id)
                size -= stored.size
                rows -= stored.rows
                continue
            self.move(stored, IN_FLIGHT, attempt=True)
            leases.append(Lease(batch, attempts, refusals))
            if attempts:
                break
        return leases

    def claim(self, kind: Kind, now: float, end: End) -> int:
        """Take over batches of owners whose lease has run out, ready at once; return how many came."""
        claimed = 0
        owners = self.execute(
            "SELECT owner FROM owners WHERE lease_until < ? AND owner <> ? ORDER BY lease_until", now, self.owner
        ).fetchall()
        for (owner,) in owners:
            for state in (READY, IN_FLIGHT, DEFERRED):
                claimed += self._claim_from(owner, kind, state, end, CLAIM_BATCHES - claimed)
            self._forget_if_empty(owner)
            if claimed >= CLAIM_BATCHES:
                break
        return claimed

    def _claim_from(self, owner: str, kind: Kind, state: int, end: End, limit: int) -> int:
        """Take over up to `limit` batches that an owner has in one state, from one end; return how many came."""
        direction = _direction(end)
        rows = self.execute(
            f"SELECT {_STORED} FROM batches WHERE owner = ? AND kind = ? AND state = ? "  # noqa: S608
            f"ORDER BY created_at {direction}, seq {direction} LIMIT ?",
            owner,
            kind,
            state,
            limit,
        ).fetchall()
        for row in rows:
            stored = _Stored(*row)
            self.execute("UPDATE batches SET owner = ? WHERE seq = ?", self.owner, stored.seq)
            self.move(stored, READY)
        return len(rows)

    def bury(self, letter: DeadLetter, bound: int) -> None:
        """Keep a dead letter; the oldest make room, and one beyond the whole bound is dropped at once."""
        batch, size = letter.batch, len(letter.batch.body)
        if size > bound:
            self.count_dropped(batch.kind, DROPPED_DEAD_LETTER_OVERFLOW, batch.rows)
            return
        while self._dead_letter_bytes() + size > bound:
            oldest = self.execute(
                f"SELECT {_STORED_LETTER} FROM dead_letters ORDER BY time, seq LIMIT 1"  # noqa: S608
            ).fetchone()
            if oldest is None:
                break
            self.drop_letter(_Stored(*oldest), DROPPED_DEAD_LETTER_OVERFLOW)
        self.execute(
            "INSERT INTO dead_letters (batch_id, kind, rows, size, content_encoding, encrypted, created_at, checksum, "
            "status, reason, time, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *_columns(batch, _checksum(batch)),
            letter.status,
            letter.reason,
            letter.time,
            batch.body,
        )
        self.count(batch.kind, "dead_lettered", batch.rows)
        self._counts[_DEAD_LETTER_BYTES] += size

    def letters(self, batch_ids: Sequence[str] | None) -> list[_Stored]:
        """Return the named dead letters, or all of them, newest first, without their bodies."""
        wanted = None if batch_ids is None else set(batch_ids)
        rows = self.execute(
            f"SELECT {_STORED_LETTER} FROM dead_letters ORDER BY time DESC, seq DESC"  # noqa: S608
        )
        return [letter for letter in (_Stored(*row) for row in rows) if wanted is None or letter.batch_id in wanted]

    def exhume(self, letter: _Stored) -> None:
        """Queue a dead letter again, unowned and as attempted; its checksum stays."""
        body, content_encoding, encrypted, created_at, checksum = self.execute(
            "SELECT body, content_encoding, encrypted, created_at, checksum FROM dead_letters WHERE seq = ?", letter.seq
        ).fetchone()
        self._remove_letter(letter)
        batch = Batch(letter.batch_id, letter.kind, letter.rows, body, content_encoding, bool(encrypted), created_at)
        self._insert(batch, checksum, UNOWNED, attempts=1, state=READY)

    def drop_letter(self, letter: _Stored, reason: str) -> None:
        """Drop a dead letter for a reason."""
        self._remove_letter(letter)
        self.count_dropped(letter.kind, reason, letter.rows)

    def _insert(self, batch: Batch, checksum: int, owner: str, attempts: int, state: int) -> None:
        cursor = self.execute(
            "INSERT INTO batches (batch_id, kind, rows, size, content_encoding, encrypted, created_at, checksum, "
            "owner, state, due, attempts, refusals) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0)",
            *_columns(batch, checksum),
            owner,
            state,
            attempts,
        )
        self.execute("INSERT INTO bodies VALUES (?, ?)", cursor.lastrowid, batch.body)
        self._counts["depth"] += 1
        self._count_state(batch.kind, state, batch.rows, len(batch.body))

    def _remove_letter(self, letter: _Stored) -> None:
        self.execute("DELETE FROM dead_letters WHERE seq = ?", letter.seq)
        self.count(letter.kind, "dead_lettered", -letter.rows)
        self._counts[_DEAD_LETTER_BYTES] -= letter.size
        self.removed_bytes += letter.size

    def _dead_letter_bytes(self) -> int:
        row = self.execute("SELECT value FROM counters WHERE name = ?", _DEAD_LETTER_BYTES).fetchone()
        return (row[0] if row else 0) + self._counts[_DEAD_LETTER_BYTES]

    def _count_state(self, kind: Kind, state: int, rows: int, size: int) -> None:
        in_flight = state == IN_FLIGHT
        self.count(kind, "in_flight" if in_flight else "queued", rows)
        self._counts[_BYTES_IN_FLIGHT if in_flight else f"{_BYTES_QUEUED}{kind}"] += size

    def _forget_if_empty(self, owner: str) -> None:
        """Remove the row of an owner that has given up or lost its lease and has nothing left."""
        self.execute(
            "DELETE FROM owners WHERE owner = ? AND owner <> ? "
            "AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.owner = owners.owner)",
            owner,
            UNOWNED,
        )


_DROPPED = "dropped."
_STORED = "seq, batch_id, kind, rows, size, state"
_STORED_LETTER = f"seq, batch_id, kind, rows, size, {READY}"


def _direction(end: End) -> str:
    return "ASC" if end == "oldest" else "DESC"


def _new_owner() -> str:
    return str(uuid4())


def _columns(batch: Batch, checksum: int) -> tuple[object, ...]:
    return (
        batch.batch_id,
        batch.kind,
        batch.rows,
        len(batch.body),
        batch.content_encoding,
        int(batch.encrypted),
        float(batch.created_at),
        checksum,
    )


def _checksum(batch: Batch) -> int:
    """Return the CRC-32 of a batch's body and of everything that is stored about it."""
    about = (
        batch.batch_id,
        batch.kind,
        batch.rows,
        batch.content_encoding,
        int(batch.encrypted),
        float(batch.created_at),
    )
    return zlib.crc32(repr(about).encode("utf-8", "backslashreplace"), zlib.crc32(batch.body))


def _ledger(counters: dict[str, int], kind: Kind) -> Ledger:
    def rows(account: str) -> int:
        return counters.get(f"{kind}.{account}", 0)

    prefix = f"{kind}.{_DROPPED}"
    return Ledger(
        accepted=rows("accepted"),
        delivered=rows("delivered"),
        queued=rows("queued"),
        in_flight=rows("in_flight"),
        dead_lettered=rows("dead_lettered"),
        dropped={name[len(prefix) :]: value for name, value in counters.items() if name.startswith(prefix) and value},
    )
