"""The next release takes over while this one is at work, and nothing that was acknowledged is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import URL, text
from support.backend import ROOT, running_backend
from support.load import Load, engine_of, stored_keys
from support.redis import eventually

from opentelemetry_guard.backend.storage.migrating import newest_version

pytestmark = pytest.mark.slow

NEXT = "9000_next"
RATE = 500.0
BATCHES = 5
"""Batches that a backend acknowledges before the test goes on."""

_MIGRATION = f'''
"""What a later release may bring: a column with a default, an index, and a table."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{newest_version()}"


def upgrade() -> None:
    op.add_column("events", sa.Column("planet", sa.Text, nullable=False, server_default="earth"))
    op.create_index("events_by_planet", "events", ["planet", "id"])
    op.create_table("planets", sa.Column("name", sa.Text, primary_key=True))
'''


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """A tree like this one, whose backend has another migration."""
    root = tmp_path / "next"
    package = root / "opentelemetry_guard"
    shutil.copytree(ROOT / "opentelemetry_guard", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "backend" / "storage" / "migrations" / "versions" / f"{NEXT}.py").write_text(_MIGRATION)
    return root


def found(database: Path | URL, statement: str) -> list[tuple[object, ...]]:
    engine = engine_of(database)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]
    finally:
        engine.dispose()


def test_a_rolling_upgrade_with_a_migration_loses_nothing(database: Path | URL, next_release: Path) -> None:
    with (
        running_backend(db=database) as first,
        running_backend(db=database) as second,
        Load([first.url, second.url], first.api_key, first.project, rate=RATE) as load,
    ):

        def acknowledges(*urls: str) -> None:
            before = load.batches_of.copy()
            eventually(
                lambda: all(load.batches_of[url] >= before[url] + BATCHES for url in urls), seconds=120, told=load.told
            )

        acknowledges(first.url, second.url)
        with running_backend(db=database, root=next_release) as third:
            assert found(database, "SELECT version_num FROM alembic_version") == [(NEXT,)]
            # The release before goes on, on tables that it doesn't know.
            load.urls.append(third.url)
            acknowledges(first.url, second.url, third.url)
            for old in (first, second):
                # A balancer notices that a backend is gone after a request has met it.
                old.stop()
                acknowledges(third.url)
                load.urls.remove(old.url)
            acknowledges(third.url)
            load.stop()
            with pytest.raises(RuntimeError, match=f"version {NEXT}, which this release doesn't know.*later release"):
                first.start()
    keys = stored_keys(database)
    assert len(keys) == len(set(keys))
    assert set(keys) == load.acknowledged
    assert found(database, "SELECT planet, count(*) FROM events GROUP BY planet") == [("earth", len(keys))]
