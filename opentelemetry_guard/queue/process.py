"""State that belongs to one process and is never shared with a forked child."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that every process makes for itself, at its first `get`.

    Locks, connections and identities must not cross a fork: a lock may be held
    by a thread that the child does not have, a connection's locks stay with
    the parent. What the parent made is kept and never touched.
    """

    def __init__(self, factory: Callable[[], T]) -> None:
        """Take the `factory` that makes the value; it runs at most a few times and has no side effects."""
        self._factory = factory
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Return this process's value."""
        pid = os.getpid()
        try:
            return self._values[pid]
        except KeyError:
            # setdefault is atomic, so that two threads of a fresh child agree on one value without a lock
            return self._values.setdefault(pid, self._factory())
