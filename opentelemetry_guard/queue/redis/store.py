"""The delivery queue with a copy in Redis: what callers see of the two stores (see the package)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

from ...settings.once import log_once
from ..base import (
    Batch,
    DeadLetter,
    Kind,
    Lease,
    Ledger,
    QueueOptions,
    QueueStats,
    QueueUnavailable,
    WaitingBatch,
    check_exchange,
    check_ids,
)
from ..memory import MemoryQueue
from ..process import PerProcess
from ..sqlite.local import LocalQueue
from ..sqlite.path import default_queue_file
from ..sqlite.store import SqliteQueue
from .copies import Copies
from .entries import keys_of
from .link import LinkState
from .scripts import DONE_KEPT
from .url import RedisAddress, parse_redis_url

logger = logging.getLogger(__name__)

PATIENCE = 0.3
"""How long a caller waits for Redis, in seconds; all appends together may wait as long in every second."""
REMEMBERED_BATCHES = DONE_KEPT
"""Finished batches that the local store knows: a Redis that came back with older data offers them again."""


@dataclass(frozen=True, slots=True)
class FleetStats:
    """The copies in Redis: batches by kind, and the bytes of their bodies."""

    batches: Mapping[Kind, int]
    bytes: int


class RedisQueue:
    """A delivery queue that writes ahead to a local store, with a copy of each batch in Redis.

    Each process is one consumer; a forked child is another, with connections of its own.
    """

    def __init__(
        self,
        address: RedisAddress,
        options: QueueOptions,
        local: LocalQueue,
        *,
        clock: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        """Make a queue; nothing is opened before the first call.

        Args:
            address: where Redis is.
            options: `max_bytes` bounds the local store, and for the whole fleet the copies in Redis: beyond it a batch
                has no copy until there is room. `lease_seconds` counts by Redis's clock there.
            local: the store on this machine, made with the same options.
            clock: the time in Unix seconds that `append` goes by, the same as the local store's.
            patience: how long a caller waits for Redis, in seconds.
        """
        self._address = address
        self._options = options
        self._local = local
        self._clock = clock
        self._patience = patience
        keys = keys_of(options.destination, options.kinds)
        self._copies: PerProcess[Copies] = PerProcess(lambda: Copies(address, keys, options, local, clock, patience))

    @classmethod
    def from_url(cls, url: str, options: QueueOptions) -> RedisQueue:
        """Make the queue of a ``redis://``, ``rediss://``, ``redis+sentinel://`` or ``redis+cluster://`` URL.

        The local store is the SQLite file in the user's state directory that
        is the default store too, or memory where there is no home directory.

        Raises:
            ValueError: the URL is malformed.
        """
        return cls(parse_redis_url(url), options, _default_local(options))

    def __repr__(self) -> str:
        """Name the servers and the local store, without credentials."""
        return f"RedisQueue({str(self._address)!r}, local={self._local!r})"

    @property
    def link(self) -> LinkState:
        """Whether Redis can be used now, the last error without credentials, and how many copies it refused."""
        copies = self._copies.get()
        return changed(copies.link.state, refused=copies.book.refused())

    @property
    def local(self) -> LocalQueue:
        """The store on this machine."""
        return self._local

    def append(self, batch: Batch) -> None:
        """Store a batch as `DeliveryQueue.append` says, and copy it to Redis if that answers soon."""
        self._local.append(batch)
        # A batch that is stored in another state, or was dropped at once, gets no copy
        if self._local.holdings([batch.batch_id]).get(batch.batch_id) != "mine":
            return
        copies = self._copies.get()
        if copies.book.knows(batch.batch_id):
            return
        copies.book.expect(batch.batch_id)
        within = copies.allowance.left()
        if not within:
            copies.tidy_soon()
            return
        began = time.monotonic()
        answer = copies.put(batch, self._clock(), within)
        copies.allowance.spend(time.monotonic() - began)
        if answer is None:
            copies.tidy_soon()

    def account(self, kind: Kind, rows: int, reason: str) -> None:
        """Count rows that were accepted and dropped without becoming a batch."""
        self._local.account(kind, rows, reason)

    def exists(self) -> bool:
        """Return True: Redis may hold what another machine has left behind."""
        return True

    def lease(
        self,
        kind: Kind,
        now: float,
        max_batches: int = 1,
        max_bytes: int = 0,
        max_rows: int = 0,
        oldest: bool = False,
    ) -> list[Lease]:
        """Hand out the next due batches of `kind` as `DeliveryQueue.lease` says.

        What this process has not added itself is handed out only after Redis
        agrees. When nothing is due here, and with `oldest` in any case,
        batches that other machines left behind are claimed from Redis.
        """
        copies = self._copies.get()
        if copies.renewal_is_due(now):
            copies.renew(now)
        deadline = time.monotonic() + PATIENCE
        if oldest:
            copies.claim(kind, now, busy=True)
        claimed = False
        while True:
            exists = self._local.exists()
            found = self._local.lease(kind, now, max_batches, max_bytes, max_rows, oldest) if exists else []
            if ours := copies.sendable(found, now):
                copies.book.hold(lease.batch for lease in ours)
                copies.begin([lease.batch.batch_id for lease in ours], now)
                return ours
            if time.monotonic() > deadline or (not found and (claimed or not copies.claim(kind, now))):
                return []
            claimed = not found

    def acknowledge(
        self, batch_id: str, rejected: Mapping[str, int] | None = None, letters: Sequence[DeadLetter] = ()
    ) -> bool:
        """Remove a batch that is in flight and its copy, delivered but for what the protocol takes out."""
        copies = self._copies.get()
        # Redis first: whoever takes over after a crash in between finds it done and does not send it again.
        if copies.book.let_go(batch_id):
            copies.end([batch_id])
            return self._local.acknowledge(batch_id, rejected, letters)
        acknowledged = self._local.acknowledge(batch_id, rejected, letters)
        if acknowledged:
            copies.end([batch_id])
        return acknowledged

    def defer(self, batch_id: str, until: float, refusals: int = 0) -> bool:
        """Put a batch that is in flight back until `until` (Unix seconds)."""
        self._copies.get().book.let_go(batch_id)
        return self._local.defer(batch_id, until, refusals)

    def replace(
        self,
        batch_ids: Sequence[str],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter] = (),
        in_flight: bool = False,
    ) -> bool:
        """Exchange batches that are in flight for others and dead letters; ValueError when the rows differ."""
        check_ids(batch_ids)
        copies = self._copies.get()
        old = copies.book.held(batch_ids)
        holdings = self._local.holdings(batch_ids)
        if old is not None and all(holdings.get(batch_id) == "mine" for batch_id in batch_ids):
            check_exchange(old, batches, letters)
            if not self._local.holdings([batch.batch_id for batch in batches]):
                # Redis first, for the reason in `acknowledge`: the new ones are there, the old ones done.
                copies.swap(batch_ids, batches, letters)
        replaced = self._local.replace(batch_ids, batches, letters, in_flight)
        if replaced and old is None:
            copies.swap(batch_ids, batches, letters)
        if replaced and in_flight:
            copies.book.hold(batches)
        return replaced

    def renew(self, now: float) -> None:
        """Extend this owner's leases to `now` plus the lease time, and let the copies catch up in the background."""
        if self._local.exists():
            self._local.renew(now)
        self._copies.get().renew(now)

    def release(self) -> None:
        """Give up this owner's leases, so that others can claim what it holds at once."""
        self._release(self._patience)

    def _release(self, within: float) -> None:
        self._local.release()
        self._copies.get().release(within)

    def waiting(self, limit: int = 100, offset: int = 0) -> list[WaitingBatch]:
        """Return what waits on this machine, then the copies in Redis of what waits on others, as far as it answers."""
        own = self._local.waiting(limit, offset) if self._local.exists() else []
        if len(own) >= limit:
            return own
        copies = self._copies.get().listed(limit + offset)
        here = self._local.holdings([copy.batch_id for copy in copies]) if self._local.exists() else {}
        elsewhere = [copy for copy in copies if copy.batch_id not in here]
        before = self.stats().depth  # the batches of this machine take the first places
        first = max(0, offset - before)
        return own + elsewhere[first : first + limit - len(own)]

    def fleet(self) -> FleetStats | None:
        """Return what Redis has copies of, for the whole fleet; None where it does not answer."""
        counts = self._copies.get().counts()
        return (
            None if counts is None else FleetStats(dict(zip(self._options.kinds, counts[1:], strict=True)), counts[0])
        )

    def dead_letters(self, limit: int = 100, offset: int = 0) -> list[DeadLetter]:
        """Return dead letters, newest first: those of this machine."""
        return self._local.dead_letters(limit, offset)

    def replay(self, batch_ids: Sequence[str] | None = None) -> int:
        """Queue dead letters again, newest first, as far as the bound has room; return how many moved."""
        return self._local.replay(batch_ids)

    def purge(self, batch_ids: Sequence[str] | None = None) -> int:
        """Drop dead letters; return how many batches went."""
        return self._local.purge(batch_ids)

    def stats(self) -> QueueStats:
        """Return one consistent reading of this machine's ledger and depth."""
        if not self._local.exists():
            return QueueStats({kind: Ledger() for kind in self._options.kinds}, 0, 0, None)
        return self._local.stats()

    def close(self) -> None:
        """Release, and close what is open; all of it waits for Redis as long as one call may.

        A later call of any method opens the stores again.
        """
        copies = self._copies.get()
        waited = 0.0

        def timed(step: Callable[[float], object]) -> None:
            # Only the time for Redis counts: a slow disk leaves the lease to be given up all the same
            nonlocal waited
            began = time.monotonic()
            try:
                step(max(0.0, self._patience - waited))
            finally:
                waited += time.monotonic() - began

        if copies.book.uncopied():
            timed(copies.catch_up)
        if isinstance(self._local, MemoryQueue) and (lost := copies.book.uncopied()):
            logger.warning("%d batches have no copy in Redis and end with this process: they are in memory", lost)
        try:
            timed(self._release)
        finally:
            timed(copies.link.close)
            self._local.close()


def _default_local(options: QueueOptions) -> LocalQueue:
    """Return the default store of this machine."""
    try:
        path = default_queue_file(options.destination)
    except QueueUnavailable:
        log_once(
            logger,
            logging.WARNING,
            "there is no home directory for the store that Redis is a copy of: batches wait in memory, and only Redis "
            "outlives the process; set XDG_STATE_HOME to an absolute path",
        )
        return MemoryQueue(options)
    return SqliteQueue(path, options, remembers=REMEMBERED_BATCHES, private_directory=True)
