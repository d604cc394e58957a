"""The copies of one process's batches in Redis: put, confirmed, claimed, removed, and caught up with later.

Each call may be repeated, and writes its result down itself, since its caller may have gone on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import cast
from uuid import uuid4

from ...settings.once import log_once
from ..base import Batch, DeadLetter, Kind, Lease, QueueOptions, WaitingBatch
from ..sqlite.local import LocalQueue
from .allowance import Allowance
from .book import Book
from .claims import Claims
from .entries import arguments_of, milliseconds, text, waiting_of
from .link import Caller, Link, means_full
from .scripts import BEGIN, CONFIRM, COUNT, FINISHED, GIVE_BACK, LIST, PUT, RELEASE, RENEW, SWAP
from .url import RedisAddress

logger = logging.getLogger(__name__)

CHUNK = 64
"""Batch ids in one call of the housekeeping."""
STEP_SECONDS = 0.05
"""How long one step of the housekeeping keeps the courier from other calls, in seconds."""
SWEEP_SECONDS = 1.0
"""How often a full Redis has us look for copies of batches that were evicted here, in seconds."""
ASK_AGAIN_SECONDS = 0.1
"""When a batch comes up again that Redis, busy but up, did not answer about, in seconds."""


class Copies:
    """What one process has in Redis: its consumer's name, the link, and the book of copies.

    `_claims` are the sender's; the other fields belong to the courier. `renewed_at` (Unix seconds) is set by RENEW
    alone, since that is what finds an emptied Redis and starts the housekeeping; `_unchecked` are stored batches that
    this machine may have delivered long ago, None before Redis was asked which there are; `_present` says whether Redis
    may know this consumer at all. `_swept_at` is in monotonic seconds.
    """

    def __init__(
        self,
        address: RedisAddress,
        keys: Sequence[str],
        options: QueueOptions,
        local: LocalQueue,
        clock: Callable[[], float],
        patience: float,
    ) -> None:
        """Begin with a consumer that Redis does not know; see `RedisQueue` for what is taken."""
        self.link = Link(address, keys, patience)
        self.allowance = Allowance(patience)
        self.book = Book()
        self._address = address
        self._options = options
        self._local = local
        self._clock = clock
        self.consumer = str(uuid4())
        self._claims = Claims(self.link, self.book, local, options, self.who, self.end)
        self._present = False
        self.renewed_at = float("-inf")
        self._outages = 0
        self._epoch = ""
        self._run = ""
        self._dropped = 0
        self._swept_at = float("-inf")
        self.tidying: Future[None] | None = None
        self._unchecked: list[str] | None = None

    def who(self, now: float) -> tuple[str, int, int]:
        """Return the arguments that every script begins with."""
        # A caller's `now` is this machine's time, or that time shifted; Redis shifts its own by as much.
        return self.consumer, milliseconds(now - time.time()), milliseconds(self._options.lease_seconds)

    def put(self, batch: Batch, now: float, within: float | None = None) -> tuple[str, float] | None:
        """Add a batch to Redis unless it is there; return how it stands and the holder's lease in seconds."""
        return self.link.call(lambda redis: self._put_now(redis, batch, now), within)

    def _put_now(self, redis: Caller, batch: Batch, now: float) -> tuple[str, float]:
        self._present = True
        try:
            begun = int(not self.book.waits(batch.batch_id))
            answer = redis.run(PUT, *self.who(now), self._options.max_bytes, begun, *arguments_of(batch))
        except Exception as error:
            if not means_full(error):
                raise
            standing, left = "full", 0.0
        else:
            said, left_ms, lapsed, epoch = cast("tuple[bytes, int, int, bytes]", answer)
            standing, left = text(said), left_ms / 1000
            if lapsed:
                self.book.doubt()
            if self._epoch and self._epoch != text(epoch):
                # Redis was emptied: the other copies are to be made again at once, not when the next renewal is due
                self._renew_now(redis, now)
        self.book.note(batch.batch_id, standing)
        if standing == "full":
            if time.monotonic() - self._swept_at >= SWEEP_SECONDS and self._suspect_evicted():
                self.tidy_soon()
            log_once(
                logger,
                logging.WARNING,
                f"Redis at {self._address} is full: batches are safe in the store on this machine, but newer ones have "
                "no copy in Redis until there is room; raise OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES or Redis's maxmemory",
            )
        return standing, left

    def sendable(self, leases: Sequence[Lease], now: float) -> list[Lease]:
        """Return those that are ours in Redis too, or that Redis does not have; several cost one question."""
        unsure = [name for lease in leases if not self.book.is_sure(name := lease.batch.batch_id)]
        if len(unsure) < 2:
            return [lease for lease in leases if self._may_send(lease, now)]
        standings = self.link.call(lambda redis: self._confirm_now(redis, unsure, now))
        free: set[str] = set()
        if standings is not None:
            free = {name for name, standing in standings.items() if standing == "missing"}
        if free:
            self.tidy_soon()
        within = 0.0 if standings is None else None
        return [lease for lease in leases if lease.batch.batch_id in free or self._may_send(lease, now, within)]

    def _confirm_now(self, redis: Caller, names: Sequence[str], now: float) -> dict[str, str]:
        """Ask how batches stand, and write it down."""
        answers = cast("list[object]", redis.run(CONFIRM, *self.who(now), *names))
        standings = {name: text(answer) for name, answer in zip(names, answers, strict=True)}
        for name, standing in standings.items():
            self.book.note(name, standing)
        return standings

    def _may_send(self, lease: Lease, now: float, within: float | None = None) -> bool:
        """Whether a batch that the local store has handed out is ours in Redis too; puts it away if it is not."""
        batch = lease.batch
        if self.book.is_sure(batch.batch_id):
            return True
        answer = self.put(batch, now, within)
        if answer is None and self.link.state.up and not self.book.has_no_copy(batch.batch_id):
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

    def begin(self, batch_ids: Sequence[str], now: float) -> None:
        """Say in Redis that the delivery of batches begins, of those that have waited so far."""
        if not (names := self.book.begin(batch_ids)):
            return
        who = self.who(now)

        def job(redis: Caller) -> bool:
            redis.run(BEGIN, *who, *names)
            return True

        if self.link.call(job) is None:
            self.link.post(job)

    def claim(self, kind: Kind, now: float, busy: bool = False) -> bool:
        """Take over batches of consumers whose lease has ended; return whether the local store has got any."""
        self._present = True
        return self._claims.make(kind, now, busy)

    def end(self, batch_ids: Sequence[str], *, done: bool = True) -> None:
        """Remove copies, now or when Redis is back."""
        self.book.end(batch_ids, done)
        self.link.call(lambda redis: self._end_now(redis))

    def _end_now(self, redis: Caller) -> bool:
        """Remove the next copies that have to go; return whether there are more."""
        done, others = self.book.ended(CHUNK)
        if not done and not others:
            return False
        who = self.who(self._clock())
        redis.run(SWAP, *who, 0, len(done) + len(others), len(done), *done, *others)
        self.book.gone([*done, *others])
        return len(done) + len(others) == CHUNK

    def swap(
        self,
        batch_ids: Sequence[str],
        batches: Sequence[Batch],
        letters: Sequence[DeadLetter],
    ) -> None:
        """Exchange copies in one step; dead letters have none, and may be replayed, so they are not done."""
        buried = {letter.batch.batch_id for letter in letters}
        done = [batch_id for batch_id in batch_ids if batch_id not in buried]
        others = [batch_id for batch_id in batch_ids if batch_id in buried]
        who = self.who(self._clock())

        def job(redis: Caller) -> bool:
            arguments = [argument for batch in batches for argument in arguments_of(batch)]
            bound = self._options.max_bytes
            answers = redis.run(SWAP, *who, bound, len(batch_ids), len(done), *done, *others, *arguments)
            self.book.gone(batch_ids)
            for batch, answer in zip(batches, cast("list[object]", answers), strict=True):
                self.book.note(batch.batch_id, text(answer))
            return True

        successors = [batch.batch_id for batch in batches]
        for name in successors:
            self.book.note(name, "missing")
        self.book.end(done, True, successors)
        self.book.end(others, False, successors)
        self.link.call(job)

    def listed(self, most: int) -> list[WaitingBatch]:
        """Return the newest copies of the whole fleet, as far as Redis answers."""
        answer = self.link.call(lambda redis: redis.run(LIST, *self.who(time.time()), most))
        return [waiting_of(fields) for fields in cast("list[list[bytes]]", answer or [])]

    def counts(self) -> list[int] | None:
        """Return the bytes of the copies, and how many there are of each kind; None where Redis does not answer."""
        answer = self.link.call(lambda redis: redis.run(COUNT, *self.who(time.time())))
        return cast("list[int] | None", answer)

    def release(self, within: float) -> None:
        """Give up this consumer's lease."""
        if not self._present:
            return
        self._present = False
        self.renewed_at = float("-inf")
        self.book.doubt()
        consumer, shift = self.consumer, milliseconds(self._clock() - time.time())
        self.link.call(lambda redis: redis.run(RELEASE, consumer, shift, 0), within)

    def catch_up(self, within: float) -> None:
        """Have a step of the housekeeping done, and wait for it."""
        self.link.call(self._tidy, within)

    def renewal_is_due(self, now: float) -> bool:
        """Whether the lease is to be extended, or may have run out while Redis was away."""
        # By the time of day, since a monotonic clock stands still while a machine sleeps; a step backwards renews too
        fresh = 0 <= now - self.renewed_at <= self._options.lease_seconds / 4
        return not fresh or self._outages != self.link.outages

    def renew(self, now: float) -> None:
        """Extend this consumer's lease, and have the copies catch up."""
        self.link.call(lambda redis: self._renew_now(redis, now))

    def _renew_now(self, redis: Caller, now: float) -> bool:
        self._present = True
        outages = self.link.outages
        answer = redis.run(RENEW, *self.who(now), uuid4().hex, self._claims.expired_count())
        epoch, lapsed, run, offers, held = cast("tuple[bytes, int, bytes, int, list[bytes]]", answer)
        if not offers:
            self._claims.nothing_at = now
        restarted, self._run = self._run != text(run), text(run)
        emptied = bool(self._epoch) and self._epoch != text(epoch)
        if emptied:
            self.book.emptied()
        elif lapsed or restarted or outages != self._outages:
            # Somebody may have taken what was ours, and a Redis that came back may have forgotten the newest
            self.book.doubt()
        if emptied or restarted or outages != self._outages:
            # It may offer again what was delivered after its data was saved
            self._unchecked = None
        self._epoch, self._outages, self.renewed_at = text(epoch), outages, now
        self._suspect_evicted()
        self._give_back_unknown(redis, [text(name) for name in held], now)
        self.tidy_soon()
        return True

    def _give_back_unknown(self, redis: Caller, held: Sequence[str], now: float) -> None:
        """Let go of batches that Redis says we have held for long and that are not here: nobody else would get them.

        A fail-over brings back what a script has moved last. What was delivered here is done; the rest is for whoever
        claims it, also this process.
        """
        unknown = [name for name in held if not self.book.knows(name)]
        if not unknown or not self._local.exists():
            return
        holdings = self._local.holdings(unknown)
        finished = self._local.finished(unknown)
        self.book.end(finished, True)
        self.book.end([name for name, holding in holdings.items() if holding == "dead"], False)
        if strangers := [name for name in unknown if holdings.get(name, "theirs") == "theirs" and name not in finished]:
            redis.run(GIVE_BACK, *self.who(now), *strangers)

    def _suspect_evicted(self) -> bool:
        """Have the copies compared with the local store if that has dropped anything since the last time."""
        self._swept_at = time.monotonic()
        if not self._local.exists():
            return False
        dropped = sum(sum(ledger.dropped.values()) for ledger in self._local.stats().ledger.values())
        if dropped == self._dropped:
            return False
        self._dropped = dropped
        self.book.suspect_all()
        return True

    def tidy_soon(self) -> None:
        """Have a step of the housekeeping done, unless one waits already; one that runs may have looked too early."""
        waiting = self.tidying
        if waiting is None or waiting.running() or waiting.done():
            self.tidying = self.link.post(lambda redis: self._tidy(redis))

    def _tidy(self, redis: Caller) -> None:
        """Do a step of what is to be caught up with, and have the next one done if there is more."""
        ends = time.monotonic() + STEP_SECONDS
        more = True
        while more and time.monotonic() < ends:
            more = (
                self._end_now(redis)
                or self._tidy_finished(redis)
                or self._tidy_suspects()
                or self._tidy_doubtful(redis)
                or self._tidy_missing(redis)
            )
        if more:
            self.tidy_soon()

    def _tidy_suspects(self) -> bool:
        """Find copies whose batch the local store has evicted."""
        if not (names := self.book.suspects(CHUNK)):
            return False
        holdings = self._local.holdings(names)
        # What was delivered since the look is not in the book any more, and not ours to judge
        gone = [name for name in names if holdings.get(name, "dead") == "dead" and self.book.knows(name)]
        self.book.end(gone, False)
        for name, holding in holdings.items():
            if holding == "theirs":
                self.book.discard(name)
        return True

    def _tidy_finished(self, redis: Caller) -> bool:
        """Find stored batches that this machine has delivered: nobody is to send them again."""
        if self._unchecked is None:
            found = cast("list[object]", redis.run(FINISHED, *self.who(self._clock())))
            self._unchecked = [text(name) for name in found] if self._local.exists() else []
        if not self._unchecked:
            return False
        names, self._unchecked = self._unchecked[:CHUNK], self._unchecked[CHUNK:]
        self.book.end(self._local.finished(names), True)
        return True

    def _tidy_doubtful(self, redis: Caller) -> bool:
        """Ask Redis about copies that it may have lost or given to somebody."""
        if not (names := self.book.doubtful(CHUNK)):
            return False
        for name, standing in self._confirm_now(redis, names, self._clock()).items():
            if standing == "done" and self.book.held([name]) is None:
                self._local.forget(name)
        return True

    def _tidy_missing(self, redis: Caller) -> bool:
        """Copy a batch that has no copy; False when Redis is full or nothing is left."""
        if not (names := self.book.missing(1)):
            return False
        batches = self._local.read(names)
        if not batches:
            self.book.discard(names[0])
            return True
        standing, _ = self._put_now(redis, batches[0], self._clock())
        return standing != "full"
