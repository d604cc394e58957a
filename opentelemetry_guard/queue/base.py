"""The protocol of a delivery queue, and the values that cross it.

A queue holds batches that were accepted and not yet delivered. It is written
ahead: a batch is in the queue before anybody tries to send it, and retry,
restart, crash, hand-over and shutdown are all "a batch that is still in the
queue".

A batch is always in exactly one state: *queued* (waiting), *in flight* (a
sender has it), *dead-lettered*, or gone as *delivered* or *dropped* for a
reason. The ledger counts rows by state and changes in the transaction that
moves the batch, so that at any moment, for every kind of row::

    accepted == delivered + queued + in_flight + dead_lettered + sum(dropped.values())

Ownership: every queue object is one *owner* with a heartbeat, its lease. A
batch belongs to the owner that appended it; while that owner's lease is
valid nobody else may touch it. When the lease has run out (the process was
killed) or was given up (`release`), any other owner of the same store may
claim the owner's batches. One row is renewed for a whole owner, so that the
cost of a heartbeat does not grow with the depth of the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

Kind: TypeAlias = str
"""What rows are, by name. A store knows nothing else of them."""
KINDS: tuple[Kind, ...] = ("events", "metrics")
"""Guard's kinds of row, in the order in which they are sent; the reverse is the order in which they are dropped."""

Overflow = Literal["drop_oldest", "drop_newest"]
"""What goes when a queue is full. Either way the last kind goes first: metrics before events."""

DROPPED_OVERFLOW = "queue_overflow"
"""Reason of rows that were dropped because the queue reached its bound."""
DROPPED_DEAD_LETTER_OVERFLOW = "dead_letter_overflow"
"""Reason of dead letters that made room for newer ones."""
DROPPED_PURGED = "purged"
"""Reason of dead letters that somebody purged."""
DROPPED_STORE_REMOVED = "store_removed"
"""Reason of rows whose store somebody removed or replaced while they were in it."""
DROPPED_CORRUPT = "corrupt"
"""Reason of batches whose stored bytes no longer match their checksum."""
DROPPED_TIMESTAMP = "invalid_timestamp"
"""Reason of events that the backend has dropped for their timestamps, where it can't be told which ones they are."""
DROPPED_REJECTED = "rejected_by_backend"
"""Reason of rows that the backend says it has not processed, without saying which and why."""


class QueueUnavailable(Exception):
    """The store cannot do its work now: it is locked, full, damaged or unreachable. The text names why."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one request, encoded once; a retry sends the same bytes.

    `body` is what goes on the wire (after compression or encryption),
    `content_encoding` is ``""`` or ``"gzip"``, `created_at` is in Unix seconds.
    """

    batch_id: str
    kind: Kind
    rows: int
    body: bytes
    content_encoding: str = ""
    encrypted: bool = False
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A batch that was handed out for delivery.

    `attempts` counts the deliveries that were begun before this one;
    `refusals` the partial failures the backend has answered with so far.
    """

    batch: Batch
    attempts: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A batch that the backend refused for good, with its answer's `status`, bounded `reason` and Unix `time`."""

    batch: Batch
    status: int
    reason: str
    time: float


@dataclass(frozen=True, slots=True)
class WaitingBatch:
    """A batch that is not delivered yet, without its body, for people to look at.

    `size` is the body's bytes, `created_at` is in Unix seconds, `attempts`
    counts the deliveries that were begun. `elsewhere` tells that another
    machine of the fleet has it; its state and attempts are not known then.
    """

    batch_id: str
    kind: Kind
    rows: int
    size: int
    created_at: float
    in_flight: bool = False
    attempts: int = 0
    encrypted: bool = False
    elsewhere: bool = False


@dataclass(slots=True)
class Ledger:
    """Where the rows of one kind are. All figures count rows."""

    accepted: int = 0
    delivered: int = 0
    queued: int = 0
    in_flight: int = 0
    dead_lettered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether every accepted row is accounted for."""
        known = self.delivered + self.queued + self.in_flight + self.dead_lettered + sum(self.dropped.values())
        return self.accepted == known


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One consistent reading of a queue.

    `depth` and `bytes` count the batches that are queued or in flight;
    `oldest` is the creation time of the oldest of them in Unix seconds;
    `set_aside` counts the damaged files that the store has put away, rows and
    all, since its own counts were begun.
    """

    ledger: Mapping[Kind, Ledger]
    depth: int
    bytes: int
    oldest: float | None
    set_aside: int = 0


