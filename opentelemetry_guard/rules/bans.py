"""Bans that a process imposes by itself on clients that offend again and again, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

MOST_CLIENTS = 20_000
"""Offenders and banned clients that are remembered, each; beyond it the earliest is forgotten."""
OFFENCE_SECONDS = 3600.0
"""Seconds from a client's first offence in which the others must follow, to ban it; after them it begins anew."""


class Bans:
    """Counts offences and bans; thread-safe.

    Args:
        most_clients: see `MOST_CLIENTS`.
        clock: seconds that never go back.
    """

    def __init__(self, *, most_clients: int = MOST_CLIENTS, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_clients = most_clients
        self._clock = clock
        # The lock guards both mappings: a client's offences so far, and when its ban ends. Nothing under it waits.
        self._lock = threading.Lock()
        self._offences: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and the time of the first
        self._ends: OrderedDict[str, float] = OrderedDict()

    def offend(self, client: str, threshold: int, duration: float) -> bool:
        """Count an offence; ban the client for `duration` seconds and return True if it is the `threshold`-th one.

        What lies more than `OFFENCE_SECONDS` before no longer counts.
        """
        now = self._clock()
        with self._lock:
            offences, first = self._offences.pop(client, (0, now))
            offences, first = (1, now) if now - first >= OFFENCE_SECONDS else (offences + 1, first)
            if offences >= threshold:
                self._ends.pop(client, None)
                _put(self._ends, client, now + duration, self._most_clients)
                return True
            _put(self._offences, client, (offences, first), self._most_clients)
            return False

    def holds(self, client: str) -> bool:
        """Tell whether a ban of `client` is in force."""
        if client not in self._ends:  # the usual case takes no lock; a ban that begins meanwhile holds the next request
            return False
        with self._lock:
            end = self._ends.get(client)
            if end is not None and end <= self._clock():
                del self._ends[client]
                return False
            return end is not None


def _put(book: OrderedDict[str, Value], client: str, value: Value, most: int) -> None:
    """Note `value` as the latest entry of `book`, and forget the earliest where there are too many."""
    book[client] = value
    if len(book) > most:
        book.popitem(last=False)
