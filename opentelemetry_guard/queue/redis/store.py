"""The delivery queue with a copy in Redis, shared by the machines of a fleet.

Two stores with one task each. The *local* store is the authority for what this
process has accepted: its ledger, its overflow, its dead letters, and what is
handed out next. *Redis* has a copy of every batch, which survives this
machine, and is the arbiter of who may send a batch that its producer left
behind. The application waits for Redis for a moment at most, and while either
store survives nothing is lost; losing both at once is the one loss there is.

While Redis is away batches are delivered from the local store as if there were
no Redis. If Redis comes back after our lease has run out, another machine may
have sent a batch too: such a duplicate has the same `batch_id`.

What was delivered is remembered in Redis by its `batch_id`, so that a machine
that comes back does not send it again: for a week, but the newest 100,000
batches of the fleet at most (about 10 MB). The local store remembers as many.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import cast
from uuid import uuid4

from ...settings.once import log_once
from ..base import (
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
    check_exchange,
    check_ids,
)
from ..memory import MemoryQueue
from ..process import PerProcess
from ..sqlite.store import LocalQueue, SqliteQueue
from ..url import default_queue_file
from .allowance import Allowance
from .book import Book
from .link import Caller, Link, LinkState, means_full
from .scripts import CLAIM, CONFIRM, COUNT, DONE_KEPT, FINISHED, GIVE_BACK, LIST, PUT, RELEASE, RENEW, SWAP, keys_of
from .url import RedisAddress, parse_redis_url

logger = logging.getLogger(__name__)

PATIENCE = 0.3
"""How long a caller waits for Redis, in seconds; all appends together may wait as long in every second."""
CLAIM_BATCHES = 64
"""Batches that one claim takes over at most."""
REMEMBERED_BATCHES = DONE_KEPT
"""Finished batches that the local store knows: a Redis that came back with older data offers them again."""
CHUNK = 64
"""Batch ids in one call of the housekeeping."""
STEP_SECONDS = 0.05
"""How long one step of the housekeeping keeps the courier from other calls, in seconds."""
SWEEP_SECONDS = 1.0
"""How often a full Redis has us look for copies of batches that were evicted here, in seconds."""
ASK_AGAIN_SECONDS = 0.1
"""When a batch comes up again that Redis, busy but up, did not answer about, in seconds."""


@dataclass(slots=True)
class _Claims:
    """A process's claims of one kind: the next request's word, when one last brought nothing (Unix), the last catch."""

    request: str = field(default_factory=lambda: uuid4().hex)
    since: float = float("-inf")
    catch: Sequence[str] = ()


@dataclass(slots=True)
class _Session:
    """What one process has in Redis: its consumer's name, the link, and the book of copies.

    `claims` is the sender's; the other fields belong to the courier. `renewed_at` (Unix seconds) is set by RENEW
    alone, since that is what finds an emptied Redis and starts the housekeeping; `unchecked` are stored batches that
    this machine may have delivered long ago, None before Redis was asked which there are; `present` says whether Redis
    may know this consumer at all. `swept_at` is in monotonic seconds.
    """

    link: Link
    allowance: Allowance
    consumer: str = field(default_factory=lambda: str(uuid4()))
    book: Book = field(default_factory=Book)
    claims: dict[Kind, _Claims] = field(default_factory=dict)
    present: bool = False
    renewed_at: float = float("-inf")
    outages: int = 0
    epoch: str = ""
    run: str = ""
    dropped: int = 0
    swept_at: float = float("-inf")
    tidying: Future[None] | None = None
    unchecked: list[str] | None = None


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
        keys = keys_of(options.destination)
        self._session: PerProcess[_Session] = PerProcess(
            lambda: _Session(Link(address, keys, patience), Allowance(patience))
        )

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
        session = self._session.get()
        return changed(session.link.state, refused=session.book.refused())

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
        session = self._session.get()
        if session.book.knows(batch.batch_id):
            return
        session.book.note(batch.batch_id, "missing")
        within = session.allowance.left()
        if not within:
            self._tidy_soon(session)
            return
        began = time.monotonic()
        answer = self._put(session, batch, self._clock(), within)
        session.allowance.spend(time.monotonic() - began)
        if answer is None:
            self._tidy_soon(session)

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
        session = self._session.get()
        if self._renewal_is_due(session, now):
            self._renew(session, now)
        deadline = time.monotonic() + PATIENCE
        if oldest:
            self._claim(session, kind, now, busy=True)
        claimed = False
        while True:
            exists = self._local.exists()
            found = self._local.lease(kind, now, max_batches, max_bytes, max_rows, oldest) if exists else []
            if ours := self._sendable(session, found, now):
                session.book.hold(lease.batch for lease in ours)
                return ours
            if time.monotonic() > deadline or (not found and (claimed or not self._claim(session, kind, now))):
                return []
            claimed = not found

    def acknowledge(
        self, batch_id: str, rejected: Mapping[str, int] | None = None, letters: Sequence[DeadLetter] = ()
    ) -> bool:
        """Remove a batch that is in flight and its copy, delivered but for what the protocol takes out."""
        session = self._session.get()
        # Redis first: whoever takes over after a crash in between finds it done and does not send it again.
        if session.book.let_go(batch_id):
            self._end(session, [batch_id])
            return self._local.acknowledge(batch_id, rejected, letters)
        acknowledged = self._local.acknowledge(batch_id, rejected, letters)
        if acknowledged:
            self._end(session, [batch_id])
        return acknowledged

    def defer(self, batch_id: str, until: float, refusals: int = 0) -> bool:
        """Put a batch that is in flight back until `until` (Unix seconds)."""
        self._session.get().book.let_go(batch_id)
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
        session = self._session.get()
        old = session.book.held(batch_ids)
        holdings = self._local.holdings(batch_ids)
        if old is not None and all(holdings.get(batch_id) == "mine" for batch_id in batch_ids):
            check_exchange(old, batches, letters)
            if not self._local.holdings([batch.batch_id for batch in batches]):
                # Redis first, for the reason in `acknowledge`: the new ones are there, the old ones done.
                self._swap(session, batch_ids, batches, letters)
        replaced = self._local.replace(batch_ids, batches, letters, in_flight)
        if replaced and old is None:
            self._swap(session, batch_ids, batches, letters)
        if replaced and in_flight:
            session.book.hold(batches)
        return replaced

    def renew(self, now: float) -> None:
        """Extend this owner's leases to `now` plus the lease time, and let the copies catch up in the background."""
        if self._local.exists():
            self._local.renew(now)
        self._renew(self._session.get(), now)

    def release(self) -> None:
        """Give up this owner's leases, so that others can claim what it holds at once."""
        self._release(self._patience)

    def _release(self, within: float) -> None:
        self._local.release()
        session = self._session.get()
        if not session.present:
            return
        session.present = False
        session.renewed_at = float("-inf")
        session.book.doubt()
        consumer, shift = session.consumer, _milliseconds(self._clock() - time.time())
        session.link.call(lambda redis: redis.run(RELEASE, consumer, shift, 0), within)

    def waiting(self, limit: int = 100, offset: int = 0) -> list[WaitingBatch]:
        """Return what waits on this machine, then the copies in Redis of what waits on others, as far as it answers."""
        own = self._local.waiting(limit, offset) if self._local.exists() else []
        if len(own) >= limit:
            return own
        session = self._session.get()
        answer = session.link.call(lambda redis: redis.run(LIST, *self._who(session, time.time()), limit + offset))
        copies = [_waiting(fields) for fields in cast("list[list[bytes]]", answer or [])]
        here = self._local.holdings([copy.batch_id for copy in copies]) if self._local.exists() else {}
        elsewhere = [copy for copy in copies if copy.batch_id not in here]
        before = self.stats().depth  # the batches of this machine take the first places
        first = max(0, offset - before)
        return own + elsewhere[first : first + limit - len(own)]

    def fleet(self) -> FleetStats | None:
        """Return what Redis has copies of, for the whole fleet; None where it does not answer."""
        session = self._session.get()
        answer = session.link.call(lambda redis: redis.run(COUNT, *self._who(session, time.time())))
        if answer is None:
            return None
        events, metrics, size = cast("tuple[int, int, int]", answer)
        return FleetStats({"events": events, "metrics": metrics}, size)

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
            return QueueStats({kind: Ledger() for kind in KINDS}, 0, 0, None)
        return self._local.stats()

    def close(self) -> None:
        """Release, and close what is open; all of it waits for Redis as long as one call may.

        A later call of any method opens the stores again.
        """
        session = self._session.get()
        waited = 0.0

        def timed(step: Callable[[float], object]) -> None:
            # Only the time for Redis counts: a slow disk leaves the lease to be given up all the same
            nonlocal waited
            began = time.monotonic()
            try:
                step(max(0.0, self._patience - waited))
            finally:
                waited += time.monotonic() - began

        if session.book.uncopied():
            timed(lambda left: session.link.call(lambda redis: self._tidy(redis, session), left))
        if isinstance(self._local, MemoryQueue) and (lost := session.book.uncopied()):
            logger.warning("%d batches have no copy in Redis and end with this process: they are in memory", lost)
        try:
            timed(self._release)
        finally:
            timed(session.link.close)
            self._local.close()

    # Calls to Redis. Each may be repeated, and writes its result down itself, since its caller may have gone on.

    def _who(self, session: _Session, now: float) -> tuple[str, int, int]:
        """Return the arguments that every script begins with."""
        # A caller's `now` is this machine's time, or that time shifted; Redis shifts its own by as much.
        return session.consumer, _milliseconds(now - time.time()), _milliseconds(self._options.lease_seconds)

    def _put(
        self, session: _Session, batch: Batch, now: float, within: float | None = None
    ) -> tuple[str, float] | None:
        """Add a batch to Redis unless it is there; return how it stands and the holder's lease in seconds."""
        return session.link.call(lambda redis: self._put_now(redis, session, batch, now), within)

    def _put_now(self, redis: Caller, session: _Session, batch: Batch, now: float) -> tuple[str, float]:
        session.present = True
        try:
            answer = redis.run(PUT, *self._who(session, now), self._options.max_bytes, *_arguments(batch))
        except Exception as error:
            if not means_full(error):
                raise
            standing, left = "full", 0.0
        else:
            said, left_ms, lapsed, epoch = cast("tuple[bytes, int, int, bytes]", answer)
            standing, left = _text(said), left_ms / 1000
            if lapsed:
                session.book.doubt()
            if session.epoch and session.epoch != _text(epoch):
                # Redis was emptied: the other copies are to be made again at once, not when the next renewal is due
                self._renew_now(redis, session, now)
        session.book.note(batch.batch_id, standing)
        if standing == "full":
            if time.monotonic() - session.swept_at >= SWEEP_SECONDS and self._suspect_evicted(session):
                self._tidy_soon(session)
            log_once(
                logger,
                logging.WARNING,
                f"Redis at {self._address} is full: batches are safe in the store on this machine, but newer ones have "
                "no copy in Redis until there is room; raise OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES or Redis's maxmemory",
            )
        return standing, left

    def _sendable(self, session: _Session, leases: Sequence[Lease], now: float) -> list[Lease]:
        """Return those that are ours in Redis too, or that Redis does not have; several cost one question."""
        unsure = [name for lease in leases if not session.book.is_sure(name := lease.batch.batch_id)]
        if len(unsure) < 2:
            return [lease for lease in leases if self._may_send(session, lease, now)]
        standings = session.link.call(lambda redis: self._confirm_now(redis, session, unsure, now))
        free: set[str] = set()
        if standings is not None:
            free = {name for name, standing in standings.items() if standing == "missing"}
        if free:
            self._tidy_soon(session)
        within = 0.0 if standings is None else None
        return [
            lease for lease in leases if lease.batch.batch_id in free or self._may_send(session, lease, now, within)
        ]

    def _confirm_now(self, redis: Caller, session: _Session, names: Sequence[str], now: float) -> dict[str, str]:
        """Ask how batches stand, and write it down."""
        answers = cast("list[object]", redis.run(CONFIRM, *self._who(session, now), *names))
        standings = {name: _text(answer) for name, answer in zip(names, answers, strict=True)}
        for name, standing in standings.items():
            session.book.note(name, standing)
        return standings

    def _may_send(self, session: _Session, lease: Lease, now: float, within: float | None = None) -> bool:
        """Whether a batch that the local store has handed out is ours in Redis too; puts it away if it is not."""
        batch = lease.batch
        if session.book.is_sure(batch.batch_id):
            return True
        answer = self._put(session, batch, now, within)
        if answer is None and session.link.state.up and not session.book.has_no_copy(batch.batch_id):
            # Redis is busy, not away: somebody else may hold the batch, and will be asked about soon
            self._local.defer(batch.batch_id, now + ASK_AGAIN_SECONDS, lease.refusals)
            return False
        if answer is None:
            return True
        standing, left = answer
        if standing == "done":
            self._local.forget(batch.batch_id)
        elif standing == "theirs":
            # It stays here as long as it is not delivered: whoever holds it may not outlive its lease.
            self._local.defer(batch.batch_id, now + left + 0.01, lease.refusals)
        return standing in ("mine", "full")

    def _claim(self, session: _Session, kind: Kind, now: float, busy: bool = False) -> bool:
        """Take over batches of consumers whose lease has ended; return whether the local store has got any.

        Claims that bring something may follow each other at once. One that has batches of its own to send (`busy`)
        takes no more before it has finished half of the last catch: an idle machine is quicker with the rest.
        """
        claims = session.claims.setdefault(kind, _Claims())
        if 0 <= now - claims.since < self._options.lease_seconds / 20:
            return False
        if busy and 2 * session.book.count(claims.catch) > len(claims.catch):
            return False
        request, claims.since = claims.request, now
        room = self._options.max_bytes - self.stats().bytes
        if room <= 0:
            return False
        session.present = True
        # After an outage of Redis every lease has run out, and its owner may be about to renew it
        patient = session.link.up_for() >= self._options.lease_seconds / 2
        who = self._who(session, now)
        entries = session.link.call(
            lambda redis: redis.run(CLAIM, *who, request, kind, CLAIM_BATCHES, room, int(patient))
        )
        if entries is None:
            return False
        batches = [_batch(kind, cast("list[bytes]", entry)) for entry in cast("list[object]", entries)]
        for batch in batches:
            self._local.adopt(batch)
        # Until here the same request returns the same batches, should their answer or this process's turn be lost
        claims.request, claims.catch = uuid4().hex, [batch.batch_id for batch in batches]
        if not batches:
            return False
        claims.since = float("-inf")
        return self._settle_claim(session, claims.catch)

    def _settle_claim(self, session: _Session, batch_ids: Sequence[str]) -> bool:
        holdings = self._local.holdings(batch_ids)
        for batch_id, holding in holdings.items():
            if holding == "mine":
                session.book.note(batch_id, "mine")
        if foreign := [batch_id for batch_id, holding in holdings.items() if holding == "theirs"]:
            # A process of this machine has it and will ask Redis for it
            who = self._who(session, self._clock())
            session.link.post(lambda redis: redis.run(GIVE_BACK, *who, *foreign))
        if over := [batch_id for batch_id in batch_ids if holdings.get(batch_id, "dead") == "dead"]:
            self._end(session, over, done=False)
        return "mine" in holdings.values()

    def _end(self, session: _Session, batch_ids: Sequence[str], *, done: bool = True) -> None:
        """Remove copies, now or when Redis is back."""
        session.book.end(batch_ids, done)
        session.link.call(lambda redis: self._end_now(redis, session))

    def _end_now(self, redis: Caller, session: _Session) -> bool:
        """Remove the next copies that have to go; return whether there are more."""
        done, others = session.book.ended(CHUNK)
        if not done and not others:
            return False
        who = self._who(session, self._clock())
        redis.run(SWAP, *who, 0, len(done) + len(others), len(done), *done, *others)
        session.book.gone([*done, *others])
        return len(done) + len(others) == CHUNK

    def _swap(
        self,
        session: _Session,
        batch_ids: Sequence[str],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter],
    ) -> None:
        """Exchange copies in one step; dead letters have none, and may be replayed, so they are not done."""
        buried = {letter.batch.batch_id for letter in letters}
        done = [batch_id for batch_id in batch_ids if batch_id not in buried]
        others = [batch_id for batch_id in batch_ids if batch_id in buried]
        who = self._who(session, self._clock())

        def job(redis: Caller) -> bool:
            arguments = [argument for batch in batches for argument in _arguments(batch)]
            bound = self._options.max_bytes
            answers = redis.run(SWAP, *who, bound, len(batch_ids), len(done), *done, *others, *arguments)
            session.book.gone(batch_ids)
            for batch, answer in zip(batches, cast("list[object]", answers), strict=True):
                session.book.note(batch.batch_id, _text(answer))
            return True

        session.book.end(done, True)
        session.book.end(others, False)
        for batch in batches:
            session.book.note(batch.batch_id, "missing")
        session.link.call(job)

    # Renewal and housekeeping.

    def _renewal_is_due(self, session: _Session, now: float) -> bool:
        # By the time of day, since a monotonic clock stands still while a machine sleeps; a step backwards renews too
        fresh = 0 <= now - session.renewed_at <= self._options.lease_seconds / 4
        return not fresh or session.outages != session.link.outages

    def _renew(self, session: _Session, now: float) -> None:
        session.link.call(lambda redis: self._renew_now(redis, session, now))

    def _renew_now(self, redis: Caller, session: _Session, now: float) -> bool:
        session.present = True
        outages = session.link.outages
        answer = redis.run(RENEW, *self._who(session, now), uuid4().hex)
        epoch, lapsed, run = cast("tuple[bytes, int, bytes]", answer)
        restarted, session.run = session.run != _text(run), _text(run)
        emptied = bool(session.epoch) and session.epoch != _text(epoch)
        if emptied:
            session.book.emptied()
        elif lapsed or restarted or outages != session.outages:
            # Somebody may have taken what was ours, and a Redis that came back may have forgotten the newest
            session.book.doubt()
        if emptied or restarted or outages != session.outages:
            # It may offer again what was delivered after its data was saved
            session.unchecked = None
        session.epoch, session.outages, session.renewed_at = _text(epoch), outages, now
        self._suspect_evicted(session)
        self._tidy_soon(session)
        return True

    def _suspect_evicted(self, session: _Session) -> bool:
        """Have the copies compared with the local store if that has dropped anything since the last time."""
        session.swept_at = time.monotonic()
        if not self._local.exists():
            return False
        dropped = sum(sum(ledger.dropped.values()) for ledger in self._local.stats().ledger.values())
        if dropped == session.dropped:
            return False
        session.dropped = dropped
        session.book.suspect_all()
        return True

    def _tidy_soon(self, session: _Session) -> None:
        """Have a step of the housekeeping done, unless one waits already; one that runs may have looked too early."""
        waiting = session.tidying
        if waiting is None or waiting.running() or waiting.done():
            session.tidying = session.link.post(lambda redis: self._tidy(redis, session))

    def _tidy(self, redis: Caller, session: _Session) -> None:
        """Do a step of what is to be caught up with, and have the next one done if there is more."""
        ends = time.monotonic() + STEP_SECONDS
        more = True
        while more and time.monotonic() < ends:
            more = (
                self._end_now(redis, session)
                or self._tidy_finished(redis, session)
                or self._tidy_suspects(session)
                or self._tidy_doubtful(redis, session)
                or self._tidy_missing(redis, session)
            )
        if more:
            self._tidy_soon(session)

    def _tidy_suspects(self, session: _Session) -> bool:
        """Find copies whose batch the local store has evicted."""
        if not (names := session.book.suspects(CHUNK)):
            return False
        holdings = self._local.holdings(names)
        # What was delivered since the look is not in the book any more, and not ours to judge
        gone = [name for name in names if holdings.get(name, "dead") == "dead" and session.book.knows(name)]
        session.book.end(gone, False)
        for name, holding in holdings.items():
            if holding == "theirs":
                session.book.discard(name)
        return True

    def _tidy_finished(self, redis: Caller, session: _Session) -> bool:
        """Find stored batches that this machine has delivered: nobody is to send them again."""
        if session.unchecked is None:
            found = cast("list[object]", redis.run(FINISHED, *self._who(session, self._clock())))
            session.unchecked = [_text(name) for name in found] if self._local.exists() else []
        if not session.unchecked:
            return False
        names, session.unchecked = session.unchecked[:CHUNK], session.unchecked[CHUNK:]
        session.book.end(self._local.finished(names), True)
        return True

    def _tidy_doubtful(self, redis: Caller, session: _Session) -> bool:
        """Ask Redis about copies that it may have lost or given to somebody."""
        if not (names := session.book.doubtful(CHUNK)):
            return False
        for name, standing in self._confirm_now(redis, session, names, self._clock()).items():
            if standing == "done" and session.book.held([name]) is None:
                self._local.forget(name)
        return True

    def _tidy_missing(self, redis: Caller, session: _Session) -> bool:
        """Copy a batch that has no copy; False when Redis is full or nothing is left."""
        if not (names := session.book.missing(1)):
            return False
        batches = self._local.read(names)
        if not batches:
            session.book.discard(names[0])
            return True
        standing, _ = self._put_now(redis, session, batches[0], self._clock())
        return standing != "full"


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


def _arguments(batch: Batch) -> tuple[str | int | bytes, ...]:
    return (
        batch.batch_id,
        batch.kind,
        batch.rows,
        batch.content_encoding,
        int(batch.encrypted),
        repr(float(batch.created_at)),
        batch.body,
    )


def _batch(kind: Kind, fields: list[bytes]) -> Batch:
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return Batch(
        _text(values[b"batch_id"]),
        kind,
        int(values[b"rows"]),
        values[b"body"],
        _text(values[b"encoding"]),
        values[b"encrypted"] == b"1",
        float(values[b"created_at"]),
    )


def _waiting(fields: list[bytes]) -> WaitingBatch:
    kind, batch_id, rows, size, created_at, encrypted = map(_text, fields)
    return WaitingBatch(
        batch_id,
        cast("Kind", kind),
        int(rows),
        int(size),
        float(created_at),
        encrypted=encrypted == "1",
        elsewhere=True,
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
