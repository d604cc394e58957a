"""Finding the events of a trace."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_traces"
down_revision = "0003_ban_lists"


def upgrade() -> None:
    """Make an index of the trace ids that are in rows: none has to be written again."""
    position = "instr" if op.get_context().dialect.name == "sqlite" else "strpos"
    begins = f"""{position}("row", '"trace_id":"')"""
    has_one = sa.text(f"{begins} > 0")
    op.create_index(
        "events_by_trace",
        "events",
        ["project_id", sa.text(f"""lower(substr("row", {begins} + 12, 32))"""), "occurred_at", "id"],
        sqlite_where=has_one,
        postgresql_where=has_one,
    )
