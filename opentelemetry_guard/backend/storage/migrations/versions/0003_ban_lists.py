"""Ban lists of others, by URL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opentelemetry_guard.backend.storage.tables import Number, Words

revision = "0003_ban_lists"
down_revision = "0002_alerts"


def upgrade() -> None:
    """Make their table."""
    texts = ("project_id", "url", "headers", "etag", "last_modified", "problem")
    op.create_table(
        "ban_lists",
        *(sa.Column(name, Words, nullable=False) for name in texts),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("every", "due_at", "checked_at", "changed_at")),
        *(sa.Column(name, Number, nullable=False, autoincrement=False) for name in ("size", "passed_over")),
        sa.Column("content", Words, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "url"),
    )
