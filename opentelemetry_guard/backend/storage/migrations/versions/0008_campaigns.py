"""Which incidents are campaigns of many addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opentelemetry_guard.backend.storage.tables import Words

revision = "0008_campaigns"
down_revision = "0007_askers"


def upgrade() -> None:
    """Add what one is, and an index of those that are one."""
    op.add_column("incidents", sa.Column("campaigns", Words, nullable=False, server_default="[]"))
    is_one = sa.text("campaigns != '[]'")
    op.create_index(
        "incidents_of_campaigns",
        "incidents",
        ["project_id", "last_seen"],
        sqlite_where=is_one,
        postgresql_where=is_one,
    )
