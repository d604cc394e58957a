"""The queue on this machine, in a file or in memory: each of its moves is one statement (see the package)."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar
from uuid import uuid4

from ..base import (
    DROPPED_CORRUPT,
    DROPPED_OVERFLOW,
    DROPPED_PURGED,
    DROPPED_STORE_REMOVED,
    Batch,
    DeadLetter,
    Kind,
    Lease,
    QueueOptions,
    QueueStats,
    QueueUnavailable,
    WaitingBatch,
    check_exchange,
    check_ids,
)
from ..process import PerProcess
from ..steady import STEADY
from . import moves
from .database import Database, Moves
from .moves import BATCH, DROPPED, batch_of, checksum_of, count_dropped, fetch, marks, portions
from .schema import LIVE

logger = logging.getLogger(__name__)

T = TypeVar("T")

Holding = Literal["mine", "theirs", "dead"]
"""Where a stored batch is: this owner's, another owner's of the same store, or among the dead letters."""

RECLAIM_REMOVALS = 16
"""Batches that have gone after which free pages go back to the system."""
FRESH = 0.96
"""The part of a lease that is left of one that was taken just now, so that taking it again would change little."""


class LocalQueue:
    """A delivery queue in a `Database`, with what a copy elsewhere is compared with.

    Each object is one owner; a forked child is another.
    """

    def __init__(self, database: Database, options: QueueOptions, clock: Callable[[], float] = time.time) -> None:
        """Take bounds, lease time (seconds) and overflow policy from `options`.

        `clock` returns Unix seconds; `append` renews this owner's lease by it.
        """
        self._database = database
        self._options = options
        self._clock = clock
        self._owner: PerProcess[str] = PerProcess(lambda: str(uuid4()))
        self._removals = 0

    def append(self, batch: Batch) -> None:
        """Store a batch as `DeliveryQueue.append` says; renews this owner's lease."""
        self._append(batch, attempts=0, adopted=False)

    def adopt(self, batch: Batch, begun: bool = True) -> None:
        """Store a batch that another machine left behind, as `append` does, but as attempted once where it has `begun`.

        It may have been sent then without anybody knowing, so it must come alone and go out under its own `batch_id`.
        One that this store remembers to have finished is not stored again: its copy was only not removed in time.
        """
        self._append(batch, int(begun), adopted=True)

    def adopt_all(self, batches: Sequence[tuple[Batch, bool]]) -> None:
        """Do what `adopt` does for batches and whether each has begun, in one step where there is room for all."""
        if len(batches) > 1:
            more = (self._owner.get(), STEADY.at(self._clock()) + self._options.lease_seconds)
            self._database.run(lambda c: moves.insert_adopted(c, batches, more, self._options.max_bytes))
        stored = self.holdings([batch.batch_id for batch, _ in batches])
        for batch, begun in batches:
            if batch.batch_id not in stored:
                self.adopt(batch, begun)

    def _append(self, batch: Batch, attempts: int, adopted: bool) -> None:
        owner, size = self._owner.get(), len(batch.body)
        lease_until = STEADY.at(self._clock()) + self._options.lease_seconds
        removed, short = 0, False

        def work(connection: sqlite3.Connection) -> None:
            nonlocal removed, short
            short = self._database.require_space(connection, size)
            more = (owner, attempts, lease_until)
            while not moves.insert(connection, batch, more, adopted, self._options.max_bytes):
                known, stored = moves.look_for_room(connection, batch.batch_id, adopted)
                if known:
                    return
                if (planned := moves.eviction(batch, stored, self._options)) is None:
                    moves.renew(connection, owner, lease_until)
                    count_dropped(connection, batch.kind, DROPPED_OVERFLOW, batch.rows)
                    return
                excess, order = planned
                for kind, direction in order:
                    while excess > 0 and (evicted := moves.evict(connection, kind, direction, excess))[0]:
                        removed += evicted[0]
                        excess -= evicted[1]

        try:
            self._database.run(work)
        except QueueUnavailable:
            # If it is for want of room: what was removed may have left some
            self._database.reclaim()
            self._database.settle()
            raise
        if short:
            self._database.settle()
        self._tidy(removed)

    def account(self, kind: Kind, rows: int, reason: str) -> None:
        """Count rows that were accepted and dropped without becoming a batch."""
        if rows < 0:
            raise ValueError(f"rows must not be negative, got {rows}")
        if rows:
            self._database.run(lambda connection: count_dropped(connection, kind, reason, rows))

    def exists(self) -> bool:
        """Whether the store exists, or did until somebody removed it; it is not opened for that."""
        return self._database.exists

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
        now, owner = STEADY.at(now), self._owner.get()
        direction: moves.Direction = "ASC" if oldest else "DESC"
        dropped: list[str] = []

        def work(connection: sqlite3.Connection) -> list[Lease]:
            while True:
                lease_until, ready, due, left = moves.look(connection, owner, kind, now)
                if not FRESH <= (lease_until - now) / self._options.lease_seconds <= 1.0:
                    moves.renew(connection, owner, now + self._options.lease_seconds)
                if due:
                    moves.promote(connection, owner, kind, now)
                if left and (oldest or not (ready or due)):
                    moves.claim(connection, owner, kind, now, direction)
                elif not (ready or due):
                    return []
                bounds = (max_batches, max_bytes, max_rows)
                chosen, corrupt = moves.choose(connection, owner, kind, direction, bounds)
                if corrupt:
                    connection.execute(
                        f"UPDATE batches SET state = ? WHERE seq IN ({marks(corrupt)}) AND state = 'ready'",
                        (f"{DROPPED}{DROPPED_CORRUPT}", *corrupt),
                    )
                    dropped.extend(corrupt.values())
                # Where somebody was quicker there is something else to take, or nothing any more
                if chosen and moves.take(connection, owner, list(chosen)):
                    return list(chosen.values())

        leases = self._database.run(work)
        for batch_id in dropped:
            logger.error("Batch %r in the queue %s was corrupt and is dropped", batch_id, self._database)
        return leases

    def acknowledge(
        self, batch_id: str, rejected: Mapping[str, int] | None = None, letters: Sequence[DeadLetter] = ()
    ) -> bool:
        """Remove a batch that is in flight, delivered but for what `DeliveryQueue.acknowledge` takes out."""

        def parts(held: Sequence[Batch]) -> list[tuple[object, ...]]:
            dropped = {f"{DROPPED}{reason}": rows for reason, rows in (rejected or {}).items()}
            delivered = held[0].rows - sum(dropped.values()) - sum(letter.batch.rows for letter in letters)
            return [
                moves.coming(replace(held[0], batch_id=f"{batch_id} {state}", rows=rows), None, state)
                for state, rows in {"delivered": delivered, **dropped}.items()
            ]

        if rejected or letters:
            done = self._exchange([batch_id], parts, letters)
        else:
            done = self._move(batch_id, "state = 'delivered'")
        self._tidy(int(done))
        return done

    def defer(self, batch_id: str, until: float, refusals: int = 0) -> bool:
        """Put a batch that is in flight back until `until` (Unix seconds)."""
        return self._move(batch_id, "state = 'deferred', due = ?, refusals = ?", STEADY.at(until), refusals)

    def _move(self, batch_id: str, change: str, *values: float) -> bool:
        """Change a batch that is in flight and this owner's; False when there is none."""
        return self._changes(
            f"UPDATE batches SET {change} WHERE batch_id = ? AND owner = ? AND state = 'in flight'",
            *values,
            batch_id,
            self._owner.get(),
        )

    def replace(
        self,
        batch_ids: Sequence[str],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter] = (),
        in_flight: bool = False,
    ) -> bool:
        """Exchange batches that are in flight for others and dead letters; ValueError when the rows differ."""
        check_ids(batch_ids)
        state, owner = "in flight" if in_flight else "ready", self._owner.get()

        def parts(held: Sequence[Batch]) -> list[tuple[object, ...]]:
            check_exchange(held, batches, letters)
            return [moves.coming(batch, owner, state) for batch in batches]

        return self._exchange(batch_ids, parts, letters)

    def _exchange(
        self,
        batch_ids: Sequence[str],
        parts: Callable[[Sequence[Batch]], list[tuple[object, ...]]],
        letters: Sequence[DeadLetter],
    ) -> bool:
        """Put what `parts` makes of batches that are in flight, and dead letters, in their place; False without one.

        Raises:
            ValueError: the `batch_id` of a new one is stored already.
        """
        bound = self._options.max_dead_letter_bytes

        def work(connection: sqlite3.Connection) -> bool:
            held = moves.held(connection, self._owner.get(), batch_ids)
            if len(held) != len(batch_ids):
                return False
            rows = [*parts(held), *(moves.coming_letter(letter, bound) for letter in letters)]
            buried = {letter.batch.batch_id for letter in letters}
            done = moves.exchange(connection, self._owner.get(), batch_ids, buried, rows)
            if letters:
                moves.evict_letters(connection, bound)
            return done

        return self._database.run(work)

    def renew(self, now: float) -> None:
        """Extend this owner's lease to `now` plus the lease time."""
        lease_until = STEADY.at(now) + self._options.lease_seconds
        self._database.run(lambda connection: moves.renew(connection, self._owner.get(), lease_until))

    def release(self) -> None:
        """Give up this owner's lease, so that others can claim what it holds at once; opens nothing."""
        if self._database.is_open:
            self._database.run(lambda connection: moves.release(connection, self._owner.get()))

    def waiting(self, limit: int = 100, offset: int = 0) -> list[WaitingBatch]:
        """Return what is queued or in flight, of every owner, the last stored first."""
        found = self._read(
            "SELECT batch_id, kind, rows, size, created_at, state = 'in flight', attempts, encrypted FROM batches "
            "WHERE state <> 'dead' ORDER BY seq DESC LIMIT ? OFFSET ?",
            limit,
            offset,
        )
        return [
            WaitingBatch(batch_id, kind, rows, size, created_at, bool(in_flight), attempts, bool(encrypted))
            for batch_id, kind, rows, size, created_at, in_flight, attempts, encrypted in found
        ]

    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """Return dead letters, newest first."""
        found = self._read(
            f"SELECT {BATCH}, status, reason, time FROM batches JOIN bodies USING (seq) "
            "WHERE state = 'dead' ORDER BY time DESC, seq DESC LIMIT ? OFFSET ?",
            limit,
            offset,
        )
        return [DeadLetter(batch_of(row[:7]), *row[7:]) for row in found]

    def replay(self, batch_ids: Sequence[str] | None = None) -> int:
        """Queue dead letters again, newest first, as far as the bound has room; return how many moved."""

        def work(connection: sqlite3.Connection) -> int:
            return sum(
                connection.execute(
                    "UPDATE batches SET state = 'ready', owner = '', due = 0, attempts = 1, refusals = 0 "
                    "WHERE seq = ? AND state = 'dead' "
                    f"AND (SELECT total(bytes) FROM ledger WHERE state IN {LIVE}) + size <= ?",
                    (seq, self._options.max_bytes),
                ).rowcount
                for seq in moves.letters(connection, batch_ids)
            )

        return self._database.run(work)

    def purge(self, batch_ids: Sequence[str] | None = None) -> int:
        """Drop dead letters; return how many batches went."""

        def work(connection: sqlite3.Connection) -> int:
            return sum(
                connection.execute(
                    "UPDATE batches SET state = ? WHERE seq = ? AND state = 'dead'", (f"{DROPPED}{DROPPED_PURGED}", seq)
                ).rowcount
                for seq in moves.letters(connection, batch_ids)
            )

        purged = self._database.run(work)
        self._tidy(purged)
        return purged

    def stats(self) -> QueueStats:
        """Return one consistent reading; its cost does not depend on the depth."""
        found = self._read(
            "SELECT kind, state, rows, batches, bytes, state IN ('ready', 'deferred', 'in flight'), "
            "(SELECT min(created_at) FROM batches WHERE batches.kind = ledger.kind AND batches.state <> 'dead'), "
            "(SELECT value FROM facts WHERE name = 'set_aside') FROM ledger"
        )
        # A file may have been opened by who doesn't know what is in it.
        kinds = dict.fromkeys((*self._options.kinds, *(row[0] for row in found if row[2])))
        return QueueStats(
            ledger={kind: moves.ledger_of({row[1]: row[2] for row in found if row[0] == kind}) for kind in kinds},
            depth=sum(row[3] for row in found if row[5]),
            bytes=sum(row[4] for row in found if row[5]),
            oldest=min((row[6] for row in found if row[6] is not None), default=None),
            set_aside=found[0][7],
        )

    def close(self) -> None:
        """Release, and close what is open. A later call opens it again, as the same owner."""
        try:
            self.release()
        finally:
            self._database.close()

    def read(self, batch_ids: Sequence[str]) -> list[Batch]:
        """Return those of the batches that this owner has, queued or in flight, and are sound; nothing changes."""
        found = self._read_each(
            f"SELECT {BATCH}, checksum FROM batches JOIN bodies USING (seq) WHERE batch_id IN ({{}}) AND owner = ?",
            batch_ids,
            self._owner.get(),
        )
        sound = {row[0]: batch for row in found if row[7] == checksum_of(batch := batch_of(row[:7]))}
        return [sound[batch_id] for batch_id in batch_ids if batch_id in sound]

    def holdings(self, batch_ids: Sequence[str]) -> dict[str, Holding]:
        """Say where each of the batches is; one that is not stored is missing in the answer."""
        found = self._read_each("SELECT batch_id, owner FROM batches WHERE batch_id IN ({})", batch_ids)
        mine = self._owner.get()
        return {name: "dead" if owner is None else "mine" if owner == mine else "theirs" for name, owner in found}

    def finished(self, batch_ids: Sequence[str]) -> list[str]:
        """Return those of the batches that were here and are remembered as delivered or replaced."""
        return [name for (name,) in self._read_each("SELECT batch_id FROM finished WHERE batch_id IN ({})", batch_ids)]

    def forget(self, batch_id: str) -> bool:
        """Remove a batch of this owner's that was delivered from another store, or went there.

        Its acceptance goes with it: the rows leave `accepted` here, and are in the ledger of the other store. False
        when this owner does not have it.
        """
        return self._changes("DELETE FROM batches WHERE batch_id = ? AND owner = ?", batch_id, self._owner.get())

    def _count_lost(self, connection: sqlite3.Connection) -> Moves:
        """Count what this owner had in a file that is gone; return what writes it down in the next one.

        Each owner counts its own rows, so that none is counted twice.
        """
        lost: list[tuple[Kind, int]] = fetch(
            connection, "SELECT kind, sum(rows) FROM batches WHERE owner = ? GROUP BY kind", self._owner.get()
        )

        def write_down(following: sqlite3.Connection) -> None:
            for kind, rows in lost:
                count_dropped(following, kind, DROPPED_STORE_REMOVED, rows)

        return write_down

    def _changes(self, statement: str, *values: object) -> bool:
        """Run a statement; return whether it has changed a batch."""
        return self._database.run(lambda connection: connection.execute(statement, values).rowcount > 0)

    def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._database.run(lambda connection: fetch(connection, statement, *values))

    def _read_each(self, statement: str, batch_ids: Sequence[str], *values: object) -> list[tuple[Any, ...]]:
        """Read of all the named batches, in as many statements as that takes."""
        return [
            row for some in portions(batch_ids) for row in self._read(statement.format(marks(some)), *some, *values)
        ]

    def _tidy(self, removed: int) -> None:
        """Count batches that have gone, and give the room that they took back from time to time."""
        # Not exact under threads, and need not be: it only paces the housekeeping
        self._removals += removed
        if removed and self._removals >= RECLAIM_REMOVALS:
            self._removals = RECLAIM_REMOVALS - 1 if self._database.reclaim() else 0
