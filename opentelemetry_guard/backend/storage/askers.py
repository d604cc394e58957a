"""Which installations ask for rules, at whatever process of the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from .database import Database
from .tables import askers

MOST_ASKERS = 20_000
"""Installations that are known at most."""

MISSED = 3
"""Polls that may be missed before an installation counts as gone."""

LEAST_SECONDS = 90
"""Seconds for which it counts as there at least: applications ask every 30 seconds, where no rules say otherwise."""


@dataclass(frozen=True, slots=True)
class Asker:
    """What an installation asked last: `asked_at` in Unix seconds, the version that it has (None: it named none)."""

    asked_at: float
    has: int | None
    ttl: int

    @property
    def there_until(self) -> float:
        """When it counts as gone (Unix seconds), where it doesn't ask again."""
        return self.asked_at + max(LEAST_SECONDS, MISSED * self.ttl)


class StoredAskers:
    """The installations in a database; safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database

    def keep(self, found: Mapping[tuple[str, str], Asker], now: float) -> None:
        """Take over what some installations asked, by project and install id; forget who is gone at `now`."""
        rows = [
            {
                **{"project_id": project, "install_id": install, "asked_at": asker.asked_at},
                **{"has": asker.has, "ttl": asker.ttl, "there_until": asker.there_until},
            }
            for (project, install), asker in found.items()
        ]
        with self._database.writing() as connection:
            connection.execute(delete(askers).where(askers.c.there_until < now))
            connection.execute(_NOTE, rows)

    def of(self, project_id: str, now: float) -> dict[str, Asker]:
        """Return a project's installations that ask for rules at `now` (Unix seconds), by install id."""
        names = ("install_id", "asked_at", "has", "ttl")
        chosen = (
            select(*(askers.c[name] for name in names))
            .where(askers.c.project_id == project_id, askers.c.there_until >= now)
            .order_by(askers.c.there_until.desc())
            .limit(MOST_ASKERS)
        )
        return {install: Asker(*values) for install, *values in self._database.read(chosen)}


_note = insert(askers)
_NOTE = _note.on_conflict_do_update(
    index_elements=askers.primary_key,
    set_={name: _note.excluded[name] for name in ("asked_at", "has", "ttl", "there_until")},
    # Another process may have heard of it since.
    where=askers.c.asked_at <= _note.excluded.asked_at,
)
