"""What alert rules look at: rollups, incidents, reports and places, no more of each than the rules need."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from ...models import AgentStatus
from ..alerts.evaluation import EventCount, Figures, SeenAgent, SeenIncident
from ..alerts.rules import AgentTroubleRule, EventsRule, IncidentRule, NewPlaceRule, Rule, SilentAgentRule
from .database import Database
from .incidents import COLUMNS, incident_of
from .tables import agents, event_minutes, incidents
from .user_places import new_places

RECENT_SECONDS = 3_600
"""Incidents and places that are looked at: what is older has been found, or nobody has been looking."""

_MOST = 500
"""Incidents and places of one look, the latest; agents are as many as there are."""


def alert_figures(
    database: Database, project_id: str, rules: Collection[Rule], listening_since: float, now: float
) -> Figures:
    """Return the figures of a project at `now` (Unix seconds) that `rules` need."""
    kinds = {type(rule) for rule in rules}
    window = max((rule.window for rule in rules if isinstance(rule, EventsRule)), default=0)
    gone = max((rule.gone_after for rule in rules if isinstance(rule, SilentAgentRule)), default=0)
    reporting = RECENT_SECONDS if AgentTroubleRule in kinds else 0
    agents = max(gone, reporting)
    return Figures(
        counts=_counts(database, project_id, now - window) if window else (),
        incidents=_incidents(database, project_id, now) if IncidentRule in kinds else (),
        agents=_agents(database, project_id, now - agents) if agents else (),
        places=new_places(database, project_id, now - RECENT_SECONDS, _MOST) if NewPlaceRule in kinds else (),
        listening_since=listening_since,
    )


def _counts(database: Database, project_id: str, since: float) -> list[EventCount]:
    columns = (event_minutes.c[name] for name in ("minute", "event_type", "events", "blocked"))
    of_time = (event_minutes.c.project_id == project_id, event_minutes.c.minute >= int(since // 60))
    return [EventCount(*values) for values in database.read(select(*columns).where(*of_time))]


def _incidents(database: Database, project_id: str, now: float) -> list[SeenIncident]:
    found = database.read(
        select(*COLUMNS)
        .where(incidents.c.project_id == project_id, incidents.c.last_seen >= now - RECENT_SECONDS)
        .order_by(incidents.c.last_seen.desc())
        .limit(_MOST)
    )
    return [
        SeenIncident(
            id=one.id,
            who=one.addresses[-1] if one.addresses else "an unknown client",
            event_types=tuple(one.event_types),
            severity=one.severity,
            threat_score=one.threat_score,
            requests=one.requests,
            last_seen=one.last_seen,
        )
        for one in map(incident_of, found)
    ]


def _agents(database: Database, project_id: str, since: float) -> list[SeenAgent]:
    found = database.read(
        select(agents.c.install_id, agents.c.last_seen, agents.c.status).where(
            agents.c.project_id == project_id, agents.c.last_seen >= since
        )
    )
    told = [(install_id, last_seen, AgentStatus.model_validate_json(status)) for install_id, last_seen, status in found]
    return [
        SeenAgent(install_id, status.service.get("name", ""), last_seen, tuple(status.errors))
        for install_id, last_seen, status in told
    ]
