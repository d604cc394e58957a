"""What the store keeps of what it is given."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentelemetry_guard.backend.bans import with_ban
from opentelemetry_guard.backend.storage.incident_search import IncidentSearch
from opentelemetry_guard.backend.storage.keys import SENDER, StoredKeys
from opentelemetry_guard.backend.storage.overview import WINDOWS, overview
from opentelemetry_guard.backend.storage.search import EventFilter, EventSearch
from opentelemetry_guard.backend.storage.store import SCHEMA_VERSION, Store, StoreError, Summary
from opentelemetry_guard.events.enrichment import CORRELATION_KEY
from opentelemetry_guard.models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "backend.db")) as opened:
        yield opened


def event(key: str) -> SecurityEvent:
    return SecurityEvent(idempotency_key=key_of(key), event_type="e")


def key_of(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


METRIC = SecurityMetric(metric_type="threat_level", value=1.0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.sampled_from("abc"), st.lists(st.sampled_from("1234"), max_size=5)),
        max_size=8,
    )
)
def test_each_key_of_a_project_is_stored_once_and_every_row_is_counted(
    batches: list[tuple[str, str, list[str]]],
) -> None:
    with tempfile.TemporaryDirectory() as directory, closing(Store(Path(directory, "b.db"))) as store:
        first_seen: dict[tuple[str, str], None] = {}
        for project, batch_id, keys in batches:
            new = {(project, key) for key in keys} - first_seen.keys()
            first_seen |= dict.fromkeys((project, key) for key in keys)
            counted = store.add(project, batch_id, [event(key) for key in keys], [], 1.0)
            assert (counted.accepted, counted.duplicates) == (len(new), len(keys) - len(new))
        kept = [
            (row.project_id, SecurityEvent.model_validate_json(row.row).idempotency_key) for row in store.events(1000)
        ]
        assert kept == [(project, key_of(key)) for project, key in first_seen]


def test_the_same_batch_of_metrics_in_two_projects_is_two_batches(store: Store) -> None:
    assert store.add("p", "b", [], [METRIC, METRIC], 1.0).accepted == 2
    assert store.add("q", "b", [], [METRIC, METRIC], 1.0).accepted == 2
    assert store.add("p", "b", [], [METRIC, METRIC], 1.0).duplicates == 2
    assert store.summary().metrics == {"threat_level": 4}


def test_threads_that_send_the_same_rows_store_them_once(store: Store) -> None:
    events = [event(str(number)) for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(lambda number: store.add("p", f"b{number}", events, [], 1.0), range(16)))
    assert sum(one.accepted for one in counted) == 50
    assert len(store.events(1000)) == 50


def test_changes_that_are_made_at_once_all_come_to_stand(store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        addresses = [f"192.0.2.{number}" for number in range(40)]
        list(threads.map(lambda one: store.change_rules("p", lambda newest: with_ban(newest, one)), addresses))
    newest = store.rules("p")
    assert (newest.version, sorted(newest.ip_blacklist)) == (40, sorted(addresses))


def test_a_change_that_fails_leaves_the_rules_as_they_are(store: Store) -> None:
    before = store.rules("p")
    with pytest.raises(ValueError, match="neither an IP address"):
        store.change_rules("p", lambda newest: with_ban(newest, "nobody"))
    assert store.rules("p") == before


def test_a_transaction_that_cannot_be_committed_leaves_the_store_usable(store: Store) -> None:
    with store.database.writing() as connection:
        connection.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE other (one INTEGER REFERENCES one DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError), store.database.writing():
        connection.execute("INSERT INTO other VALUES (7)")
    store.add("p", "b", [event("1")], [], 1.0)
    assert len(store.events(10)) == 1
    assert store.database.read("SELECT * FROM other") == []


def test_rules_are_numbered_and_kept_for_each_project(store: Store) -> None:
    assert (store.rules("p").version, store.rules("p")) == (0, store.rules("p"))
    assert store.set_rules("p", DynamicRules(version=99, message="first")).version == 1
    second = store.set_rules("p", DynamicRules(message="second"))
    assert (second.version, store.rules("p"), store.rules("q").version) == (2, second, 0)


def test_agents_are_listed_with_the_one_seen_last_at_the_end(store: Store) -> None:
    status = AgentStatus(status="degraded", uptime=1.0)
    for install_id, last_seen in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        store.set_status("p", install_id, "agent/1", status, last_seen)
    assert [(agent.install_id, agent.last_seen) for agent in store.agents()] == [("b", 2.0), ("a", 3.0)]
    assert store.summary().agents == 2


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "backend.db")) as store:
        store.add("p", "b", [event("1")], [], 1.0)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("backend.db", "backend.db-wal", "backend.db-shm"), 0o600)


def test_two_stores_on_one_file_see_each_other(tmp_path: Path, store: Store) -> None:
    with closing(Store(store.path)) as other:
        other.add("p", "b", [event("1")], [], 1.0)
        assert store.add("p", "c", [event("1"), event("2")], [], 1.0).duplicates == 1
    assert len(store.events(10)) == 2


def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match=r"newer\.db has version \d+.*use another file"):
        Store(path)


VERSION_1 = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    batch_id TEXT NOT NULL, received_at REAL NOT NULL, event_type TEXT NOT NULL, row TEXT NOT NULL,
    UNIQUE (project_id, idempotency_key)
);
CREATE INDEX events_by_type ON events (event_type, id);
CREATE TABLE metric_batches (project_id TEXT NOT NULL, batch_id TEXT NOT NULL, PRIMARY KEY (project_id, batch_id))
    WITHOUT ROWID;
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, batch_id TEXT NOT NULL, received_at REAL NOT NULL,
    metric_type TEXT NOT NULL, row TEXT NOT NULL
);
CREATE INDEX metrics_by_type ON metrics (metric_type, id);
CREATE TABLE agents (
    project_id TEXT NOT NULL, install_id TEXT NOT NULL, user_agent TEXT NOT NULL, last_seen REAL NOT NULL,
    status TEXT NOT NULL, PRIMARY KEY (project_id, install_id)
) WITHOUT ROWID;
CREATE TABLE rules (
    project_id TEXT NOT NULL, version INTEGER NOT NULL, rules TEXT NOT NULL, PRIMARY KEY (project_id, version)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


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
    with closing(sqlite3.connect(path)) as old, old:
        for index in ("events_by_time", "events_by_address", "events_by_endpoint", "events_by_service"):
            old.execute(f"DROP INDEX {index}")
        old.execute("ALTER TABLE events DROP COLUMN service")
        old.execute("CREATE INDEX events_by_time ON events (project_id, occurred_at)")
        old.execute("CREATE INDEX events_by_address ON events (project_id, address)")
        old.execute("CREATE INDEX events_by_endpoint ON events (project_id, endpoint)")
        old.execute("DROP TABLE incidents")
        old.execute("ALTER TABLE api_keys DROP COLUMN role")
        old.execute("PRAGMA user_version = 2")
    for _ in range(2):
        with closing(Store(path)) as store:
            search = EventSearch(store.database)
            assert search.services("p") == ["shop"]
            (found,) = search.page(EventFilter("p", service="shop"), None, 10).events
            assert found.row == named.model_dump_json()
            assert len(search.page(EventFilter("p"), None, 10).events) == 2


def test_a_file_of_version_3_gets_the_incidents_of_the_events_in_it(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    of_one = [SecurityEvent(event_type="ip_blocked", metadata={CORRELATION_KEY: "k"}) for _ in range(3)]
    with closing(Store(path)) as store:
        store.add("p", "b", [*of_one, event("1")], [], 1.0)
        (counted,) = IncidentSearch(store.database).latest("", 10)
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("DROP TABLE incidents")
        old.execute("ALTER TABLE api_keys DROP COLUMN role")
        old.execute("PRAGMA user_version = 3")
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
    with closing(sqlite3.connect(path)) as old, old:
        (now,) = old.execute("SELECT sql FROM sqlite_master WHERE name = 'incidents'").fetchone()
        columns = ", ".join(row[1] for row in old.execute("PRAGMA table_info(incidents)") if row[1] != "over")
        then = now.replace("over INTEGER NOT NULL DEFAULT 0,", "").replace("correlation_key, over", "correlation_key")
        old.execute("DROP INDEX incidents_by_activity")
        old.execute("ALTER TABLE incidents RENAME TO later")
        old.execute(then)
        old.execute(f"INSERT INTO incidents SELECT {columns} FROM later")
        old.execute("DROP TABLE later")
        old.execute("CREATE INDEX incidents_by_activity ON incidents (project_id, last_seen, id, state, severity)")
        old.execute("ALTER TABLE api_keys DROP COLUMN role")
        old.execute("PRAGMA user_version = 4")
    with closing(Store(path)) as store:
        assert IncidentSearch(store.database).latest("", 10) == [counted]
        store.add("p", "c", [of_one(90)], [], 2e9)
        assert [one.events for one in IncidentSearch(store.database).latest("", 10)] == [1, 1]


def test_the_keys_of_a_file_of_version_5_are_for_sending(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(Store(path)) as store:
        _, key = StoredKeys(store.database).create("p")
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("ALTER TABLE api_keys DROP COLUMN role")
        old.execute("PRAGMA user_version = 5")
    with closing(Store(path)) as store:
        grant = StoredKeys(store.database).grant(key)
        assert grant is not None
        assert grant.role == SENDER


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at " * 20)
    with pytest.raises(StoreError, match=r"notes\.txt cannot be (opened|used)"):
        Store(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="absent"):
        Store(tmp_path / "absent" / "backend.db")
