"""What a backend keeps, in one SQLite file.

A batch is one transaction that is on the disk before the sender hears of it:
the sender forgets an acknowledged batch, so an answer is a promise that holds
over a killed process and over a power cut (WAL with synchronous=FULL).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric

SCHEMA_VERSION = 1
"""Written to the file's `user_version`."""

_BUSY_SECONDS = 5.0
"""How long a statement waits for another process that writes to the same file."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    received_at REAL NOT NULL,
    event_type TEXT NOT NULL,
    row TEXT NOT NULL,
    UNIQUE (project_id, idempotency_key)
);
CREATE INDEX IF NOT EXISTS events_by_type ON events (event_type, id);
CREATE TABLE IF NOT EXISTS metric_batches (
    project_id TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    PRIMARY KEY (project_id, batch_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    received_at REAL NOT NULL,
    metric_type TEXT NOT NULL,
    row TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS metrics_by_type ON metrics (metric_type, id);
CREATE TABLE IF NOT EXISTS agents (
    project_id TEXT NOT NULL,
    install_id TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    last_seen REAL NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (project_id, install_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rules (
    project_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    rules TEXT NOT NULL,
    PRIMARY KEY (project_id, version)
) WITHOUT ROWID;
"""

# The two tables of rows are read alike; only these names ever enter a statement.
_KIND_COLUMN = {"events": "event_type", "metrics": "metric_type"}


class StoreError(Exception):
    """The database file cannot be opened or is of another version; the text names it and the remedy."""


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
    """The tables of a backend. Every method is one transaction and safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        """Open the database at `path`; a new file is readable by its owner alone.

        Raises:
            StoreError: the file cannot be opened, is no database, or is of another version.
        """
        self.path = path
        # Each lock belongs to the connection beside it: who holds it is the only one to touch that connection.
        # WAL lets the reader see the last commit while the writer is at work, so neither waits for the other.
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            _create_private(path)
            self._writer = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"The database {path} cannot be opened: {error}.") from error
        try:
            self._prepare()
            self._reader = _open(path)
        except sqlite3.Error as error:
            self._writer.close()
            raise StoreError(f"The database {path} cannot be used: {error}.") from error
        except StoreError:
            self._writer.close()
            raise

    def _prepare(self) -> None:
        with closing(self._writer.execute("PRAGMA user_version")) as cursor:
            version = int(cursor.fetchone()[0])
        if version not in (0, SCHEMA_VERSION):
            raise StoreError(
                f"The database {self.path} has version {version}, this release reads version {SCHEMA_VERSION}: "
                "use another file."
            )
        self._writer.executescript(_SCHEMA)
        self._writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def _read(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._read_lock, closing(self._reader.execute(query, parameters)) as cursor:
            return cursor.fetchall()

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
        event_rows = [
            (project_id, event.idempotency_key, batch_id, received_at, event.event_type, event.model_dump_json())
            for event in events
        ]
        metric_rows = [
            (project_id, batch_id, received_at, metric.metric_type, metric.model_dump_json()) for metric in metrics
        ]
        accepted = 0
        with self._writing() as connection:
            if event_rows:
                accepted += connection.executemany(
                    "INSERT INTO events (project_id, idempotency_key, batch_id, received_at, event_type, row)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, idempotency_key) DO NOTHING",
                    event_rows,
                ).rowcount
            if metric_rows and self._is_new_metric_batch(connection, project_id, batch_id):
                accepted += connection.executemany(
                    "INSERT INTO metrics (project_id, batch_id, received_at, metric_type, row) VALUES (?, ?, ?, ?, ?)",
                    metric_rows,
                ).rowcount
        return Stored(accepted, len(event_rows) + len(metric_rows) - accepted)

    @staticmethod
    def _is_new_metric_batch(connection: sqlite3.Connection, project_id: str, batch_id: str) -> bool:
        inserted = connection.execute(
            "INSERT INTO metric_batches (project_id, batch_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (project_id, batch_id),
        )
        return inserted.rowcount == 1

    def set_status(
        self, project_id: str, install_id: str, user_agent: str, status: AgentStatus, last_seen: float
    ) -> None:
        """Keep the latest status of one installation; `last_seen` is in Unix seconds."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO agents (project_id, install_id, user_agent, last_seen, status)"
                " VALUES (?, ?, ?, ?, ?)",
                (project_id, install_id, user_agent, last_seen, status.model_dump_json()),
            )

    def rules(self, project_id: str) -> DynamicRules:
        """Return the project's newest rules; version 0 and the Unix epoch when none were ever set."""
        found = self._read("SELECT rules FROM rules WHERE project_id = ? ORDER BY version DESC LIMIT 1", (project_id,))
        if not found:
            return DynamicRules(timestamp=datetime.fromtimestamp(0, timezone.utc))
        return DynamicRules.model_validate_json(str(found[0][0]))

    def set_rules(self, project_id: str, rules: DynamicRules) -> DynamicRules:
        """Make `rules` the project's newest under the next version number, which is in what is returned."""
        with self._writing() as connection:
            newest = connection.execute("SELECT MAX(version) FROM rules WHERE project_id = ?", (project_id,))
            numbered = rules.model_copy(update={"version": (newest.fetchone()[0] or 0) + 1})
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
        found = self._read(
            f"SELECT id, project_id, batch_id, received_at, row FROM {table}"  # noqa: S608 - names of this module
            f" WHERE {' AND '.join(conditions)} ORDER BY id {order} LIMIT ?",
            [*parameters, limit],
        )
        rows = [StoredRow(*values) for values in found]  # type: ignore[arg-type]
        return rows if after is not None else rows[::-1]

    def agents(self) -> list[Agent]:
        """Return every installation that reported a status, the one seen last at the end."""
        found = self._read(
            "SELECT project_id, install_id, user_agent, last_seen, status FROM agents ORDER BY last_seen"
        )
        return [Agent(*values) for values in found]  # type: ignore[arg-type]

    def summary(self) -> Summary:
        """Count what is stored, by type."""
        return Summary(
            events=self._counts("events"),
            metrics=self._counts("metrics"),
            agents=int(str(self._read("SELECT COUNT(*) FROM agents")[0][0])),
        )

    def _counts(self, table: str) -> dict[str, int]:
        column = _KIND_COLUMN[table]
        found = self._read(f"SELECT {column}, COUNT(*) FROM {table} GROUP BY {column}")  # noqa: S608 - as above
        return {str(kind): int(str(count)) for kind, count in found}

    def close(self) -> None:
        """Close the file; nothing can be stored afterwards."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()


def _create_private(path: Path) -> None:
    """Create a missing file with mode 0600: SQLite would give it the mode of the umask."""
    # A file that exists is not opened: closing it again would drop the locks of this process's other connections.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection
