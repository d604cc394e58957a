"""One queue as the sender sees it: its failures stay its own, and every batch taken from it is given back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..queue.base import Batch, DeadLetter, DeliveryQueue, Kind, Lease

_logger = logging.getLogger(__name__)

T = TypeVar("T")

MERGE_BATCHES = 64
"""Backlog batches that are merged into one request at most."""
MERGE_BYTES = 256 * 1024
"""Bytes of compressed bodies that are merged into one request at most."""
MERGE_ROWS = 1_000
"""Rows that are merged into one request at most."""


class Source:
    """A queue that the sender takes batches from. Only the thread that sends uses it; no method raises.

    A store that fails must not keep another from being emptied. And where it
    fails at the moment when an answer came, the batch would stay in flight as
    long as its owner lives: a move that failed is owed, and made before
    anything else is leased.
    """

    def __init__(self, queue: DeliveryQueue, whose: str = "Guard") -> None:
        """Take a queue, and what its backend is called in messages."""
        self._queue = queue
        self._whose = whose
        self._owed: list[Callable[[], object]] = []
        self._failed_before = False
        self.failing = False

    def open(self) -> bool:
        """Begin a turn: make the moves that are owed; return whether there may be something to lease."""
        self._failed_before, self.failing = self.failing, False
        exists = self._attempt(self._queue.exists, False)
        while exists and self._owed and not self.failing:
            self._attempt(self._owed[0], None)
            if not self.failing:
                del self._owed[0]
        return exists and not self.failing

    @property
    def queue(self) -> DeliveryQueue:
        """The queue itself."""
        return self._queue

    def lease(self, kind: Kind, oldest: bool, max_rows: int, requests: int) -> list[Lease]:
        """Take the next batch of `kind`, or several for `requests` of `max_rows` rows; none if the queue fails."""
        if self.failing:
            return []
        batches, size, rows = MERGE_BATCHES * requests, MERGE_BYTES * requests, min(max_rows, MERGE_ROWS) * requests
        return self._attempt(lambda: self._queue.lease(kind, time.time(), batches, size, rows, oldest), list[Lease]())

    def has_delivered(self) -> bool:
        """Whether the backend has ever taken anything from this queue, by any process."""
        return self._attempt(lambda: any(ledger.delivered for ledger in self._queue.stats().ledger.values()), False)

    def waits_since(self) -> float:
        """Return when the oldest batch that waits was made (Unix seconds), of any process; infinite if none waits."""
        return self._attempt(lambda: self._queue.stats().oldest, None) or float("inf")

    def renew(self) -> None:
        """Extend the lease on what this process holds."""
        if not self.failing:
            self._attempt(lambda: self._queue.renew(time.time()), None)

    def acknowledge(self, batch: Batch, rejected: Mapping[str, int], letters: Sequence[DeadLetter]) -> None:
        """Say that a batch is delivered, but for rows that were rejected for a reason or are dead letters."""
        # A user's own store needs to know of rejected rows only where there are some.
        more = (rejected, letters) if rejected or letters else ()
        self._move(lambda: self._queue.acknowledge(batch.batch_id, *more))

    def defer(self, batch: Batch, seconds: float, refusals: int) -> None:
        """Put a batch back for so many seconds, from the moment when the store takes it."""
        self._move(lambda: self._queue.defer(batch.batch_id, time.time() + seconds, refusals))

    def replace(
        self,
        old: Sequence[Batch],
        new: Sequence[Batch],
        letters: Sequence[DeadLetter] = (),
        in_flight: bool = False,
    ) -> bool:
        """Put new batches and dead letters in the place of old ones; return whether it is done.

        With `in_flight` the new ones stay handed out. Where the store fails
        at that, nobody sends them now: the move is owed, and puts them in the queue.
        """
        done = False

        def exchange(in_flight: bool = False) -> None:
            nonlocal done
            done = self._queue.replace([batch.batch_id for batch in old], new, letters, in_flight)
            if not done:
                # Some of them are another owner's by now; those that are still ours must not stay in flight.
                for batch in old:
                    self._queue.defer(batch.batch_id, 0.0)

        self._move(exchange, lambda: exchange(in_flight))
        return done

    def forget(self) -> None:
        """Forget what is owed: it was the parent's, and this is a child of a fork."""
        self._owed.clear()
        self.failing = False

    def _move(self, move: Callable[[], object], now: Callable[[], object] | None = None) -> None:
        """Make a move, in the form that `now` gives it where it is made at once; owe it where the store fails."""
        failed = self.failing
        if not failed:
            self._attempt(now or move, None)
        if failed or self.failing:
            self._owed.append(move)

    def _attempt(self, step: Callable[[], T], otherwise: T) -> T:
        try:
            return step()
        except Exception as error:  # noqa: BLE001  a user's own store may raise anything
            if not (self._failed_before or self.failing):
                _logger.warning(
                    "the %s delivery queue can't be used now, trying again: %s: %s",
                    self._whose,
                    type(error).__name__,
                    error,
                )
            self.failing = True
            return otherwise
