"""What is usual for the busiest clients, so that a restart doesn't make strangers of them.

Only of clients that are busy enough to be conspicuous anything is kept, under hashed names: no address and no user id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from .usual import Usual

MOST = 1_000
"""Clients of which it is kept; beyond it the one that was busy longest ago is forgotten."""

History = tuple[float, float, int]
"""A client's mean and deviation, and how many windows they rest on."""


class Histories:
    """The busiest clients' own usual numbers; the analyzer's lock guards them.

    Attributes:
        name: hashes a client's key; nothing is kept before somebody has said how.
    """

    def __init__(self) -> None:
        self.name: Callable[[bytes], str] | None = None
        self._known: OrderedDict[str, History] = OrderedDict()

    def note(self, key: bytes, usual: Usual, windows: int) -> None:
        """Take what is usual for a client now."""
        if self.name is not None:
            self._put(self.name(key), (usual.mean, usual.deviation, windows))

    def recall(self, key: bytes) -> History | None:
        """Return what was usual for a client, None where that isn't known."""
        return self._known.get(self.name(key)) if self.name is not None and self._known else None

    def kept(self) -> Mapping[str, History]:
        """Return all of it, by hashed names."""
        return self._known

    def take(self, kept: Iterable[tuple[str, History]]) -> None:
        """Take what was kept before; what is known already is newer."""
        for name, history in kept:
            if name not in self._known and len(self._known) < MOST:
                self._known[name] = history
                self._known.move_to_end(name, last=False)

    def _put(self, name: str, history: History) -> None:
        self._known[name] = history
        self._known.move_to_end(name)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
