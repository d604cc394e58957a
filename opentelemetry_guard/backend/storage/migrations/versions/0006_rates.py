"""Token buckets, which all processes draw from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opentelemetry_guard.backend.storage.tables import Words

revision = "0006_rates"
down_revision = "0005_sessions"


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "rate_buckets",
        sa.Column("name", Words, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("tokens", "since", "full_at")),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_index("rate_buckets_by_filling", "rate_buckets", ["full_at"])
