"""Processes that write to one SQLite file take turns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from opentelemetry_guard.backend.storage import sqlite
from opentelemetry_guard.backend.storage.database import DATABASE_ERRORS, Database, reason_of
from opentelemetry_guard.backend.storage.leases import take_lease


@contextmanager
def another_writer(path: Path) -> Iterator[None]:
    """Another process that writes until the end of the block, as far as SQLite can tell."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


def test_who_waits_for_another_process_writes_when_that_has_done(tmp_path: Path) -> None:
    path = tmp_path / "backend.db"
    with closing(Database(path)) as database, ThreadPoolExecutor(1) as thread:
        with another_writer(path):
            taken = thread.submit(take_lease, database, "duty", "one", 0.0, 10.0)
            assert not taken.done()
        assert taken.result(60)


def test_who_waits_for_too_long_is_told_that_the_database_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backend.db"
    with closing(Database(path)) as database:
        monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
        with another_writer(path), pytest.raises(DATABASE_ERRORS) as caught:
            take_lease(database, "duty", "one", 0.0, 10.0)
        assert reason_of(caught.value) == "database is locked"
        assert take_lease(database, "duty", "one", 0.0, 10.0)
