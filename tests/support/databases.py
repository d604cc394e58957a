"""Both kinds of databases as fixtures, for all tests: what takes one is run on an SQLite file and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sqlalchemy import URL
    from support.postgresql import Postgresql

    from opentelemetry_guard.backend.storage.store import Store

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A server for all tests of this process."""
    from support.postgresql import running_postgresql

    with running_postgresql() as server:
        yield server


@contextmanager
def _made(request: pytest.FixtureRequest, directory: Path, *, empty: bool = False) -> Iterator[Path | URL]:
    if request.param == "sqlite":
        yield directory / "backend.db"
        return
    server: Postgresql = request.getfixturevalue("postgresql")
    with server.database(empty=empty) as url:
        yield url


@pytest.fixture(params=KINDS)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | URL]:
    """Where a store can be: in a file that doesn't exist yet, or in a database without tables."""
    with _made(request, tmp_path, empty=True) as made:
        yield made


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | URL]:
    """Where a store is that has nothing yet."""
    with _made(request, tmp_path) as made:
        yield made


@pytest.fixture
def store(database: Path | URL) -> Iterator[Store]:
    """A store that has nothing yet."""
    from opentelemetry_guard.backend.storage.store import Store

    with closing(Store(database)) as opened:
        yield opened


@pytest.fixture(scope="module", params=KINDS)
def module_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | URL]:
    """One for all tests of a module."""
    with _made(request, tmp_path_factory.mktemp("database")) as made:
        yield made


@pytest.fixture(scope="module")
def module_store(module_database: Path | URL) -> Iterator[Store]:
    """One for all tests of a module: each has a project of its own, or only reads."""
    from opentelemetry_guard.backend.storage.store import Store

    with closing(Store(module_database)) as opened:
        yield opened
