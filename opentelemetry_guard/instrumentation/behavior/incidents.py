"""Incidents: what one attacker does is told as one thing, which grows, instead of one event for each finding.

A finding opens an incident of its client, or belongs to the one that is open. What goes on is told again after a
minute, then after twice as long each time; what is more specific than all before is told at once. An incident is over
when nothing was found for the cool-down.
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

from .sightings import (
    CAMPAIGN,
    CAMPAIGN_FLOOD,
    CAMPAIGN_LOGINS,
    CAMPAIGN_OBJECTS,
    CAMPAIGN_PATHS,
    ENUMERATION,
    ERROR_RATIO,
    FAILED_LOGINS,
    REQUEST_RATE,
    SCANNING,
    SUCCESS,
    Finding,
)
from .sliding import Clock, Table

_LEAST_SPECIFIC_FIRST = (ERROR_RATIO, REQUEST_RATE, ENUMERATION, SCANNING, FAILED_LOGINS)
_DETECTORS = {detector: 1 << place for place, detector in enumerate(_LEAST_SPECIFIC_FIRST)}
_CAMPAIGNS = {CAMPAIGN_FLOOD: 1, CAMPAIGN_PATHS: 2, CAMPAIGN_LOGINS: 4, CAMPAIGN_OBJECTS: 8}
_PART_OF = {
    FAILED_LOGINS: CAMPAIGN_LOGINS,
    SCANNING: CAMPAIGN_PATHS,
    ENUMERATION: CAMPAIGN_OBJECTS,
    REQUEST_RATE: CAMPAIGN_FLOOD,
}
"""The campaign that explains what a detector finds in one of many addresses."""


class Chapter(NamedTuple):
    """What is to be told of an incident now.

    Attributes:
        key: of the incident.
        name: of the incident, the same in all that is told of it.
        number: how often it was told before.
        folded: findings since then that were not told.
        pause: seconds until it is told again.
        bit: which finding is told.
        explains: bits of all findings that are explained by it, its own among them.
    """

    key: bytes
    name: str
    number: int
    folded: int
    pause: float
    bit: int
    explains: int


def key_of(client: bytes, finding: Finding) -> bytes:
    """Return the key of the incident that a client's finding is of: that it has come in is one of its own."""
    return client + (b"!" if finding.pattern == SUCCESS else b"")


class Incidents:
    """The incidents that are open, in bounded memory."""

    def __init__(self, cooldown: float, update: float, clock: Clock, max_incidents: int) -> None:
        """Build a memory of at most `max_incidents`; `cooldown` and `update` are of `BehaviorRules`."""
        self._cooldown = cooldown
        self._update = update
        self._clock = clock
        self._secret = os.urandom(16)
        self._table = Table(max_incidents)
        self._opened = self._table.reals("d")
        self._until = self._table.reals("d")
        self._next = self._table.reals("d")
        self._number = self._table.integers()
        self._folded = self._table.integers()
        self._explained = self._table.integers("B")

    def admit(self, client: bytes, finding: Finding) -> Chapter | None:
        """Return what is to be told with a finding, None where it is folded into what was told."""
        key = key_of(client, finding)
        now, row = self._clock.now, self._table.row(key)
        is_open = now < self._until[row]
        self._until[row] = now + self._cooldown
        is_campaign = finding.detector == CAMPAIGN
        bit = _CAMPAIGNS[finding.pattern] if is_campaign else _DETECTORS[finding.detector]
        explains = bit if is_campaign else 2 * bit - 1
        if is_open and now < self._next[row] and self._explained[row] & bit:
            self._folded[row] += 1
            return None
        if not is_open:
            self._opened[row], self._number[row], self._folded[row], self._explained[row] = now, 0, 0, 0
        number, folded = self._number[row], self._folded[row]
        self._folded[row] = 0
        self._number[row] += 1
        self._explained[row] |= explains
        pause = min(self._update * 2 ** min(number, 20), max(self._cooldown, self._update))
        self._next[row] = now + pause
        return Chapter(key, self._name(key, self._opened[row]), number, folded, pause, bit, explains)

    def fold(self, client: bytes, detector: str | None = None) -> bool:
        """Count one more finding of a client's incident where one is open, and return whether it is.

        Args:
            client: the key of it.
            detector: what has found something, where only an incident that is as specific explains it.
        """
        row = self._table.find(client)
        if row is None or self._clock.now >= self._until[row]:
            return False
        if detector is not None and not self._explained[row] & _DETECTORS[detector]:
            return False
        self._folded[row] += 1
        return True

    def fold_into_campaign(self, application: bytes, detector: str) -> bool:
        """Count one more finding of an open campaign that explains what a detector finds in one address."""
        row = self._table.find(application)
        campaign = _CAMPAIGNS.get(_PART_OF.get(detector, ""), 0)
        if row is None or self._clock.now >= self._until[row] or not self._explained[row] & campaign:
            return False
        self._folded[row] += 1
        return True

    def _name(self, key: bytes, opened: float) -> str:
        return hashlib.blake2b(key + repr(opened).encode(), digest_size=8, key=self._secret).hexdigest()
