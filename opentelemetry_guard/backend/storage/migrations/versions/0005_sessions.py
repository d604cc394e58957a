"""What signs the dashboard's sessions, and which of them were ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opentelemetry_guard.backend.storage.tables import Words

revision = "0005_sessions"
down_revision = "0004_traces"


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "signing_keys",
        sa.Column("name", Words, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ended_sessions",
        sa.Column("id", Words, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
