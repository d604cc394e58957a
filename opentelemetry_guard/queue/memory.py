"""The delivery queue in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable

from .base import QueueOptions
from .sqlite.database import Database
from .sqlite.local import LocalQueue
from .sqlite.path import check_memory_url


class MemoryQueue(LocalQueue):
    """A delivery queue that lives as long as its process; each object is a store of its own with one owner.

    A forked child starts empty: the parent delivers what the parent accepted.
    """

    def __init__(self, options: QueueOptions, *, clock: Callable[[], float] = time.time) -> None:
        """Take the bounds and the overflow policy from `options`; `clock` returns Unix seconds."""
        super().__init__(Database(), options, clock)

    @classmethod
    def from_url(cls, url: str, options: QueueOptions) -> MemoryQueue:
        """Make the queue of ``memory://``; any other form raises ValueError."""
        check_memory_url(url)
        return cls(options)

    def __repr__(self) -> str:
        """Name the store and its destination."""
        return f"MemoryQueue(destination={self._options.destination!r})"
