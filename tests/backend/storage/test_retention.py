"""Old rows go, others stay, and the figures with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import URL, text
from support.backend import running_backend
from support.redis import eventually
from support.sending import batch, event, post

from opentelemetry_guard.backend.storage import retention as retention_module
from opentelemetry_guard.backend.storage.overview import WINDOWS, overview
from opentelemetry_guard.backend.storage.retention import Retention, apply_retention
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import SecurityEvent, SecurityMetric

DAY = 86_400.0
NOW = 30 * DAY


@pytest.fixture
def store(database: Path | URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(retention_module, "_ROWS_AT_A_TIME", 2)
    with closing(Store(database)) as opened:
        for days in (9, 8, 7, 2, 1):
            moment = datetime.fromtimestamp(NOW - days * DAY, timezone.utc)
            event = SecurityEvent(event_type=f"{days} days", timestamp=moment, ip_address="192.0.2.1")
            metric = SecurityMetric(metric_type="threat_level", value=days, timestamp=moment)
            opened.add("p", f"b{days}", [event], [metric], NOW - days * DAY)
        yield opened


def kept(store: Store) -> list[str]:
    return [SecurityEvent.model_validate_json(row.row).event_type for row in store.events(100)]


def test_rows_older_than_the_days_are_deleted_from_both_tables(store: Store) -> None:
    assert apply_retention(store.database, Retention(days=5), NOW) == 6
    assert kept(store) == ["2 days", "1 days"]
    assert store.summary().metrics == {"threat_level": 2}
    figures = overview(store.database, "p", WINDOWS[-1], NOW)
    assert (figures.events, figures.addresses) == (2, [("192.0.2.1", 2)])


def test_the_oldest_rows_beyond_the_number_are_deleted(store: Store) -> None:
    assert apply_retention(store.database, Retention(rows=3), NOW) == 4
    assert kept(store) == ["7 days", "2 days", "1 days"]


def test_figures_that_no_page_shows_any_more_are_deleted_where_only_the_number_is_bounded(store: Store) -> None:
    apply_retention(store.database, Retention(rows=100), NOW)
    minutes = store.database.read(text("SELECT DISTINCT minute * 60 FROM event_minutes ORDER BY 1"))
    assert [(NOW - float(str(moment))) / DAY for (moment,) in minutes] == [8, 7, 2, 1]


@pytest.mark.parametrize("bounds", [Retention(), Retention(days=10), Retention(rows=5)])
def test_within_the_bounds_everything_stays(store: Store, bounds: Retention) -> None:
    assert apply_retention(store.database, bounds, NOW) == 0
    assert len(kept(store)) == 5


def test_a_backend_deletes_what_it_is_not_to_keep_when_it_starts(tmp_path: Path) -> None:
    db = tmp_path / "backend.db"
    with running_backend(db=db) as backend:
        assert post(backend, "/api/v1/events", batch(events=[event() for _ in range(10)])).status_code == 200
        newest = backend.events()[-3:]
    with running_backend(db=db, keep_rows="3") as backend:
        eventually(lambda: backend.events() == newest and sum(backend.summary()["events"].values()) == 3)
