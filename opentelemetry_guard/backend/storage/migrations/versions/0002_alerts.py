"""Alerts, their notifications, leases, and where users come from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opentelemetry_guard.backend.storage.tables import Number, Words

revision = "0002_alerts"
down_revision = "0001_begin"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Words, nullable=False)


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def upgrade() -> None:
    """Make the tables, and their indexes."""
    op.create_table(
        "alerts",
        sa.Column("id", Number, primary_key=True),
        *map(_text, ("project_id", "rule", "subject", "kind", "severity", "text")),
        sa.Column("count", Number, nullable=False),
        *(_real("opened_at"), _real("last_seen"), _text("state"), _real("state_since")),
        sa.Column("waiting", sa.Boolean, nullable=False),
        sa.Column("incident", Number),
        sa.UniqueConstraint("project_id", "rule", "subject"),
        sqlite_autoincrement=True,
    )
    op.create_index("alerts_by_opening", "alerts", ["project_id", "opened_at", "id"])
    op.create_table(
        "alert_notices",
        *map(_text, ("notice", "channel", "rule", "content")),
        *(_real("created_at"), sa.Column("failures", Number, nullable=False), _real("next_try"), _text("error")),
        *(sa.Column("error_at", sa.Double), sa.Column("sent_at", sa.Double)),
        sa.PrimaryKeyConstraint("notice", "channel"),
        sqlite_with_rowid=False,
    )
    op.create_index("alert_notices_by_time", "alert_notices", ["created_at"])
    op.create_table(
        "leases",
        *(_text("name"), _text("holder"), _real("until")),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "user_places",
        *map(_text, ("project_id", "kind", "user_name", "place")),
        *(_real("first_seen"), _real("last_seen")),
        sa.PrimaryKeyConstraint("project_id", "kind", "user_name", "place"),
        sqlite_with_rowid=False,
    )
    op.create_index("user_places_by_time", "user_places", ["project_id", "first_seen"])
