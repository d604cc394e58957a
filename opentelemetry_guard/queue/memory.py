"""The delivery queue in this process's memory."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .base import (
    DROPPED_DEAD_LETTER_OVERFLOW,
    DROPPED_OVERFLOW,
    DROPPED_PURGED,
    KINDS,
    Batch,
    DeadLetter,
    Kind,
    Lease,
    Ledger,
    QueueOptions,
    QueueStats,
    WaitingBatch,
)
from .exchange import check_exchange, delivered_rows
from .local import Holding
from .overflow import End, eviction_order, room_can_be_made
from .process import PerProcess
from .steady import STEADY
from .url import check_memory_url


@dataclass(slots=True)
class _Entry:
    """A stored batch; `due` is when it may be handed out (steady seconds)."""

    batch: Batch
    number: int
    due: float = float("-inf")
    attempts: int = 0
    refusals: int = 0

    @property
    def age_key(self) -> tuple[float, int]:
        return (self.batch.created_at, self.number)


def _age_key(entry: _Entry) -> tuple[float, int]:
    return entry.age_key


def _per_kind_lists() -> dict[Kind, list[_Entry]]:
    return {kind: [] for kind in KINDS}


def _per_kind_ledgers() -> dict[Kind, Ledger]:
    return {kind: Ledger() for kind in KINDS}


@dataclass(slots=True)
class _Rows:
    """Everything one process holds.

    Invariant outside the lock: an entry is in exactly one of `queued` (sorted
    from oldest to newest) and `in_flight`, `ids` names the batches of both, and
    the ledgers and byte counts agree with them.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    queued: dict[Kind, list[_Entry]] = field(default_factory=_per_kind_lists)
    in_flight: dict[str, _Entry] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    letters: dict[str, DeadLetter] = field(default_factory=dict)
    ledger: dict[Kind, Ledger] = field(default_factory=_per_kind_ledgers)
    queued_bytes: Counter[Kind] = field(default_factory=Counter)
    in_flight_bytes: int = 0
    letter_bytes: int = 0
    appended: int = 0


