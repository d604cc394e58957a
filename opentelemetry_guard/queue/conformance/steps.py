"""What the tests of the suite are written in."""

from __future__ import annotations

import time
from dataclasses import replace

from ..base import KINDS, Batch, DeadLetter, DeliveryQueue, Kind, QueueOptions, QueueStats


def make_batch(name: str, kind: Kind = "events", rows: int = 1, size: int = 10, created_at: float = 0.0) -> Batch:
    """Return a batch whose body has `size` bytes; `name` is its batch_id."""
    return Batch(name, kind, rows, (name.encode() * size)[:size], created_at=created_at)


class Steps:
    """What a delivery queue does. Override `make_queue`, and `make_sibling` where several owners share a store."""

    options = QueueOptions(destination="conformance", max_bytes=1000, max_dead_letter_bytes=100, lease_seconds=20.0)
    """What the queues are made with; tests vary single fields of it."""

    def make_queue(self, options: QueueOptions) -> DeliveryQueue:
        """Return a queue on an empty store of its own."""
        raise NotImplementedError("say how a queue on an empty store is made")

    def make_sibling(self, queue: DeliveryQueue, options: QueueOptions) -> DeliveryQueue | None:
        """Return another owner of the same store, or None when a store has only one owner."""
        return None

    def filled(self, *batches: Batch, **changes: object) -> DeliveryQueue:
        """Return a queue that holds `batches`, made with `changes` to the options."""
        queue = self.make_queue(replace(self.options, **changes))  # type: ignore[arg-type]
        for batch in batches:
            queue.append(batch)
        return queue

    def taken(
        self, queue: DeliveryQueue, kind: Kind = "events", after: float = 0.0, oldest: bool = False, **bounds: int
    ) -> list[str]:
        """Lease at `after` seconds from now and return the batch_ids."""
        return [lease.batch.batch_id for lease in queue.lease(kind, time.time() + after, oldest=oldest, **bounds)]

    def drained(self, queue: DeliveryQueue, kind: Kind = "events", after: float = 0.0) -> list[str]:
        """Lease one by one until nothing is due, and return the batch_ids."""
        names: list[str] = []
        while found := self.taken(queue, kind, after):
            names += found
        return names

    def balanced_stats(self, queue: DeliveryQueue) -> QueueStats:
        """Return the queue's statistics after checking that every ledger adds up."""
        stats = queue.stats()
        for kind in KINDS:
            assert stats.ledger[kind].balanced, (kind, stats.ledger[kind])
        return stats

    def dead(self, queue: DeliveryQueue, *letters: DeadLetter) -> None:
        """Append, lease and dead-letter batches."""
        for letter in letters:
            queue.append(letter.batch)
            self.taken(queue, letter.batch.kind)
            assert queue.replace([letter.batch.batch_id], [], [letter])
