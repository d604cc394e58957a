"""A file of an earlier release is opened, and nothing in it is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from support.old_databases import VERSION_1, make_old

from opentelemetry_guard.backend.storage.incident_search import IncidentSearch
from opentelemetry_guard.backend.storage.keys import StoredKeys
from opentelemetry_guard.backend.storage.overview import WINDOWS, overview
from opentelemetry_guard.backend.storage.retention import Retention, apply_retention
from opentelemetry_guard.backend.storage.search import EventFilter, EventSearch
from opentelemetry_guard.backend.storage.store import Store, StoreError, Summary
from opentelemetry_guard.events.enrichment import CORRELATION_KEY
from opentelemetry_guard.models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric

METRIC = SecurityMetric(metric_type="threat_level", value=1.0)


def test_a_file_of_version_1_is_taken_over_with_everything_in_it(tmp_path: Path) -> None:
    path, sent = tmp_path / "old.db", SecurityEvent(event_type="e", ip_address="192.0.2.1", endpoint="/a")
    with closing(sqlite3.connect(path)) as old, old:
        old.executescript(VERSION_1)
        old.execute(
            "INSERT INTO events VALUES (7, 'p', ?, 'b', 2e9, 'e', ?)", (sent.idempotency_key, sent.model_dump_json())
        )
        old.execute("INSERT INTO metrics VALUES (3, 'p', 'b', 2e9, 'threat_level', ?)", (METRIC.model_dump_json(),))
        old.execute("INSERT INTO metric_batches VALUES ('p', 'b')")
        old.execute("INSERT INTO agents VALUES ('p', 'i', 'agent/1', 5.0, '{}')")
        old.execute("INSERT INTO rules VALUES ('p', 4, ?)", (DynamicRules(version=4).model_dump_json(),))
    for _ in range(2):
        with closing(Store(path)) as store:
            (row,) = store.events(10)
            assert (row.id, row.row) == (7, sent.model_dump_json())
            assert store.summary() == Summary(events={"e": 1}, metrics={"threat_level": 1}, agents=1)
            assert store.rules("p").version == 4
            assert store.add("p", "b", [sent], [METRIC], 1.0).duplicates == 2
            figures = overview(store.database, "p", WINDOWS[0], sent.timestamp.timestamp())
            assert (figures.addresses, figures.endpoints) == ([("192.0.2.1", 1)], [("/a", 1)])


def test_a_file_of_version_2_gets_the_services_that_its_events_name(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    named = SecurityEvent(event_type="e", metadata={"guard.service.name": "shop"})
    with closing(Store(path)) as store:
        store.add("p", "b", [named, SecurityEvent(event_type="e", ip_address="192.0.2.1")], [], 1.0)
    make_old(path, 2)
    for _ in range(2):
        with closing(Store(path)) as store:
            search = EventSearch(store.database)
            assert search.services("p") == ["shop"]
            (found,) = search.page(EventFilter("p", service="shop"), None, 10).found
            assert found.row == named.model_dump_json()
            assert len(search.page(EventFilter("p"), None, 10).found) == 2


def test_a_file_of_version_3_gets_the_incidents_of_the_events_in_it(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    of_one = [SecurityEvent(event_type="ip_blocked", metadata={CORRELATION_KEY: "k"}) for _ in range(3)]
    with closing(Store(path)) as store:
        store.add("p", "b", [*of_one, SecurityEvent(event_type="e")], [], 1.0)
        (counted,) = IncidentSearch(store.database).latest("", 10)
    make_old(path, 3)
    for _ in range(2):
        with closing(Store(path)) as store:
            assert IncidentSearch(store.database).latest("", 10) == [counted]
            assert counted.events == 3


def test_the_incidents_of_a_file_of_version_4_go_on_or_end(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def of_one(day: int) -> SecurityEvent:
        at = began + timedelta(days=day)
        return SecurityEvent(event_type="ip_blocked", timestamp=at, metadata={CORRELATION_KEY: "k"})

    with closing(Store(path)) as store:
        store.add("p", "b", [of_one(0)], [], 2e9)
        (counted,) = IncidentSearch(store.database).latest("", 10)
        assert IncidentSearch(store.database).set_state("p", counted.id, "closed", 5.0)
        (counted,) = IncidentSearch(store.database).latest("", 10)
    make_old(path, 4)
    with closing(Store(path)) as store:
        assert IncidentSearch(store.database).latest("", 10) == [counted]
        store.add("p", "c", [of_one(90)], [], 2e9)
        assert [one.events for one in IncidentSearch(store.database).latest("", 10)] == [1, 1]


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_a_file_of_any_version_keeps_everything(tmp_path: Path, version: int) -> None:
    path, began = tmp_path / "old.db", datetime(2026, 1, 1, tzinfo=timezone.utc)
    sent = [
        SecurityEvent(
            event_type="ip_blocked",
            timestamp=began + timedelta(seconds=number),
            ip_address=f"192.0.2.{number}",
            metadata={CORRELATION_KEY: f"k{number % 3}"},
        )
        for number in range(9)
    ]
    with closing(Store(path)) as store:
        store.add("p", "b", sent[:5], [METRIC], began.timestamp())
        store.add("q", "b", sent[5:], [METRIC], began.timestamp() + 86_400)
        store.set_rules("p", DynamicRules(message="kept"))
        store.set_status("p", "i", "agent/1", AgentStatus(status="healthy", uptime=1.0), 5.0)
        _, key = StoredKeys(store.database).create("p")
        before = shown(store)
    make_old(path, version)
    for _ in range(2):
        with closing(Store(path)) as store:
            assert shown(store) == before
            grant = StoredKeys(store.database).grant(key)
            assert grant is not None
            assert (grant.project_id, grant.role) == ("p", "sender")
            assert store.add("p", "b", sent[:5], [METRIC], 2e9).accepted == 0
    with closing(Store(path)) as store:
        store.add("q", "c", [SecurityEvent(event_type="later")], [], 2e9)
        assert store.events(1)[0].id == 10
        assert apply_retention(store.database, Retention(rows=1), 2e9) == 10
        assert store.summary().events == {"later": 1}


def shown(store: Store) -> object:
    search = EventSearch(store.database)
    return (
        store.events(100),
        store.metrics(100),
        store.agents(),
        store.summary(),
        [store.rules(project) for project in "pq"],
        [search.page(EventFilter(project, address="192.0.2.*"), None, 100) for project in "pq"],
        sorted(map(str, IncidentSearch(store.database).latest("", 100))),
        [overview(store.database, project, WINDOWS[-1], 1_767_225_600 + 86_400) for project in "pq"],
    )


def test_a_file_with_a_number_of_no_release_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"newer\.db has version 99.*another one"):
        Store(path)


def test_a_file_that_a_later_release_has_changed_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_later'")
    with pytest.raises(StoreError, match=r"newer\.db has version 9999_later.*another one"):
        Store(path)
    # Releases that know numbers alone refuse it too.
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
