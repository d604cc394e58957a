"""Finding incidents, and what somebody makes of one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, FromClause, select, tuple_, update

from ...events.known import BANDS
from .database import Database
from .incidents import COLUMNS, Incident, incident_of
from .paging import Cursor, Page, Stretch, followed, looked, paged, place_of
from .results import AnySelect
from .search import distinct
from .tables import incidents

FAILED_LOGIN = "authentication_failed"
LOGINS_OF_MANY = "logins_from_many_addresses"
"""The campaign of which each failed login may be a part."""
AROUND_SECONDS = 3600.0
"""The longest time in which failed logins are counted to one campaign, before it is told and after it was told last."""
MOST_AROUND = 50
"""Incidents that are returned as being around another one."""


def _newest_first(rows: FromClause) -> tuple[ColumnElement[Any], ...]:
    return rows.c.last_seen.desc(), rows.c.id.desc()


def _walk(project_id: str, before: Cursor | None) -> AnySelect:
    """Return the walk over a project's incidents after a place, along an index that holds what is compared."""
    return (
        select(*(incidents.c[name] for name in ("id", "last_seen", "state", "severity")))
        .with_hint(incidents, "INDEXED BY incidents_by_activity", "sqlite")
        .where(incidents.c.project_id == project_id, tuple_(incidents.c.last_seen, incidents.c.id) < place_of(before))
        .order_by(*_newest_first(incidents))
    )


def _matching(rows: FromClause, state: str, severity: str) -> list[ColumnElement[bool]]:
    in_state = [rows.c.state == state] if state else []
    return in_state + ([rows.c.severity.between(*BANDS[severity])] if severity in BANDS else [])


class IncidentSearch:
    """Reads incidents out of a database, and keeps their states; safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        """Search in `database`."""
        self._database = database

    def page(self, project_id: str, state: str, severity: str, before: Cursor | None, limit: int) -> Page[Incident]:
        """Return a project's `limit` incidents with the newest activity that come after the place `before`.

        An empty `state` or `severity` (a name of `BANDS`) filters nothing.
        """
        if not state and severity not in BANDS:
            return paged(self._found(_walk(project_id, before).limit(limit + 1)), limit)

        def walk(place: Cursor | None, most: int, rows: int) -> Stretch[Incident]:
            along = _walk(project_id, place)
            walked = along.limit(rows).subquery()
            matching = select(walked.c.id).where(*_matching(walked, state, severity)).order_by(*_newest_first(walked))
            return self._found(matching.limit(most)), lambda: self._reached(along, rows)

        return looked(walk, before, limit)

    def _reached(self, walk: AnySelect, rows: int) -> Cursor | None:
        """Return the place after so many rows of a walk; None at the end of the list."""
        last = walk.limit(1).offset(rows - 1).subquery()
        reached = self._database.read(select(last.c.last_seen, last.c.id))
        return Cursor(*reached[0]) if reached else None

    def latest(self, state: str, limit: int) -> list[Incident]:
        """Return the `limit` incidents of all projects with the newest activity, that first; "" is every state."""
        # The index has them by project: without one, all would be sorted.
        projects = self._database.read(distinct(incidents.c.project_id))
        newest = (one for (project,) in projects for one in islice(self._all(project, state, limit), limit))
        return sorted(newest, key=lambda one: (one.last_seen, one.id), reverse=True)[:limit]

    def _all(self, project_id: str, state: str, at_a_time: int) -> Iterator[Incident]:
        return followed(lambda before: self.page(project_id, state, "", before, at_a_time))

    def _found(self, chosen: AnySelect) -> list[Incident]:
        ids = select(chosen.subquery().c.id)
        statement = select(*COLUMNS).where(incidents.c.id.in_(ids)).order_by(*_newest_first(incidents))
        return [incident_of(columns) for columns in self._database.read(statement)]

    def one(self, project_id: str, incident_id: int) -> Incident | None:
        """Return the incident with the id `incident_id`; None when the project has none."""
        found = self._database.read(
            select(*COLUMNS).where(incidents.c.id == incident_id, incidents.c.project_id == project_id)
        )
        return incident_of(found[0]) if found else None

    def campaigns_around(self, incident: Incident) -> list[Incident]:
        """Return the campaigns of failed logins in which a client's failed logins may have had a part.

        Which of the addresses belong to one nobody says: these are the campaigns that went on when the client failed,
        the newest first. A campaign itself is part of none.
        """
        if incident.campaigns or FAILED_LOGIN not in incident.event_types:
            return []
        return self._around(
            incident,
            incidents.c.campaigns != "[]",
            incidents.c.campaigns.contains(f'"{LOGINS_OF_MANY}"', autoescape=True),
        )

    def clients_around(self, campaign: Incident) -> list[Incident]:
        """Return the clients that failed to log in while such a campaign went on, the one seen last first."""
        if LOGINS_OF_MANY not in campaign.campaigns:
            return []
        return self._around(
            campaign,
            incidents.c.event_types.contains(f'"{FAILED_LOGIN}"', autoescape=True),
            incidents.c.campaigns == "[]",
        )

    def _around(self, incident: Incident, *conditions: ColumnElement[bool]) -> list[Incident]:
        """Return the incidents of a project that meet conditions and went on around another one, the newest first."""
        found = self._database.read(
            select(*COLUMNS)
            .where(
                incidents.c.project_id == incident.project_id,
                incidents.c.last_seen >= incident.first_seen - AROUND_SECONDS,
                incidents.c.first_seen <= incident.last_seen + AROUND_SECONDS,
                *conditions,
            )
            .order_by(*_newest_first(incidents))
            .limit(MOST_AROUND)
        )
        return [incident_of(columns) for columns in found]

    def set_state(self, project_id: str, incident_id: int, state: str, now: float) -> bool:
        """Give an incident another of `incidents.STATES` at `now` (Unix seconds); False when the project has none."""
        with self._database.writing() as connection:
            changed = connection.execute(
                update(incidents)
                .where(incidents.c.id == incident_id, incidents.c.project_id == project_id)
                .values(state=state, state_since=now)
            )
            return changed.rowcount == 1
