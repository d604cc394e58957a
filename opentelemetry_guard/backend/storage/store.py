"""What a backend keeps, in one SQLite file or one PostgreSQL database.

A batch is stored as a whole, and is on the disk before the sender hears of it:
the sender forgets an acknowledged batch, so an answer is a promise that holds
over a killed process and over a power cut (SQLite: WAL with
synchronous=FULL; PostgreSQL: synchronous_commit=on, its default).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import URL, ColumnElement, Connection, Select, Table, bindparam, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from ...models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric
from ..bans import check_bans
from .arriving import Batch, Offered, read_events, read_metrics
from .ban_lists import StoredLists
from .database import Database, StoreError
from .tables import agents, api_keys, events, metrics, rules, stored_rows
from .together import Together

__all__ = ["Agent", "RulesConflict", "Store", "StoreError", "Stored", "StoredRow", "Summary"]

FIRST_TTL = 5
"""Seconds for which applications may keep rules until somebody sets another time: a change reaches them in seconds.

Asking is cheap here: unchanged rules are answered with 304.
"""


class RulesConflict(Exception):
    """Rules were to replace a version that is no longer the newest."""

    def __init__(self, newest: int) -> None:
        """Say which version is the `newest`."""
        super().__init__(f"The rules are at version {newest} by now.")
        self.newest = newest


@dataclass(frozen=True, slots=True)
class Stored:
    """How many rows of a batch are new, and how many were there already."""

    accepted: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One event or metric as it is kept; `row` is its JSON, `received_at` is in Unix seconds."""

    id: int
    project_id: str
    batch_id: str
    received_at: float
    row: str


