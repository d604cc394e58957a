"""Which events belong together: one client's, of one behaviour, until it was quiet for a day.

The key of an incident is made of the client, of the behaviour and of the day on which it began, so that processes agree
on it without asking each other, unless they have met the client on different days.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

from ..decision.addresses import subscriber
from .known import OPERATION, meaning_of

QUIET_SECONDS = 86_400.0
"""After so long without an event an incident is over; it is a day, so that the next one begins on another."""
MAX_CLIENTS = 4096
"""Clients, by behaviour, whose incidents are remembered in a day; the incident of another one begins every day."""


def correlation_key(address: str, event_type: str, day: int | None = None) -> str:
    """Return the same 16 hexadecimal digits for the same client and behaviour, "" where there is no client.

    Addresses of one network are one client (`subscriber`). Where addresses are hashed, `address` is the keyed hash of
    such a client, so that nobody finds the address from the key.

    Args:
        address: of the client.
        event_type: which shows the behaviour.
        day: since 1970 on which the incident began; None where nobody knows.
    """
    behavior = _behavior_of(event_type)
    return _key(subscriber(address), behavior, day) if address and behavior else ""


@lru_cache(maxsize=1024)
def _behavior_of(event_type: str) -> str:
    """Return the behaviour that a type of events shows, "" where it is none of a client's."""
    behavior = meaning_of(event_type).behavior
    return "" if behavior == OPERATION else behavior


@lru_cache(maxsize=1024)
def _key(client: str, behavior: str, day: int | None) -> str:
    begun = "" if day is None else f"\n{day}"
    return blake2b(f"{client}\n{behavior}{begun}".encode(errors="surrogatepass"), digest_size=8).hexdigest()


_NEVER = (-math.inf, "")


class OpenIncidents:
    """Remembers on which day each client's incidents have begun, in two periods of `QUIET_SECONDS`.

    Nothing is locked: of two threads that meet the same client at once, both make the same key.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, date: Callable[[], float] = time.time) -> None:
        """Begin with no incident.

        Args:
            clock: seconds that never go back.
            date: seconds since 1970.
        """
        self._clock = clock
        self._date = date
        self._begun = clock()
        self._current: dict[tuple[str, str], tuple[float, str]] = {}  # when it was seen last, and the incident's key
        self._former: dict[tuple[str, str], tuple[float, str]] = {}

    def forget(self) -> None:
        """Begin anew, as a forked child does."""
        self._begun, self._current, self._former = self._clock(), {}, {}

    def key(self, client: str, event_type: str) -> str:
        """Return the key of the incident that an event of now belongs to, "" where there is no client.

        Args:
            client: the name by which it is counted (`subscriber`).
            event_type: which shows the behaviour.
        """
        behavior = _behavior_of(event_type)
        if not client or not behavior:
            return ""
        which, now, current = (client, behavior), self._clock(), self._current
        if now - self._begun >= QUIET_SECONDS:
            self._former, self._begun = current, now
            current = self._current = {}
        seen, key = current.get(which) or self._former.get(which) or _NEVER
        if now - seen >= QUIET_SECONDS:
            key = _key(client, behavior, int(self._date() // QUIET_SECONDS))
        if which in current or len(current) < MAX_CLIENTS:
            current[which] = (now, key)
        return key


_open = OpenIncidents()  # of this process

incident_key = _open.key
"""Return the key of the incident that an event of this process belongs to now; see `OpenIncidents.key`."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.forget)
