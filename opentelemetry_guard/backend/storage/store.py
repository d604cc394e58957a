"""What a backend keeps, in one SQLite file.

A batch is one transaction that is on the disk before the sender hears of it:
the sender forgets an acknowledged batch, so an answer is a promise that holds
over a killed process and over a power cut (WAL with synchronous=FULL).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ...models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric
from ..bans import check_bans
from .database import Database, StoreError
from .incidents import add_incidents
from .rollups import EventFacts, add_event_rollups, add_metric_rollups, event_facts, metric_facts
from .schema import SCHEMA_VERSION

__all__ = ["SCHEMA_VERSION", "Agent", "RulesConflict", "Store", "StoreError", "Stored", "StoredRow", "Summary"]

# The two tables of rows are read alike; only these names ever enter a statement.
_KIND_COLUMN = {"events": "event_type", "metrics": "metric_type"}

FIRST_TTL = 5
"""Seconds for which applications may keep rules until somebody sets another time: a change reaches them in seconds.

Asking is cheap here: unchanged rules are answered with 304.
"""

_KEYS_PER_QUERY = 500
"""Older releases of SQLite take 999 parameters at most."""


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


@dataclass(frozen=True, slots=True)
class _NewEvent:
    key: str
    facts: EventFacts
    row: str


class Store:
    """The rows, agents and rules of a backend. Every method is one transaction and safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        """Open the database at `path`; a new file is readable by its owner alone.

        Raises:
            StoreError: the file cannot be opened, is no database, or is of a later version.
        """
        self.database = Database(path)

    @property
    def path(self) -> Path:
        """The file."""
        return self.database.path

    def check(self) -> None:
        """Read from the database, which raises where it can't be read."""
        self.database.read("SELECT 1 FROM api_keys LIMIT 1")

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
        offered = list(_offered(events, received_at))
        metric_rows = [metric.model_dump_json() for metric in metrics]
        figures = [metric_facts(row, received_at) for row in metric_rows]
        accepted = 0
        with self.database.writing() as connection:
            known = _known_keys(connection, project_id, [event.key for event in offered])
            new = {event.key: event for event in reversed(offered) if event.key not in known}
            fresh = [event for event in offered if new.get(event.key) is event]
            _insert_events(connection, project_id, batch_id, received_at, fresh)
            accepted += len(fresh)
            if metric_rows and _is_new_metric_batch(connection, project_id, batch_id, received_at):
                connection.executemany(
                    "INSERT INTO metrics (project_id, batch_id, received_at, metric_type, row) VALUES (?, ?, ?, ?, ?)",
                    [
                        (project_id, batch_id, received_at, figure.metric_type, row)
                        for figure, row in zip(figures, metric_rows, strict=True)
                    ],
                )
                add_metric_rollups(connection, project_id, figures)
                accepted += len(metric_rows)
        return Stored(accepted, len(offered) + len(metric_rows) - accepted)

    def set_status(
        self, project_id: str, install_id: str, user_agent: str, status: AgentStatus, last_seen: float
    ) -> None:
        """Keep the latest status of one installation; `last_seen` is in Unix seconds."""
        with self.database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO agents (project_id, install_id, user_agent, last_seen, status)"
                " VALUES (?, ?, ?, ?, ?)",
                (project_id, install_id, user_agent, last_seen, status.model_dump_json()),
            )

    def rules(self, project_id: str) -> DynamicRules:
        """Return the project's newest rules; version 0 and the Unix epoch when none were ever set."""
        with self.database.reading() as connection:
            return _newest_rules(connection, project_id)

    def rules_marks(self, project_ids: Iterable[str]) -> dict[str, object]:
        """Return for each project what changes whenever its rules do; a look into an index for each of them."""
        newest = "SELECT MAX(version) FROM rules WHERE project_id = ?"
        return {project_id: self.database.read(newest, (project_id,))[0][0] for project_id in project_ids}

    def rules_history(self, project_id: str, limit: int) -> list[DynamicRules]:
        """Return the project's latest versions of the rules, newest first."""
        found = self.database.read(
            "SELECT rules FROM rules WHERE project_id = ? ORDER BY version DESC LIMIT ?", (project_id, limit)
        )
        return [DynamicRules.model_validate_json(rules) for (rules,) in found]

    def rules_version(self, project_id: str, version: int) -> DynamicRules | None:
        """Return one version of the project's rules; None when there is no such version."""
        found = self.database.read(
            "SELECT rules FROM rules WHERE project_id = ? AND version = ?", (project_id, version)
        )
        return DynamicRules.model_validate_json(found[0][0]) if found else None

    def set_rules(self, project_id: str, rules: DynamicRules, replacing: int | None = None) -> DynamicRules:
        """Make `rules` the project's newest under the next version number, which is in what is returned.

        Raises:
            RulesConflict: `replacing` is given and is not the newest version.
            ValueError: the rules ban everybody, or nearly so.
        """

        def replace(newest: DynamicRules) -> DynamicRules:
            if replacing is not None and replacing != newest.version:
                raise RulesConflict(newest.version)
            return rules

        return self.change_rules(project_id, replace)

    def change_rules(self, project_id: str, change: Callable[[DynamicRules], DynamicRules]) -> DynamicRules:
        """Make what `change` makes of the newest rules the next version; nobody comes in between.

        What `change` raises leaves the rules as they are, and so do bans of nearly everybody, by a ValueError.
        """
        with self.database.writing() as connection:
            newest = _newest_rules(connection, project_id)
            numbered = change(newest).model_copy(update={"version": newest.version + 1})
            check_bans(numbered.ip_blacklist)
            connection.execute(
                "INSERT INTO rules (project_id, version, rules) VALUES (?, ?, ?)",
                (project_id, numbered.version, numbered.model_dump_json()),
            )
        return numbered

    def events(self, limit: int, after: int | None = None, event_type: str | None = None) -> list[StoredRow]:
        """Return events, newest last: the `limit` that follow the id `after`, or the latest ones without it."""
        return self._rows("events", limit, after, event_type)

    def metrics(self, limit: int, after: int | None = None, metric_type: str | None = None) -> list[StoredRow]:
        """Return metrics, newest last: the `limit` that follow the id `after`, or the latest ones without it."""
        return self._rows("metrics", limit, after, metric_type)

    def _rows(self, table: str, limit: int, after: int | None, kind: str | None) -> list[StoredRow]:
        conditions, parameters = ["TRUE"], list[object]()
        if after is not None:
            conditions.append("id > ?")
            parameters.append(after)
        if kind is not None:
            conditions.append(f"{_KIND_COLUMN[table]} = ?")
            parameters.append(kind)
        order = "DESC" if after is None else "ASC"
        found = self.database.read(
            f"SELECT id, project_id, batch_id, received_at, row FROM {table}"  # noqa: S608 - names of this module
            f" WHERE {' AND '.join(conditions)} ORDER BY id {order} LIMIT ?",
            [*parameters, limit],
        )
        rows = [StoredRow(*values) for values in found]
        return rows if after is not None else rows[::-1]

    def agents(self, project_id: str | None = None) -> list[Agent]:
        """Return every installation (of one project, or of all) that reported, the one seen last at the end."""
        found = self.database.read(
            "SELECT project_id, install_id, user_agent, last_seen, status FROM agents"
            " WHERE ? IS NULL OR project_id = ? ORDER BY last_seen",
            (project_id, project_id),
        )
        return [Agent(*values) for values in found]

    def summary(self) -> Summary:
        """Count what is stored, by type."""
        return Summary(
            events=self._counts("events"),
            metrics=self._counts("metrics"),
            agents=self.database.read("SELECT COUNT(*) FROM agents")[0][0],
        )

    def _counts(self, table: str) -> dict[str, int]:
        return dict(
            self.database.read("SELECT kind, amount FROM stored_rows WHERE content = ? AND amount > 0", (table,))
        )

    def close(self) -> None:
        """Close the file; nothing can be stored afterwards."""
        self.database.close()