class MemoryQueue:
    """A delivery queue that lives as long as its process; each object is a store of its own with one owner.

    A forked child starts empty: the parent delivers what the parent accepted.
    """

    def __init__(self, options: QueueOptions, *, clock: Callable[[], float] = time.time) -> None:
        """Take the bounds and the overflow policy from `options`.

        `clock` is accepted for symmetry with stores that need the time (Unix
        seconds); the only owner of these rows has no lease that could run out.
        """
        self._options = options
        self._process: PerProcess[_Rows] = PerProcess(_Rows)

    @classmethod
    def from_url(cls, url: str, options: QueueOptions) -> MemoryQueue:
        """Make the queue of ``memory://``; any other form raises ValueError."""
        check_memory_url(url)
        return cls(options)

    def __repr__(self) -> str:
        """Name the store and its destination."""
        return f"MemoryQueue(destination={self._options.destination!r})"

    def append(self, batch: Batch) -> None:
        """Store a batch as `DeliveryQueue.append` says; memory is never unavailable."""
        self._append(batch, attempts=0)

    def _append(self, batch: Batch, attempts: int) -> None:
        rows = self._rows()
        with rows.lock:
            if batch.batch_id in rows.ids or batch.batch_id in rows.letters:
                return
            rows.ledger[batch.kind].accepted += batch.rows
            if self._make_room(rows, batch.kind, len(batch.body)):
                _insert_queued(rows, _new_entry(rows, batch, attempts))
            else:
                _drop(rows, batch, DROPPED_OVERFLOW)

    def account(self, kind: Kind, rows: int, reason: str) -> None:
        """Count rows that were accepted and dropped without becoming a batch."""
        if rows < 0:
            raise ValueError(f"rows must not be negative, got {rows}")
        if rows == 0:
            return
        held = self._rows()
        with held.lock:
            ledger = held.ledger[kind]
            ledger.accepted += rows
            ledger.dropped[reason] = ledger.dropped.get(reason, 0) + rows

    def exists(self) -> bool:
        """Whether this process has accepted rows."""
        rows = self._rows()
        with rows.lock:
            return any(ledger.accepted for ledger in rows.ledger.values())

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
        rows, now = self._rows(), STEADY.at(now)
        with rows.lock:
            queued = rows.queued[kind]
            chosen = list(_choose(queued if oldest else reversed(queued), now, max_batches, max_bytes, max_rows))
            leases = []
            for entry in chosen:
                _remove_queued(rows, entry)
                _launch(rows, entry)
                leases.append(Lease(entry.batch, entry.attempts, entry.refusals))
                entry.attempts += 1
            return leases

    def acknowledge(
        self, batch_id: str, rejected: Mapping[str, int] | None = None, letters: Sequence[DeadLetter] = ()
    ) -> bool:
        """Count a batch that is in flight as delivered, but for what `DeliveryQueue.acknowledge` takes out."""
        rows = self._rows()
        with rows.lock:
            entry = _land(rows, batch_id)
            if entry is None:
                return False
            rows.ids.discard(batch_id)
            ledger = rows.ledger[entry.batch.kind]
            ledger.delivered += delivered_rows(entry.batch.rows, rejected, letters)
            for reason, number in (rejected or {}).items():
                ledger.dropped[reason] = ledger.dropped.get(reason, 0) + number
            for letter in letters:
                self._bury(rows, letter)
            return True

    def defer(self, batch_id: str, until: float, refusals: int = 0) -> bool:
        """Put a batch that is in flight back until `until` (Unix seconds)."""
        rows = self._rows()
        with rows.lock:
            entry = _land(rows, batch_id)
            if entry is None:
                return False
            entry.due, entry.refusals = STEADY.at(until), refusals
            _insert_queued(rows, entry)
            return True

    def replace(
        self,
        batch_ids: Sequence[str],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter] = (),
        in_flight: bool = False,
    ) -> bool:
        """Exchange batches that are in flight for others and dead letters; ValueError when the rows differ."""
        rows = self._rows()
        with rows.lock:
            old = [rows.in_flight[batch_id].batch for batch_id in batch_ids if batch_id in rows.in_flight]
            if len(old) != len(batch_ids):
                return False
            check_exchange(old, batches, letters)
            leaving = {batch.batch_id for batch in old}
            for new in [*batches, *(letter.batch for letter in letters)]:
                if new.batch_id not in leaving and (new.batch_id in rows.ids or new.batch_id in rows.letters):
                    raise ValueError(
                        f"batch {new.batch_id!r} is stored already; a new batch needs a batch_id of its own"
                    )
            for batch_id in batch_ids:
                _land(rows, batch_id)
                rows.ids.discard(batch_id)
            for batch in batches:
                entry = _new_entry(rows, batch, attempts=1)
                (_launch if in_flight else _insert_queued)(rows, entry)
            for letter in letters:
                self._bury(rows, letter)
            return True

    def renew(self, now: float) -> None:
        """Do nothing: the only owner's lease never runs out."""

    def release(self) -> None:
        """Do nothing: nobody else could claim the rows."""

    def waiting(self, limit: int = 100, offset: int = 0) -> list[WaitingBatch]:
        """Return what is queued or in flight, the last stored first."""
        rows = self._rows()
        with rows.lock:
            entries = [entry for queued in rows.queued.values() for entry in queued] + list(rows.in_flight.values())
            entries.sort(key=lambda entry: entry.number, reverse=True)
            return [
                WaitingBatch(
                    batch.batch_id,
                    batch.kind,
                    batch.rows,
                    len(batch.body),
                    batch.created_at,
                    in_flight=batch.batch_id in rows.in_flight,
                    attempts=entry.attempts,
                    encrypted=batch.encrypted,
                )
                for entry in entries[offset : offset + limit]
                for batch in [entry.batch]
            ]

    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """Return dead letters, newest first."""
        rows = self._rows()
        with rows.lock:
            return _newest_first(rows)[offset : offset + limit]

    def replay(self, batch_ids: Sequence[str] | None = None) -> int:
        """Queue dead letters again, newest first, as far as the bound has room; return how many moved."""
        rows = self._rows()
        with rows.lock:
            moved = 0
            for letter in _selected(rows, batch_ids):
                if _stored_bytes(rows) + len(letter.batch.body) > self._options.max_bytes:
                    continue
                _exhume(rows, letter)
                _insert_queued(rows, _new_entry(rows, letter.batch, attempts=1))
                moved += 1
            return moved

    def purge(self, batch_ids: Sequence[str] | None = None) -> int:
        """Drop dead letters; return how many batches went."""
        rows = self._rows()
        with rows.lock:
            letters = _selected(rows, batch_ids)
            for letter in letters:
                _exhume(rows, letter)
                _drop(rows, letter.batch, DROPPED_PURGED)
            return len(letters)

    def stats(self) -> QueueStats:
        """Return one consistent reading."""
        rows = self._rows()
        with rows.lock:
            ledger: dict[Kind, Ledger] = {
                kind: Ledger(
                    book.accepted,
                    book.delivered,
                    book.queued,
                    book.in_flight,
                    book.dead_lettered,
                    dict(book.dropped),
                )
                for kind, book in rows.ledger.items()
            }
            created = [entries[0].batch.created_at for entries in rows.queued.values() if entries]
            created += [entry.batch.created_at for entry in rows.in_flight.values()]
            return QueueStats(ledger, len(rows.ids), _stored_bytes(rows), min(created, default=None))

    def close(self) -> None:
        """Do nothing: the rows stay until the process ends."""

    def adopt(self, batch: Batch) -> None:
        """Store a batch of another machine's, as `LocalQueue.adopt` says."""
        self._append(batch, attempts=1)

    def read(self, batch_ids: Sequence[str]) -> list[Batch]:
        """Return those of the batches that are stored, as `LocalQueue.read` says."""
        rows = self._rows()
        with rows.lock:
            found = (_find(rows, batch_id) for batch_id in batch_ids)
            return [entry.batch for entry in found if entry is not None]

    def holdings(self, batch_ids: Sequence[str]) -> dict[str, Holding]:
        """Say where each of the batches is, as `LocalQueue.holdings` says."""
        rows = self._rows()
        with rows.lock:
            held: dict[str, Holding] = {batch_id: "mine" for batch_id in batch_ids if batch_id in rows.ids}
            held.update({batch_id: "dead" for batch_id in batch_ids if batch_id in rows.letters})
            return held

    def finished(self, batch_ids: Sequence[str]) -> list[str]:
        """Return none: what has left the memory is not remembered."""
        return []

    def forget(self, batch_id: str) -> bool:
        """Remove a batch together with its acceptance, as `LocalQueue.forget` says."""
        rows = self._rows()
        with rows.lock:
            entry = _find(rows, batch_id)
            if entry is None:
                return False
            if _land(rows, batch_id) is None:
                _remove_queued(rows, entry)
            rows.ids.discard(batch_id)
            rows.ledger[entry.batch.kind].accepted -= entry.batch.rows
            return True

    def _rows(self) -> _Rows:
        """Return this process's rows; what a fork brought along is freed."""
        rows = self._process.get()
        self._process.forget_inherited()
        return rows

    def _make_room(self, rows: _Rows, kind: Kind, size: int) -> bool:
        """Evict what the overflow policy gives up for an incoming body; False when it has to go itself."""
        excess = _stored_bytes(rows) + size - self._options.max_bytes
        if excess <= 0:
            return True
        order = eviction_order(kind, self._options.overflow)
        if not room_can_be_made(size, excess, self._options.max_bytes, rows.queued_bytes, order):
            return False
        for victims, end in order:
            while excess > 0 and rows.queued[victims]:
                excess -= _evict(rows, victims, end)
        return True

    def _bury(self, rows: _Rows, letter: DeadLetter) -> None:
        """Keep a dead letter; the oldest make room, and one beyond the whole bound is dropped at once."""
        size, bound = len(letter.batch.body), self._options.max_dead_letter_bytes
        if size > bound:
            _drop(rows, letter.batch, DROPPED_DEAD_LETTER_OVERFLOW)
            return
        for oldest in reversed(_newest_first(rows)):
            if rows.letter_bytes + size <= bound:
                break
            _exhume(rows, oldest)
            _drop(rows, oldest.batch, DROPPED_DEAD_LETTER_OVERFLOW)
        rows.letters[letter.batch.batch_id] = letter
        rows.letter_bytes += size
        rows.ledger[letter.batch.kind].dead_lettered += letter.batch.rows


