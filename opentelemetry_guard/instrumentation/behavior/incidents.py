"""One event for each incident: what goes on, or is explained by another incident, is folded and counted."""

from __future__ import annotations

from collections.abc import Sequence

from .detectors import ERROR_RATIO, FAILED_LOGINS, REQUEST_RATE, SCANNING
from .sliding import Clock, Table

_SPECIFIC_FIRST = (FAILED_LOGINS, SCANNING, REQUEST_RATE, ERROR_RATIO)
_SUFFIXES = {detector: b"!" + detector.encode() for detector in _SPECIFIC_FIRST}
_BEHIND_ERRORS = _SPECIFIC_FIRST[:-1]


class Incidents:
    """The incidents that were told lately."""

    def __init__(self, cooldown: float, clock: Clock, max_incidents: int) -> None:
        """Build a memory of at most `max_incidents` that lasts `cooldown` seconds after each event."""
        self._cooldown = cooldown
        self._clock = clock
        self._table = Table(max_incidents)
        self._until = self._table.reals("d")
        self._folded = self._table.integers()

    def admit(self, incident: bytes) -> int | None:
        """Return how many were folded since the event before, or None where this one is folded too."""
        row = self._table.row(incident)
        if self._clock.now < self._until[row]:
            self._folded[row] += 1
            return None
        self._until[row] = self._clock.now + self._cooldown
        folded = self._folded[row]
        self._folded[row] = 0
        return folded

    def fold(self, incident: bytes) -> bool:
        """Count one more of an incident where it was told within the cool-down, and return whether it was."""
        row = self._table.find(incident)
        if row is None or self._clock.now >= self._until[row]:
            return False
        self._folded[row] += 1
        return True


def incident(client: bytes, detector: str) -> bytes:
    """Return the key of what one detector finds in one client."""
    return client + _SUFFIXES[detector]


def explaining(client: bytes, detector: str, address: bytes | None) -> Sequence[bytes]:
    """Return the keys of the incidents that explain a finding, so that it tells nothing new.

    Errors are what failed logins, scans and floods leave behind, and what a user id does from an address is known
    where the address was told.

    Args:
        client: the key of the client with the finding.
        detector: that found it.
        address: the key of the address, where the client is a user id and all that it did can be that address's.
    """
    same = () if address is None else (incident(address, detector),)
    if detector != ERROR_RATIO:
        return same
    clients = (client,) if address is None else (client, address)
    return *same, *(incident(one, other) for one in clients for other in _BEHIND_ERRORS)
