"""Incidents as their pages show them. Escaping is the templates' part."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from ...decision.addresses import subscriber
from ...events.known import KNOWN, band_of, meaning_of
from ...events.names import name_of
from ..bans import read_network
from ..storage.incidents import MOST_LISTED, Incident
from .views import ago, duration, is_address, shortened

_CAMPAIGNS = {
    "logins_from_many_addresses": "failed logins",
    "paths_from_many_addresses": "scans",
    "objects_from_many_addresses": "guessed objects",
    "flood_from_many_addresses": "flood",
}
"""What many addresses do together."""

_WORDS = {
    "attack": "Attacks",
    "logon": "Failed logins",
    "flooding": "Too many requests",
    "refused": "Refused requests",
    "misuse": "Broken rules of the application",
    "pattern": "Conspicuous behavior",
}
"""What is said for the behaviours of known types."""


@dataclass(frozen=True, slots=True)
class IncidentView:
    """A line of the list: all of it text that is as short as a line has to be."""

    id: int
    title: str
    who: str
    state: str
    severity: str
    """The band, a word."""
    score: int
    seen_ago: str
    last: float
    """In Unix seconds, as every time of these views."""
    lasted: str
    requests: int
    events: int
    stopped: int
    last_action: str
    types: Sequence[tuple[str, str]]
    """What people call them, and what they are."""
    targets: Sequence[str]
    more_targets: int


@dataclass(frozen=True, slots=True)
class ListedAddress:
    """An address of an incident: what a ban of it bans, None where none can, and whether that or it is banned already.

    Of IPv6 that is the network of its subscriber, who has an address for each request.
    """

    text: str
    value: str
    ban: str | None
    banned: bool


@dataclass(frozen=True, slots=True)
class IncidentDetail:
    """All of an incident; `within` are parameters of the events page for the time that it has lasted so far."""

    line: IncidentView
    first: float
    correlation_key: str
    asked_key: str
    """The key as it is asked for: what is shown may be cut short."""
    state_since: float
    addresses: Sequence[ListedAddress]
    targets: Sequence[tuple[str, str]]
    """As it is shown, and as it is asked for."""
    most_listed: int
    within: dict[str, str]


def incident_view(incident: Incident, now: float) -> IncidentView:
    """Return an incident as a line of the list at `now` (Unix seconds)."""
    severest = max(incident.event_types, key=lambda kind: meaning_of(kind).severity, default="")
    behavior = meaning_of(severest).behavior
    title = _WORDS.get(behavior, behavior) if severest in KNOWN else shortened(severest)
    if incident.campaigns:
        title = "Campaign: " + ", ".join(_CAMPAIGNS.get(one, shortened(one)) for one in incident.campaigns)
    return IncidentView(
        id=incident.id,
        title=title,
        who="many addresses" if incident.campaigns else _who(incident.addresses),
        state=incident.state,
        severity=band_of(incident.severity),
        score=incident.threat_score,
        seen_ago=ago(now - incident.last_seen),
        last=incident.last_seen,
        lasted=duration(incident.last_seen - incident.first_seen),
        requests=incident.requests,
        events=incident.events,
        stopped=incident.stopped,
        last_action=shortened(incident.last_action),
        types=[(shortened(name_of(kind)), shortened(kind)) for kind in incident.event_types],
        targets=[shortened(target) for target in incident.targets[-1:-4:-1]],
        more_targets=max(0, len(incident.targets) - 3),
    )


def _who(addresses: Sequence[str]) -> str:
    if not addresses:
        return "unknown"
    if len(addresses) == 1:
        return shortened(addresses[0])
    return f"{len(addresses)}{' or more' if len(addresses) == MOST_LISTED else ''} addresses"


def incident_detail(incident: Incident, bans: Collection[str], now: float) -> IncidentDetail:
    """Return everything that is known of an incident at `now` (Unix seconds); `bans` are the project's."""
    banned = frozenset(bans)
    return IncidentDetail(
        line=incident_view(incident, now),
        first=incident.first_seen,
        correlation_key=shortened(incident.correlation_key),
        asked_key=incident.correlation_key,
        state_since=incident.state_since,
        addresses=[_listed(address, banned) for address in reversed(incident.addresses)],
        targets=[(shortened(target), target) for target in reversed(incident.targets)],
        most_listed=MOST_LISTED,
        within={
            "since": _parameter(math.floor(incident.first_seen)),
            "until": _parameter(math.floor(incident.last_seen) + 1),
        },
    )


def _listed(address: str, banned: Collection[str]) -> ListedAddress:
    if not is_address(address):
        return ListedAddress(shortened(address), address, None, False)
    ban = read_network(subscriber(address))
    return ListedAddress(shortened(address), address, ban, ban in banned or read_network(address) in banned)


def _parameter(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).replace(tzinfo=None).isoformat()