@runtime_checkable
class DeliveryQueue(Protocol):
    """A store of batches that were accepted and are not delivered yet.

    Every method is safe to call from any thread, returns within about half a
    second (it raises `QueueUnavailable` rather than waiting longer), and moves
    a batch wholly or not at all: with its rows in the ledger, in one
    transaction. A method that moves a batch which this owner no longer holds
    (its lease ran out and somebody else
    claimed it) changes nothing and returns False.

    .. versionadded:: 1.0
    """

    def append(self, batch: Batch) -> None:
        """Store a new batch, owned by this queue object, as queued; its rows are accepted.

        A `batch_id` that is stored already is not stored again. When the bound
        is passed, batches are dropped by the overflow policy and counted; a
        batch that is in flight is never dropped. A batch larger than the whole
        bound is accepted and dropped at once.

        Raises:
            QueueUnavailable: nothing was stored and nothing counted.
        """
        ...

    def account(self, kind: Kind, rows: int, reason: str) -> None:
        """Count rows that were accepted and dropped for `reason` without ever becoming a batch."""
        ...

    def exists(self) -> bool:
        """Whether there may be something in the store: False before the first row ever. It creates nothing."""
        ...

    def lease(
        self,
        kind: Kind,
        now: float,
        max_batches: int = 1,
        max_bytes: int = 0,
        max_rows: int = 0,
        oldest: bool = False,
    ) -> list[Lease]:
        """Hand out the next batches of `kind` for delivery; they are in flight from now on.

        Newest first, so that fresh batches are not kept waiting by a backlog;
        with `oldest` the other way round, so that under steady traffic the
        backlog has its turns too.
        Batches deferred beyond `now` are passed over. One whose delivery was
        begun before comes alone; several that were never attempted may come
        together, up to `max_batches` of them, `max_bytes` of bodies and
        `max_rows` rows (the first one always fits; 0 is no bound), for the caller to merge.
        Each is marked as attempted in the same transaction. When this owner
        has nothing that is due, and with `oldest` in any case, batches of
        owners whose lease has run out are claimed first; a claim ends a
        deferral. The call renews this owner's lease.
        """
        ...

    def acknowledge(
        self, batch_id: str, rejected: Mapping[str, int] | None = None, letters: Sequence[DeadLetter] = ()
    ) -> bool:
        """Remove a batch that is in flight; its rows are delivered, but for those that the backend has not kept.

        `rejected` says how many of them are dropped for which reason;
        `letters` have further ones of its rows, under a `batch_id` of their own.
        """
        ...

    def defer(self, batch_id: str, until: float, refusals: int = 0) -> bool:
        """Put a batch that is in flight back; it is handed out again after `until` (Unix seconds).

        `refusals` is recorded as the batch's count of partial failures so far.
        """
        ...

    def replace(
        self,
        batch_ids: Sequence[str],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter] = (),
        in_flight: bool = False,
    ) -> bool:
        """Put new batches and dead letters in the place of batches that are in flight (merge, split, dead-letter).

        The new ones are owned by this queue object and count as attempted
        once, so that each comes alone: halves are not merged again. They are
        queued, or with `in_flight` stay handed out, for the caller to send
        them at once. The rows of both sides must be equal in number.
        """
        ...

    def renew(self, now: float) -> None:
        """Extend this owner's lease to `now` plus the lease time."""
        ...

    def release(self) -> None:
        """Give up this owner's lease: what it holds can be claimed at once. A later `append` or `lease` takes it up."""
        ...

    def waiting(self, limit: int = 100, offset: int = 0) -> list[WaitingBatch]:
        """Return what is queued or in flight, of every owner, the last stored first; nothing changes."""
        ...

    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """Return dead letters, newest first."""
        ...

    def replay(self, batch_ids: Sequence[str] | None = None) -> int:
        """Queue dead letters again (all of them for None), unowned; return how many batches moved.

        They count as attempted, so that each keeps its `batch_id`. Newest
        first, and nothing is evicted for them: those that do not fit within
        the bound stay dead letters.
        """
        ...

    def purge(self, batch_ids: Sequence[str] | None = None) -> int:
        """Drop dead letters (all of them for None), counted as `purged`; return how many batches went."""
        ...

    def stats(self) -> QueueStats:
        """Return one consistent reading of the ledger and the depth, for the store as a whole."""
        ...

    def close(self) -> None:
        """Release, and close what is open. A later call of any method opens the store again."""
        ...


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What a store is built with.

    `destination` is the hash that file names and keys derive from;
    `max_bytes` bounds the bodies of batches that are queued or in flight,
    `max_dead_letter_bytes` those of dead letters; `lease_seconds` is longer
    than a request's total timeout; `kinds` are those of its rows, in the
    order in which they are sent.

    .. versionadded:: 1.0
    """

    destination: str
    max_bytes: int = 64 * 1024 * 1024
    max_dead_letter_bytes: int = 8 * 1024 * 1024
    lease_seconds: float = 20.0
    overflow: Overflow = "drop_oldest"
    kinds: tuple[Kind, ...] = KINDS


def check_exchange(old: Sequence[Batch], batches: Sequence[Batch], letters: Sequence[DeadLetter]) -> None:
    """Raise ValueError unless both sides have the same rows of each kind and no batch_id appears twice on one side."""
    new = [*batches, *(letter.batch for letter in letters)]
    check_ids([batch.batch_id for batch in old])
    check_ids([batch.batch_id for batch in new])
    before, after = _rows_by_kind(old), _rows_by_kind(new)
    if before != after:
        raise ValueError(f"a replacement keeps the number of rows: {dict(before)} would become {dict(after)}")


def check_ids(batch_ids: Sequence[str]) -> None:
    """Raise ValueError when a batch_id is named twice."""
    for batch_id, count in Counter(batch_ids).items():
        if count > 1:
            raise ValueError(f"batch {batch_id!r} is named {count} times in one replacement; name it once")


def _rows_by_kind(batches: Sequence[Batch]) -> Counter[Kind]:
    rows: Counter[Kind] = Counter()
    for batch in batches:
        rows[batch.kind] += batch.rows
    return rows
