"""What is added to an event so that others can rank and join it: a score, a key, a count, and whose event it is.

The values are in the metadata, under the names that guard-core gives them: a
reader of guard-core's events finds ours in the same place, and what guard-core
has written there stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from ..decision.addresses import subscriber
from .correlation import incident_key
from .jsonsafe import JSON
from .known import is_blocking, meaning_of

THREAT_SCORE = "guard.threat_score"
CORRELATION_KEY = "guard.behavior.correlation_key"
RECENT_EVENT_COUNT = "guard.behavior.recent_event_count"
INCIDENT = "incident"
"""The metadata key of an incident that the analysis of behaviour names; of many clients it is their correlation key."""
BAN_LIST = "ban_list"
"""The metadata key of the list of others whose ban has blocked a request."""
SERVICE_NAME = "guard.service.name"
SERVICE_VERSION = "guard.service.version"
SERVICE_INSTANCE_ID = "guard.service.instance.id"
DEPLOYMENT_ENVIRONMENT = "guard.deployment.environment"

RESOURCE_KEYS: Mapping[str, str] = {
    "service.name": SERVICE_NAME,
    "service.version": SERVICE_VERSION,
    "service.instance.id": SERVICE_INSTANCE_ID,
    "deployment.environment.name": DEPLOYMENT_ENVIRONMENT,
    "deployment.environment": DEPLOYMENT_ENVIRONMENT,
}
"""Attributes of a Resource, and the key of the metadata that each goes into; of two with one key the first counts."""

_OURS = frozenset({THREAT_SCORE, CORRELATION_KEY, RECENT_EVENT_COUNT})

WINDOW = 300.0
"""Seconds for which a client's events are counted."""
MAX_CLIENTS = 4096
"""Clients whose events are counted at a time."""

_NOT_STOPPED = 5
_LET_THROUGH_FROM = 4
_REPETITION = 3
_MOST_REPETITION = 15


def threat_score(event_type: str, action: str, recent_events: int) -> int:
    """Return from 0 to 100 how much an event wants to be looked at.

    Ten times the severity of its type (`known.KNOWN`); 5 more where a severity of 4 or above was not stopped; and 3
    for each doubling of the client's recent events, 15 at most.

    Example:
        >>> threat_score("penetration_attempt", "request_blocked", 1), threat_score("penetration_attempt", "logged", 8)
        (80, 94)
    """
    return _score(event_type, action, recent_events.bit_length())


@lru_cache(maxsize=1024)
def _score(event_type: str, action: str, doublings: int) -> int:
    """Return the score by the bits of the number of recent events, one of which is no doubling yet."""
    severity = meaning_of(event_type).severity
    let_through = severity >= _LET_THROUGH_FROM and not is_blocking(action)
    again = min(_REPETITION * max(0, doublings - 1), _MOST_REPETITION)
    return min(100, 10 * severity + (_NOT_STOPPED if let_through else 0) + again)


class RecentEvents:
    """Counts each client's events of the last `WINDOW` seconds, in two periods of that length.

    Of the former period counts the share that still lies in the window, so a
    count is an estimate. Nothing is locked: of two threads that count the
    same client at once, one may be left out. Clients beyond `MAX_CLIENTS` in
    one period are not counted: each of their events is the first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Count by `clock`, in seconds."""
        self._clock = clock
        self._begun = clock()
        self._current: dict[str, int] = {}
        self._former: dict[str, int] = {}

    def count(self, client: str) -> int:
        """Count one more event of a client; return how many there were, this one included."""
        passed = self._clock() - self._begun
        if passed >= WINDOW:
            self._former = self._current if passed < 2 * WINDOW else {}
            self._current = {}
            self._begun += passed - passed % WINDOW
            passed %= WINDOW
        current = self._current
        mine = current.get(client, 0) + 1
        if mine > 1 or len(current) < MAX_CLIENTS:
            current[client] = mine
        former = self._former.get(client)
        return mine if former is None else mine + int(former * (1 - passed / WINDOW))


_recent = RecentEvents()  # of this process; replaced as a whole


def enrich(row: dict[str, JSON], *, hashed_client: str | None = None) -> None:
    """Add an event's score, its correlation key and the number of its client's recent events to its metadata.

    Args:
        row: a cleaned event, which is changed.
        hashed_client: by what name the client is counted where addresses are hashed: the hash of an IPv6 address tells
            nothing of its network. guard-core's correlation key, which is made of the address as it is, is then
            replaced; else what guard-core has written stays.
    """
    event_type: str = row["event_type"]  # type: ignore[assignment]
    action: str = row.get("action_taken") or ""  # type: ignore[assignment]
    address, given = row.get("ip_address"), row.get("metadata")
    metadata = given.copy() if isinstance(given, dict) else {}
    kept: dict[str, JSON] = {}
    if not _OURS.isdisjoint(metadata):  # as of few events
        if hashed_client is not None and metadata.get(CORRELATION_KEY) != metadata.get(INCIDENT):
            metadata.pop(CORRELATION_KEY, None)
        kept = {key: metadata[key] for key in _OURS & metadata.keys()}
    recent = 1
    if isinstance(address, str) and address:
        client = hashed_client or (address if ":" not in address else subscriber(address))
        recent = metadata[RECENT_EVENT_COUNT] = _recent.count(client)
        if CORRELATION_KEY not in kept and (key := incident_key(client, event_type)):
            metadata[CORRELATION_KEY] = key
    metadata[THREAT_SCORE] = _score(event_type, action, recent.bit_length())
    if kept:
        metadata.update(kept)
    row["metadata"] = metadata


def _after_fork_in_child() -> None:
    global _recent
    _recent = RecentEvents()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
