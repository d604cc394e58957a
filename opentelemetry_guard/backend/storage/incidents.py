"""Events of one attacker and behaviour as one incident, added up while rows come in.

What belongs together has the same correlation key (`events.enrichment`). An
incident is one row of a small table that is written in the transaction that
stores its events, so that a page never groups events. It is over when it was
quiet for a day: what comes then is another incident, also where the key is the
same, as guard-core's are. It is deleted with the last of its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from ...events.correlation import QUIET_SECONDS
from ...events.known import TEST_EVENT, meaning_of
from .many import ManyRows
from .paging import Cursor
from .rollups import EventFacts
from .tables import incidents

OPEN = "open"
ACKNOWLEDGED = "acknowledged"
CLOSED = "closed"
STATES = (OPEN, ACKNOWLEDGED, CLOSED)
"""What somebody has made of an incident; what a closed one goes on with opens it again, as long as it isn't over."""

MOST_LISTED = 20
"""Types, addresses and targets that an incident remembers of each: those seen last."""

MOST_EVENTS = 25
"""Events whose ids it remembers: those stored last."""

_LISTS = ("event_types", "addresses", "targets", "latest")
_WRITTEN = (
    *("project_id", "correlation_key", "first_seen", "last_seen", "events", "requests", "stopped", "severity"),
    *("threat_score", "last_action", *_LISTS, "state", "state_since", "campaigns"),
)

COLUMNS = tuple(incidents.c[name] for name in (*_WRITTEN, "id"))
"""The columns that `incident_of` reads, in its order."""

_KEYS_PER_QUERY = 500
"""Older releases of SQLite take 999 parameters at most."""


@dataclass(slots=True)
class Incident:
    """What one client, or one campaign, went on with; times are in Unix seconds.

    `requests` is what its events stand for: one that tells of others counts for them too, and what tells again that an
    incident goes on is no further request. `stopped` are those of them that didn't get through. `severity` (0 to 10)
    and `threat_score` (0 to 100) are the highest, `event_types`, `addresses` and `targets` those seen last, the latest
    at the end, `latest` the ids of the events stored last. `campaigns` is what many addresses do together, empty where
    it is of one client. It is in its `state` since `state_since`.
    """

    project_id: str
    correlation_key: str
    first_seen: float
    last_seen: float
    events: int = 0
    requests: int = 0
    stopped: int = 0
    severity: int = 0
    threat_score: int = 0
    last_action: str = ""
    event_types: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    latest: list[int] = field(default_factory=list)
    state: str = OPEN
    state_since: float = 0.0
    campaigns: list[str] = field(default_factory=list)
    id: int = 0

    @property
    def cursor(self) -> Cursor:
        """Its place in the list of incidents."""
        return Cursor(self.last_seen, self.id)

    def add(self, event_id: int, event: EventFacts) -> None:
        """Count one more event, the one with the id `event_id`."""
        self.events += 1
        self.requests += event.requests
        self.stopped += event.requests if event.blocked else 0
        if (severity := meaning_of(event.event_type).severity) > self.severity:
            self.severity = severity
        if event.threat_score > self.threat_score:
            self.threat_score = event.threat_score
        if event.action and (event.occurred_at >= self.last_seen or not self.last_action):
            self.last_action = event.action
        if event.occurred_at < self.first_seen:
            self.first_seen = event.occurred_at
        elif event.occurred_at > self.last_seen:
            self.last_seen = event.occurred_at
        _remember(self.campaigns, event.campaign)
        _remember(self.event_types, event.event_type)
        _remember(self.addresses, event.address)
        _remember(self.targets, event.endpoint)
        self.latest.append(event_id)
        del self.latest[:-MOST_EVENTS]
        # What occurred before somebody closed it, and was delivered later, is what that was about.
        if self.state == CLOSED and event.occurred_at > self.state_since:
            self.state, self.state_since = OPEN, event.occurred_at


def _remember(values: list[str], value: str) -> None:
    if not value or (values and values[-1] == value):
        return
    if value in values:
        values.remove(value)
    values.append(value)
    del values[:-MOST_LISTED]


def incident_of(columns: Sequence[object]) -> Incident:
    """Return the incident that a row of `COLUMNS` holds."""
    first = _WRITTEN.index(_LISTS[0])
    after = first + len(_LISTS)
    lists = [orjson.loads(str(text)) for text in columns[first:after]]
    *others, campaigns, number = columns[after:]
    values: list[Any] = [*columns[:first], *lists, *others, orjson.loads(str(campaigns)), number]
    return Incident(*values)


def add_incidents(connection: Connection, project_id: str, events: Iterable[tuple[int, EventFacts]]) -> None:
    """Add events that were stored in the transaction under way, each with its id, to the incidents that they are of.

    An event without a correlation key is of none, nor is a test event. One that occurred before the incident of its key
    and was delivered later is of that incident.
    """
    of_some = [(number, event) for number, event in events if event.correlation_key and event.event_type != TEST_EVENT]
    if not of_some:
        return
    known = _known(connection, project_id, list({event.correlation_key for _, event in of_some}))
    for number, event in of_some:
        incident = known.get(event.correlation_key)
        if incident is not None and event.occurred_at - incident.last_seen >= QUIET_SECONDS:
            _end(connection, incident)
            incident = None
        if incident is None:
            incident = known[event.correlation_key] = Incident(
                project_id, event.correlation_key, event.occurred_at, event.occurred_at, state_since=event.occurred_at
            )
        incident.add(number, event)
    _WRITE.run(connection, [_columns_of(incident) for incident in known.values()])


_STORED = (*_WRITTEN[: _WRITTEN.index("state")], "last_event", "state", "state_since", "over", "campaigns")


def _writing() -> ManyRows:
    offered = insert(incidents)
    replaced = (*_WRITTEN[2:], "last_event")
    writing = offered.on_conflict_do_update(
        index_elements=["project_id", "correlation_key", "over"],
        set_={name: offered.excluded[name] for name in replaced},
    )
    return ManyRows(writing, _STORED)


_WRITE = _writing()

_GOES_ON = (
    incidents.c.project_id == bindparam("of_project"),
    incidents.c.correlation_key.in_(bindparam("keys", expanding=True)),
    incidents.c.over == 0,
)
_KNOWN = select(*COLUMNS).where(*_GOES_ON)
_END = update(incidents).where(*_GOES_ON).values(over=incidents.c.id)


def _end(connection: Connection, incident: Incident) -> None:
    _WRITE.run(connection, [_columns_of(incident)])
    connection.execute(_END, {"of_project": incident.project_id, "keys": [incident.correlation_key]})


def _columns_of(incident: Incident) -> tuple[object, ...]:
    """Return the values of `_STORED`."""
    written = [getattr(incident, name) for name in _WRITTEN[: -len(_LISTS) - 3]]
    lists = [orjson.dumps(getattr(incident, name)).decode() for name in _LISTS]
    campaigns = orjson.dumps(incident.campaigns).decode()
    return (*written, *lists, incident.latest[-1], incident.state, incident.state_since, 0, campaigns)


def _known(connection: Connection, project_id: str, keys: Sequence[str]) -> dict[str, Incident]:
    known: dict[str, Incident] = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        found = connection.execute(_KNOWN, {"of_project": project_id, "keys": some})
        known.update((one.correlation_key, one) for one in map(incident_of, found))
    return known