@dataclass(frozen=True, slots=True)
class Agent:
    """The last status of one installation as JSON; `last_seen` is in Unix seconds."""

    project_id: str
    install_id: str
    user_agent: str
    last_seen: float
    status: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of what is stored."""

    events: Mapping[str, int]
    metrics: Mapping[str, int]
    agents: int


class Store:
    """The rows, agents and rules of a backend. Every method is whole or nothing, and safe to call from any thread."""

    def __init__(self, where: Path | URL) -> None:
        """Open the database `where`: an SQLite file, or the URL of a PostgreSQL database.

        Raises:
            StoreError: it cannot be opened, is no database, or is of a later version.
        """
        self.database = Database(where)
        self.lists = StoredLists(self.database)
        self._together = Together(self.database)

    @property
    def name(self) -> str:
        """The file or URL, without a password."""
        return self.database.name

    @property
    def path(self) -> Path | None:
        """The file; None where the database is none."""
        return self.database.kind.path

    def check(self) -> None:
        """Read from the database, which raises where it can't be read."""
        self.database.read(select(api_keys.c.id).limit(1))

    def add(
        self,
        project_id: str,
        batch_id: str,
        events: Sequence[SecurityEvent],
        metrics: Sequence[SecurityMetric],
        received_at: float,
    ) -> Stored:
        """Store the rows of one batch; when this returns they are on the disk.

        An event whose key the project has already is not stored again, nor
        are the metrics of a batch id that the project has already.
        """
        # Made before the transaction, so that it is short.
        offered = Offered(
            Batch(project_id, batch_id, received_at),
            read_events(events, received_at),
            read_metrics(metrics, received_at),
        )
        accepted = self._together.add(offered) if offered.size else 0
        return Stored(accepted, len(events) + len(metrics) - accepted)

    def set_status(
        self, project_id: str, install_id: str, user_agent: str, status: AgentStatus, last_seen: float
    ) -> None:
        """Keep the latest status of one installation; `last_seen` is in Unix seconds."""
        with self.database.writing() as connection:
            connection.execute(
                _REPORT,
                {
                    "project_id": project_id,
                    "install_id": install_id,
                    "user_agent": user_agent,
                    "last_seen": last_seen,
                    "status": status.model_dump_json(),
                },
            )

    def rules(self, project_id: str) -> DynamicRules:
        """Return the project's newest rules; version 0 and the Unix epoch when none were ever set."""
        with self.database.reading() as connection:
            return _newest_rules(connection, project_id)

    def rules_marks(self, project_ids: Iterable[str]) -> dict[str, object]:
        """Return for each project what changes whenever its rules or lists do; two looks into indexes for each."""
        with self.database.reading() as connection:
            newest = {project_id: connection.scalar(_NEWEST_VERSION, {"of": project_id}) for project_id in project_ids}
        return {project_id: (version, self.lists.mark(project_id)) for project_id, version in newest.items()}

    def enforced_rules(self, project_id: str) -> DynamicRules:
        """Return the project's newest rules with the bans of its lists, as they are handed out."""
        return self.lists.merged(project_id, self.rules(project_id))

    def rules_history(self, project_id: str, limit: int) -> list[DynamicRules]:
        """Return the project's latest versions of the rules, newest first."""
        found = self.database.read(_rules_of(project_id).limit(limit))
        return [DynamicRules.model_validate_json(document) for (document,) in found]

    def rules_version(self, project_id: str, version: int) -> DynamicRules | None:
        """Return one version of the project's rules; None when there is no such version."""
        found = self.database.read(_rules_of(project_id).where(rules.c.version == version))
        return DynamicRules.model_validate_json(found[0][0]) if found else None

    def set_rules(self, project_id: str, document: DynamicRules, replacing: int | None = None) -> DynamicRules:
        """Make `document` the project's newest rules under the next version number, which is in what is returned.

        Raises:
            RulesConflict: `replacing` is given and is not the newest version.
            ValueError: the rules ban everybody, or nearly so.
        """

        def replace(newest: DynamicRules) -> DynamicRules:
            if replacing is not None and replacing != newest.version:
                raise RulesConflict(newest.version)
            return document

        return self.change_rules(project_id, replace)

    def change_rules(self, project_id: str, change: Callable[[DynamicRules], DynamicRules]) -> DynamicRules:
        """Make what `change` makes of the newest rules the next version; nobody comes in between.

        What `change` raises leaves the rules as they are, and so do bans of nearly everybody, by a ValueError.
        """
        with self.database.writing() as connection:
            newest = _newest_rules(connection, project_id)
            numbered = change(newest).model_copy(update={"version": newest.version + 1})
            check_bans(numbered.ip_blacklist)
            document = {"project_id": project_id, "version": numbered.version, "rules": numbered.model_dump_json()}
            connection.execute(insert(rules), document)
        return numbered

    def events(self, limit: int, after: int | None = None, event_type: str | None = None) -> list[StoredRow]:
        """Return events, newest last: the `limit` that follow the id `after`, or the latest ones without it."""
        return self._rows(events, events.c.event_type, limit, after, event_type)

    def metrics(self, limit: int, after: int | None = None, metric_type: str | None = None) -> list[StoredRow]:
        """Return metrics, newest last: the `limit` that follow the id `after`, or the latest ones without it."""
        return self._rows(metrics, metrics.c.metric_type, limit, after, metric_type)

    def _rows(
        self, table: Table, kinds: ColumnElement[str], limit: int, after: int | None, kind: str | None
    ) -> list[StoredRow]:
        chosen = select(*(table.c[field.name] for field in fields(StoredRow))).limit(limit)
        if kind is not None:
            chosen = chosen.where(kinds == kind)
        if after is not None:
            found = self.database.read(chosen.where(table.c.id > after).order_by(table.c.id))
            return [StoredRow(*values) for values in found]
        return [StoredRow(*values) for values in self.database.read(chosen.order_by(table.c.id.desc()))][::-1]

    def agents(self, project_id: str | None = None) -> list[Agent]:
        """Return every installation (of one project, or of all) that reported, the one seen last at the end."""
        chosen = select(*(agents.c[field.name] for field in fields(Agent))).order_by(agents.c.last_seen)
        if project_id is not None:
            chosen = chosen.where(agents.c.project_id == project_id)
        return [Agent(*values) for values in self.database.read(chosen)]

    def summary(self) -> Summary:
        """Count what is stored, by type."""
        return Summary(
            events=self._counts(events),
            metrics=self._counts(metrics),
            agents=self.database.read(select(func.count()).select_from(agents))[0][0],
        )

    def _counts(self, table: Table) -> dict[str, int]:
        counted = select(stored_rows.c.kind, func.sum(stored_rows.c.amount)).where(stored_rows.c.content == table.name)
        return {
            kind: int(amount) for kind, amount in self.database.read(counted.group_by(stored_rows.c.kind)) if amount
        }

    def close(self) -> None:
        """Close the database."""
        self.database.close()


_report = upsert(agents)
_REPORT = _report.on_conflict_do_update(
    index_elements=agents.primary_key,
    set_={name: _report.excluded[name] for name in ("user_agent", "last_seen", "status")},
)


_NEWEST_VERSION = select(func.max(rules.c.version)).where(rules.c.project_id == bindparam("of"))


def _rules_of(project_id: str) -> Select[str]:
    """Return the statement that gives the project's rules, newest first."""
    return select(rules.c.rules).where(rules.c.project_id == project_id).order_by(rules.c.version.desc())


def _newest_rules(connection: Connection, project_id: str) -> DynamicRules:
    document = connection.scalar(_rules_of(project_id).limit(1))
    if document is None:
        return DynamicRules(timestamp=datetime.fromtimestamp(0, timezone.utc), ttl=FIRST_TTL)
    return DynamicRules.model_validate_json(document)
