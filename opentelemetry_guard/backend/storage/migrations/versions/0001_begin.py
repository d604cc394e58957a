"""The first tables that SQLite and PostgreSQL have in common."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opentelemetry_guard.backend.storage.tables import Number, Words

revision = "0001_begin"
down_revision = None


def upgrade() -> None:
    """Make them, and their indexes."""
    _rows()
    _keys()
    _settings()
    _rollups()
    _incidents()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Words, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, Number, nullable=False, autoincrement=False)


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def _rows() -> None:
    """Events and metrics: in one table with a key on SQLite, in parts by the day of arrival on PostgreSQL."""
    searched = ("event_type", "action", "address", "endpoint", "service")
    own_key = (sa.PrimaryKeyConstraint("id"),) if _is_sqlite() else ()
    op.create_table(
        "events",
        *(_number("id"), _text("project_id"), _text("batch_id"), _real("received_at"), _real("occurred_at")),
        *(_text(name) for name in (*searched, "row")),
        *own_key,
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_table(
        "metrics",
        *(_number("id"), _text("project_id"), _text("batch_id"), _real("received_at")),
        *(_text("metric_type"), _text("row")),
        *own_key,
        postgresql_partition_by="RANGE (received_at)",
    )
    for name in ("address", "endpoint"):
        others = [other for other in searched if other != name] if _is_sqlite() else []
        op.create_index(f"events_by_{name}", "events", ["project_id", name, "occurred_at", "id", *others])
    op.create_index(
        "events_by_time", "events", ["project_id", "occurred_at", "id", *(searched if _is_sqlite() else ())]
    )
    for name in ("event_type", "action", "service"):
        op.create_index(f"events_by_{name}", "events", ["project_id", name, "occurred_at", "id"])
    op.create_index("events_by_kind", "events", ["event_type", "id"])
    op.create_index("metrics_by_type", "metrics", ["metric_type", "id"])
    for table in ("events", "metrics"):
        name, column = ("arrival", "received_at") if _is_sqlite() else ("id", "id")
        op.create_index(f"{table}_by_{name}", table, [column])


def _keys() -> None:
    """What was stored before, and how much of it there is."""
    op.create_table(
        "event_keys",
        *(_text("project_id"), sa.Column("key", sa.LargeBinary, nullable=False), _number("day")),
        sa.PrimaryKeyConstraint("project_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("event_keys_by_day", "event_keys", ["day"], postgresql_using="brin")
    op.create_table(
        "metric_batches",
        *(_text("project_id"), _text("batch_id"), _real("received_at")),
        sa.PrimaryKeyConstraint("project_id", "batch_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("metric_batches_by_arrival", "metric_batches", ["received_at"], postgresql_using="brin")
    op.create_table(
        "last_ids",
        *(_text("content"), _number("last_id")),
        sa.PrimaryKeyConstraint("content"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stored_rows",
        *(_text("content"), _number("day"), _text("kind"), _number("amount")),
        sa.PrimaryKeyConstraint("content", "day", "kind"),
        sqlite_with_rowid=False,
    )


def _settings() -> None:
    """What somebody has set, and who reported."""
    op.create_table(
        "agents",
        *(_text("project_id"), _text("install_id"), _text("user_agent"), _real("last_seen"), _text("status")),
        sa.PrimaryKeyConstraint("project_id", "install_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rules",
        *(_text("project_id"), _number("version"), _text("rules")),
        sa.PrimaryKeyConstraint("project_id", "version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", Number, primary_key=True),
        *(_text("project_id"), _text("label")),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        _real("created_at"),
        sa.Column("revoked_at", sa.Double),
        sa.Column("per_minute", Number),
        sa.Column("role", Words, nullable=False, server_default="sender"),
        sqlite_autoincrement=True,
    )


def _rollups() -> None:
    op.create_table(
        "event_minutes",
        *(_text("project_id"), _number("minute"), _text("event_type"), _number("events"), _number("blocked")),
        sa.PrimaryKeyConstraint("project_id", "minute", "event_type"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event_tops",
        *(_text("project_id"), _text("dimension"), _number("seconds"), _number("span"), _text("value")),
        _number("events"),
        sa.PrimaryKeyConstraint("project_id", "dimension", "seconds", "span", "value"),
        sqlite_with_rowid=False,
    )
    op.create_index("event_tops_by_events", "event_tops", ["project_id", "dimension", "seconds", "span", "events"])
    op.create_table(
        "metric_minutes",
        *(_text("project_id"), _number("minute"), _text("metric_type")),
        *(_real("total"), _real("weight"), _real("largest")),
        sa.PrimaryKeyConstraint("project_id", "minute", "metric_type"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "latency_minutes",
        *(_text("project_id"), _number("minute"), _number("bucket"), _real("requests")),
        sa.PrimaryKeyConstraint("project_id", "minute", "bucket"),
        sqlite_with_rowid=False,
    )


def _incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", Number, primary_key=True),
        *(_text("project_id"), _text("correlation_key"), _real("first_seen"), _real("last_seen")),
        *(_number(name) for name in ("events", "requests", "stopped", "severity", "threat_score")),
        *(_text(name) for name in ("last_action", "event_types", "addresses", "targets", "latest")),
        *(_number("last_event"), _text("state"), _real("state_since")),
        sa.Column("over", Number, nullable=False, server_default="0"),
        sa.UniqueConstraint("project_id", "correlation_key", "over"),
        sqlite_autoincrement=True,
    )
    op.create_index("incidents_by_activity", "incidents", ["project_id", "last_seen", "id", "state", "severity"])
