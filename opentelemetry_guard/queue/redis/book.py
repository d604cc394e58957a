"""What a process knows about the copies of its batches in Redis. It holds ids only, no bodies."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import islice

from ..base import Batch

REMEMBERED_ENDS = 100_000
"""Ended batches that are remembered while Redis is away, so that their copies go when it is back."""
BACKLOG = 4
"""Batches of a process from which on a further one is taken to wait: its delivery does not begin in this instant."""


class Book:
    """The copies of one owner's batches.

    `_lock` guards everything and is held for dictionary operations only. A
    batch id is in at most one of `_sure` (Redis has it and leases it to us),
    `_doubtful` (that was true before an outage) and `_missing` (no copy);
    about any other nothing is known. `_missing` says of each whether Redis was
    full when it was asked, and `_refused` counts those. `_ended` holds those
    whose copy has to go, with whether it is to be remembered as done.
    `_waiting` are those whose delivery was never begun, which Redis knows or
    is told with the copy; before it begins it has to be said (`begin`).
    `_successors` says what has taken the place of an ended one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sure: dict[str, None] = {}
        self._doubtful: dict[str, None] = {}
        self._missing: dict[str, bool] = {}
        self._waiting: set[str] = set()
        self._held: dict[str, Batch] = {}
        self._ended: dict[str, bool] = {}
        self._successors: dict[str, Sequence[str]] = {}
        self._suspects: deque[str] = deque()
        self._refused = 0

    # Copies.

    def expect(self, batch_id: str) -> None:
        """A batch was added that has no copy yet; it waits where others do, unless it has been handed out already."""
        with self._lock:
            known = len(self._sure) + len(self._doubtful) + len(self._missing)
            self._missing[batch_id] = False
            if known >= BACKLOG and batch_id not in self._held:
                self._waiting.add(batch_id)

    def took_over(self, batch_id: str, begun: bool) -> None:
        """A batch was claimed, with its copy; it waits here where nobody has `begun` its delivery."""
        self.note(batch_id, "mine")
        with self._lock:
            if not begun:
                self._waiting.add(batch_id)

    def waits(self, batch_id: str) -> bool:
        """Whether a batch's delivery was never begun, and will not be before that is said."""
        return batch_id in self._waiting

    def begin(self, batch_ids: Iterable[str]) -> list[str]:
        """Return those of the batches that wait; they do not any more."""
        with self._lock:
            found = [batch_id for batch_id in batch_ids if batch_id in self._waiting]
            self._waiting.difference_update(found)
            return found

    def note(self, batch_id: str, standing: str) -> None:
        """Write down what Redis said of a batch: ``mine``, ``missing``, ``full``, ``theirs`` or ``done``."""
        with self._lock:
            refused_before = self._missing.get(batch_id, False)
            self._drop(batch_id)
            if batch_id in self._ended:
                return
            if standing == "mine":
                self._sure[batch_id] = None
            elif standing in ("missing", "full"):
                self._missing[batch_id] = standing == "full"
                self._refused += standing == "full" and not refused_before

    def discard(self, batch_id: str) -> None:
        """Know nothing more about a batch."""
        with self._lock:
            self._drop(batch_id)
            self._waiting.discard(batch_id)

    def is_sure(self, batch_id: str) -> bool:
        """Whether Redis leases the batch to us."""
        return batch_id in self._sure

    def knows(self, batch_id: str) -> bool:
        """Whether the batch is in the book at all."""
        with self._lock:
            return batch_id in self._sure or batch_id in self._doubtful or batch_id in self._missing

    def count(self, batch_ids: Iterable[str]) -> int:
        """Return how many of the batches are in the book."""
        return sum(self.knows(batch_id) for batch_id in batch_ids)

    def has_no_copy(self, batch_id: str) -> bool:
        """Whether the batch is ours and has no copy, as far as we know."""
        return batch_id in self._missing

    def doubt(self) -> None:
        """Take nothing for sure any more: Redis was away, or our lease had run out."""
        with self._lock:
            self._doubtful.update(self._sure)
            self._sure.clear()

    def emptied(self) -> None:
        """Redis has lost everything."""
        with self._lock:
            for standing in (self._sure, self._doubtful):
                self._missing.update(dict.fromkeys(standing, False))
                standing.clear()

    def doubtful(self, limit: int) -> list[str]:
        """Return the next batches whose copy is in doubt."""
        with self._lock:
            return list(islice(self._doubtful, limit))

    def missing(self, limit: int) -> list[str]:
        """Return the next batches without a copy, newest first."""
        with self._lock:
            return list(islice(reversed(self._missing), limit))

    def uncopied(self) -> int:
        """Return how many batches have no copy."""
        return len(self._missing)

    def refused(self) -> int:
        """Return how many batches Redis had no room for when it was asked first."""
        return self._refused

    # Batches that may have been evicted from the local store.

    def suspect_all(self) -> None:
        """Mark every copy for a look whether the local store still has its batch."""
        with self._lock:
            self._suspects = deque((*self._sure, *self._doubtful, *self._missing))

    def suspects(self, limit: int) -> list[str]:
        """Take the next marked ones that are still in the book."""
        with self._lock:
            taken = [self._suspects.popleft() for _ in range(min(limit, len(self._suspects)))]
            return [name for name in taken if name in self._sure or name in self._doubtful or name in self._missing]

    # Deliveries.

    def hold(self, batches: Iterable[Batch]) -> None:
        """These are handed out for delivery."""
        with self._lock:
            self._held.update((batch.batch_id, replace(batch, body=b"")) for batch in batches)

    def held(self, batch_ids: Collection[str]) -> list[Batch] | None:
        """Return the batches without their bodies if all of them are handed out, else None."""
        with self._lock:
            found = [self._held[batch_id] for batch_id in batch_ids if batch_id in self._held]
            return found if len(found) == len(batch_ids) else None

    def let_go(self, batch_id: str) -> bool:
        """Say that a batch is not handed out any more; return whether it was."""
        with self._lock:
            return self._held.pop(batch_id, None) is not None

    # Ends.

    def end(self, batch_ids: Iterable[str], done: bool, successors: Sequence[str] = ()) -> None:
        """The copies of these have to go; `done` ones must not be sent again by anybody.

        Not before what is in their place has copies: a machine that dies in between leaves the one or the other.
        """
        with self._lock:
            for batch_id in batch_ids:
                self._drop(batch_id)
                self._held.pop(batch_id, None)
                self._waiting.discard(batch_id)
                self._ended[batch_id] = done
                if successors:
                    self._successors[batch_id] = successors
            while len(self._ended) > REMEMBERED_ENDS:
                oldest = next(iter(self._ended))
                del self._ended[oldest]
                self._successors.pop(oldest, None)

    def ended(self, limit: int) -> tuple[list[str], list[str]]:
        """Return the next ids whose copies have to go: those that are done, and the others."""
        with self._lock:
            chosen = list(islice((item for item in self._ended.items() if not self._is_needed(item[0])), limit))
        return [name for name, done in chosen if done], [name for name, done in chosen if not done]

    def gone(self, batch_ids: Iterable[str]) -> None:
        """The copies of these have gone."""
        with self._lock:
            for batch_id in batch_ids:
                self._ended.pop(batch_id, None)
                self._successors.pop(batch_id, None)

    def _is_needed(self, batch_id: str) -> bool:
        """Whether what has taken a batch's place has no copy yet, although Redis has room for one."""
        return any(
            self._missing.get(name) is False or self._is_needed(name) for name in self._successors.get(batch_id, ())
        )

    def _drop(self, batch_id: str) -> None:
        for standing in (self._sure, self._doubtful, self._missing):
            standing.pop(batch_id, None)