def _offered(events: Sequence[SecurityEvent], received_at: float) -> Iterator[_NewEvent]:
    for event in events:
        row = event.model_dump_json()
        yield _NewEvent(event.idempotency_key, event_facts(row, received_at), row)


def _newest_rules(connection: sqlite3.Connection, project_id: str) -> DynamicRules:
    found = connection.execute(
        "SELECT rules FROM rules WHERE project_id = ? ORDER BY version DESC LIMIT 1", (project_id,)
    ).fetchone()
    if found is None:
        return DynamicRules(timestamp=datetime.fromtimestamp(0, timezone.utc), ttl=FIRST_TTL)
    return DynamicRules.model_validate_json(found[0])


def _known_keys(connection: sqlite3.Connection, project_id: str, keys: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        marks = ", ".join("?" * len(some))
        found = connection.execute(
            f"SELECT idempotency_key FROM events WHERE project_id = ? AND idempotency_key IN ({marks})",  # noqa: S608
            [project_id, *some],
        )
        known.update(key for (key,) in found)
    return known


def _insert_events(
    connection: sqlite3.Connection, project_id: str, batch_id: str, received_at: float, events: Sequence[_NewEvent]
) -> None:
    connection.executemany(
        "INSERT INTO events (project_id, idempotency_key, batch_id, received_at, occurred_at, event_type, action,"
        " address, endpoint, service, row) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                project_id,
                event.key,
                batch_id,
                received_at,
                event.facts.occurred_at,
                event.facts.event_type,
                event.facts.action,
                event.facts.address,
                event.facts.endpoint,
                event.facts.service,
                event.row,
            )
            for event in events
        ],
    )
    add_event_rollups(connection, project_id, [event.facts for event in events])
    # Nobody else writes meanwhile, so these have ids in a row.
    (last,) = connection.execute("SELECT COALESCE(MAX(id), 0) FROM events").fetchone()
    first = last - len(events) + 1
    add_incidents(connection, project_id, enumerate((event.facts for event in events), first))


def _is_new_metric_batch(connection: sqlite3.Connection, project_id: str, batch_id: str, received_at: float) -> bool:
    inserted = connection.execute(
        "INSERT INTO metric_batches (project_id, batch_id, received_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (project_id, batch_id, received_at),
    )
    return inserted.rowcount == 1
