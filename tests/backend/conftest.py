"""Both kinds of databases: a test that takes `database` is run on an SQLite file, and on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.postgresql import Postgresql, running_postgresql

from opentelemetry_guard.backend.storage.store import Store


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A server for all tests of this process."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | URL]:
    """Where a store can be: in a file that doesn't exist yet, or in an empty database."""
    if request.param == "sqlite":
        yield tmp_path / "backend.db"
        return
    server: Postgresql = request.getfixturevalue("postgresql")
    with server.database() as url:
        yield url


@pytest.fixture
def store(database: Path | URL) -> Iterator[Store]:
    """An empty store in either."""
    with closing(Store(database)) as opened:
        yield opened
