"""A queue of your own: in memory, with one line in a journal for each batch that comes and goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from opentelemetry_guard.queue.base import Batch, QueueOptions
from opentelemetry_guard.queue.memory import MemoryQueue


class JournalQueue(MemoryQueue):
    """Answers to ``journal://``; a queue may as well be any class with the methods of `DeliveryQueue`."""

    def __init__(self, options: QueueOptions, *, clock: Callable[[], float] = time.time) -> None:
        """Take the bounds from `options`."""
        super().__init__(options, clock=clock)

    @classmethod
    def from_url(cls, url: str, options: QueueOptions) -> JournalQueue:
        """Make the queue that a URL of this scheme names."""
        if url != "journal://":
            raise ValueError(f"the queue {url!r} must be journal://")
        return cls(options)

    def append(self, batch: Batch) -> None:
        """Take a batch."""
        super().append(batch)
        print(f"journal: {batch.rows} {batch.kind} in batch {batch.batch_id}", file=sys.stderr, flush=True)