def _choose(queued: Iterable[_Entry], now: float, max_batches: int, max_bytes: int, max_rows: int) -> Iterator[_Entry]:
    """Pick what one lease hands out: the first due batch, and with it the next ones while none was attempted before."""
    count = size = rows = 0
    for entry in queued:
        if count >= max_batches:
            return
        if entry.due > now:
            continue
        size += len(entry.batch.body)
        rows += entry.batch.rows
        if count and (entry.attempts or 0 < max_bytes < size or 0 < max_rows < rows):
            return
        yield entry
        if entry.attempts:
            return
        count += 1


def _stored_bytes(rows: _Rows) -> int:
    return rows.in_flight_bytes + sum(rows.queued_bytes.values())


def _new_entry(rows: _Rows, batch: Batch, attempts: int) -> _Entry:
    """Number a batch and claim its id; the caller queues or launches it."""
    rows.appended += 1
    rows.ids.add(batch.batch_id)
    return _Entry(batch, rows.appended, attempts=attempts)


def _insert_queued(rows: _Rows, entry: _Entry) -> None:
    insort(rows.queued[entry.batch.kind], entry, key=_age_key)
    rows.queued_bytes[entry.batch.kind] += len(entry.batch.body)
    rows.ledger[entry.batch.kind].queued += entry.batch.rows


