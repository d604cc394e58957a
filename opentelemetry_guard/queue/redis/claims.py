"""Taking over what other machines have left behind in Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast
from uuid import uuid4

from ..base import Kind, QueueOptions
from ..sqlite.local import LocalQueue
from .book import Book
from .entries import claimed_of
from .link import Link
from .scripts import CLAIM, GIVE_BACK

CLAIM_BATCHES = 64
"""Batches that one claim takes over at most."""


@dataclass(slots=True)
class _Made:
    """A process's claims of one kind: the next request's word, when one last brought nothing (Unix), the last catch.

    `pending` says that the request was made and has no answer yet: Redis may have given us batches that nobody else
    gets, and that only the same request brings again.
    """

    request: str = field(default_factory=lambda: uuid4().hex)
    pending: bool = False
    since: float = float("-inf")
    catch: Sequence[str] = ()


class End(Protocol):
    """Removes copies."""

    def __call__(self, batch_ids: Sequence[str], *, done: bool = True) -> None:
        """Remove the copies of these batches, which are remembered as done or not."""


class Claims:
    """The claims of one process.

    Attributes:
        nothing_at: when (Unix seconds) Redis last said that there is nothing to claim.
    """

    def __init__(
        self,
        link: Link,
        book: Book,
        local: LocalQueue,
        options: QueueOptions,
        who: Callable[[float], tuple[str, int, int]],
        end: End,
    ) -> None:
        """Take what claims for whom; `who` makes of a time (Unix seconds) what every script begins with."""
        self._link = link
        self._book = book
        self._local = local
        self._options = options
        self._who = who
        self._end = end
        self._made: dict[Kind, _Made] = {}
        self.nothing_at = float("-inf")

    def make(self, kind: Kind, now: float, busy: bool = False) -> bool:
        """Take over batches of consumers whose lease has ended; return whether the local store has got any.

        Claims that bring something may follow each other at once. One that has batches of its own to send (`busy`)
        takes no more before it has finished half of the last catch: an idle machine is quicker with the rest.
        """
        made = self._made.setdefault(kind, _Made())
        nothing_at = made.since if made.pending else max(made.since, self.nothing_at)
        if 0 <= now - nothing_at < self._options.lease_seconds / 20:
            return False
        if busy and 2 * self._book.count(made.catch) > len(made.catch):
            return False
        request, made.since = made.request, now
        room = self._options.max_bytes - (self._local.stats().bytes if self._local.exists() else 0)
        if room <= 0:
            return False
        made.pending = True
        who, expired = self._who(now), self.expired_count()
        entries = self._link.call(lambda redis: redis.run(CLAIM, *who, request, kind, CLAIM_BATCHES, room, expired))
        if entries is None:
            return False
        claimed = [claimed_of(kind, cast("list[bytes]", entry)) for entry in cast("list[object]", entries)]
        self._local.adopt_all(claimed)
        # Until here the same request returns the same batches, should their answer or this process's turn be lost
        made.pending = False
        made.request, made.catch = uuid4().hex, [batch.batch_id for batch, _ in claimed]
        if not claimed:
            return False
        made.since = float("-inf")
        return self._settle_claim({batch.batch_id: begun for batch, begun in claimed}, now)

    def expired_count(self) -> int:
        """Return 1 if a lease that was not renewed tells that its owner is dead, else 0."""
        # After an outage of Redis every lease has run out, and its owner may be about to renew it
        return int(self._link.up_for() >= self._options.lease_seconds / 2)

    def _settle_claim(self, begun: Mapping[str, bool], now: float) -> bool:
        batch_ids = list(begun)
        holdings = self._local.holdings(batch_ids)
        for batch_id, holding in holdings.items():
            if holding == "mine":
                self._book.took_over(batch_id, begun[batch_id])
        if foreign := [batch_id for batch_id, holding in holdings.items() if holding == "theirs"]:
            # A process of this machine has it and will ask Redis for it
            who = self._who(now)
            self._link.post(lambda redis: redis.run(GIVE_BACK, *who, *foreign))
        if over := [batch_id for batch_id in batch_ids if holdings.get(batch_id, "dead") == "dead"]:
            self._end(over, done=False)
        return "mine" in holdings.values()
