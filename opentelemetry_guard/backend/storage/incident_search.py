"""Finding incidents, and what somebody makes of one."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, tuple_, update

from ...events.known import BANDS
from .database import Database
from .incidents import COLUMNS, Incident, incident_of
from .search import Cursor
from .tables import incidents

_ALL_SEVERITIES = (0, 10)
_AT_THE_TOP = (1e12, 0)
_NEWEST_FIRST = (incidents.c.last_seen.desc(), incidents.c.id.desc())


def _in_state(state: str) -> list[ColumnElement[bool]]:
    return [incidents.c.state == state] if state else []


@dataclass(frozen=True, slots=True)
class IncidentPage:
    """Incidents, the one with the newest activity first; `older` is where to go on, None at the end of the list."""

    incidents: list[Incident]
    older: Cursor | None


class IncidentSearch:
    """Reads incidents out of a database, and keeps their states; safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        """Search in `database`."""
        self._database = database

    def page(self, project_id: str, state: str, severity: str, before: Cursor | None, limit: int) -> IncidentPage:
        """Return a project's `limit` incidents with the newest activity that come after the place `before`.

        An empty `state` or `severity` (a name of `BANDS`) filters nothing.
        """
        place = _AT_THE_TOP if before is None else (before.occurred_at, before.id)
        walked = (
            select(incidents.c.id)
            .with_hint(incidents, "INDEXED BY incidents_by_activity", "sqlite")
            .where(
                incidents.c.project_id == project_id,
                tuple_(incidents.c.last_seen, incidents.c.id) < place,
                incidents.c.severity.between(*BANDS.get(severity, _ALL_SEVERITIES)),
                *_in_state(state),
            )
            .order_by(*_NEWEST_FIRST)
            .limit(limit + 1)
        )
        found = self._database.read(select(*COLUMNS).where(incidents.c.id.in_(walked)).order_by(*_NEWEST_FIRST))
        page = [incident_of(columns) for columns in found]
        if len(page) <= limit:
            return IncidentPage(page, None)
        last = page[limit - 1]
        return IncidentPage(page[:limit], Cursor(last.last_seen, last.id))

    def latest(self, state: str, limit: int) -> list[Incident]:
        """Return the `limit` incidents of all projects with the newest activity, that first; "" is every state."""
        found = self._database.read(select(*COLUMNS).where(*_in_state(state)).order_by(*_NEWEST_FIRST).limit(limit))
        return [incident_of(columns) for columns in found]

    def one(self, project_id: str, incident_id: int) -> Incident | None:
        """Return the incident with the id `incident_id`; None when the project has none."""
        found = self._database.read(
            select(*COLUMNS).where(incidents.c.id == incident_id, incidents.c.project_id == project_id)
        )
        return incident_of(found[0]) if found else None

    def set_state(self, project_id: str, incident_id: int, state: str, now: float) -> bool:
        """Give an incident another of `incidents.STATES` at `now` (Unix seconds); False when the project has none."""
        with self._database.writing() as connection:
            changed = connection.execute(
                update(incidents)
                .where(incidents.c.id == incident_id, incidents.c.project_id == project_id)
                .values(state=state, state_since=now)
            )
            return changed.rowcount == 1