def _remove_queued(rows: _Rows, entry: _Entry) -> None:
    queued = rows.queued[entry.batch.kind]
    del queued[bisect_left(queued, entry.age_key, key=_age_key)]
    rows.queued_bytes[entry.batch.kind] -= len(entry.batch.body)
    rows.ledger[entry.batch.kind].queued -= entry.batch.rows


def _find(rows: _Rows, batch_id: str) -> _Entry | None:
    """Return a stored batch; a queued one is looked for from the newest on."""
    if batch_id not in rows.ids:
        return None
    if batch_id in rows.in_flight:
        return rows.in_flight[batch_id]
    return next(
        entry for queued in rows.queued.values() for entry in reversed(queued) if entry.batch.batch_id == batch_id
    )


def _launch(rows: _Rows, entry: _Entry) -> None:
    """Put a batch that is not queued in flight."""
    rows.in_flight[entry.batch.batch_id] = entry
    rows.in_flight_bytes += len(entry.batch.body)
    rows.ledger[entry.batch.kind].in_flight += entry.batch.rows


def _land(rows: _Rows, batch_id: str) -> _Entry | None:
    """Take a batch out of flight."""
    entry = rows.in_flight.pop(batch_id, None)
    if entry is not None:
        rows.in_flight_bytes -= len(entry.batch.body)
        rows.ledger[entry.batch.kind].in_flight -= entry.batch.rows
    return entry


def _evict(rows: _Rows, kind: Kind, end: End) -> int:
    """Drop the oldest or newest queued batch of a kind; return its bytes."""
    entry = rows.queued[kind][0 if end == "oldest" else -1]
    _remove_queued(rows, entry)
    rows.ids.discard(entry.batch.batch_id)
    _drop(rows, entry.batch, DROPPED_OVERFLOW)
    return len(entry.batch.body)


def _drop(rows: _Rows, batch: Batch, reason: str) -> None:
    dropped = rows.ledger[batch.kind].dropped
    dropped[reason] = dropped.get(reason, 0) + batch.rows


def _exhume(rows: _Rows, letter: DeadLetter) -> None:
    """Take a dead letter out of the store."""
    del rows.letters[letter.batch.batch_id]
    rows.letter_bytes -= len(letter.batch.body)
    rows.ledger[letter.batch.kind].dead_lettered -= letter.batch.rows


def _newest_first(rows: _Rows) -> list[DeadLetter]:
    """Return the dead letters by their time, among equals the one that came last first."""
    return sorted(rows.letters.values(), key=lambda letter: letter.time)[::-1]


def _selected(rows: _Rows, batch_ids: Sequence[str] | None) -> list[DeadLetter]:
    """Return the named dead letters, or all of them, newest first."""
    wanted = None if batch_ids is None else set(batch_ids)
    return [letter for letter in _newest_first(rows) if wanted is None or letter.batch.batch_id in wanted]
