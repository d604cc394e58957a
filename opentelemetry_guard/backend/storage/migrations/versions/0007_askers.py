"""Which installations ask for rules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opentelemetry_guard.backend.storage.tables import Number, Words

revision = "0007_askers"
down_revision = "0006_rates"


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "askers",
        *(sa.Column(name, Words, nullable=False) for name in ("project_id", "install_id")),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("asked_at", "there_until")),
        sa.Column("ttl", Number, nullable=False, autoincrement=False),
        sa.Column("has", Number),
        sa.PrimaryKeyConstraint("project_id", "install_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("askers_by_end", "askers", ["there_until"])
