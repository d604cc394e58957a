"""What the store keeps of what it is given."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, text
from sqlalchemy.exc import IntegrityError

from opentelemetry_guard.backend.bans import with_ban
from opentelemetry_guard.backend.storage.store import Store, StoreError
from opentelemetry_guard.models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric


def event(key: str) -> SecurityEvent:
    return SecurityEvent(idempotency_key=key_of(key), event_type="e")


def key_of(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


numbers = count()
"""Projects of their own for each example."""
METRIC = SecurityMetric(metric_type="threat_level", value=1.0)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.sampled_from("abc"), st.lists(st.sampled_from("1234"), max_size=5)),
        max_size=8,
    )
)
def test_each_key_of_a_project_is_stored_once_and_every_row_is_counted(
    module_store: Store,
    batches: list[tuple[str, str, list[str]]],
) -> None:
    before = max((row.id for row in module_store.events(1)), default=0)
    first_seen: dict[tuple[str, str], None] = {}
    mine = f"{next(numbers)}-"
    for one, batch_id, keys in batches:
        project = mine + one
        new = {(project, key) for key in keys} - first_seen.keys()
        first_seen |= dict.fromkeys((project, key) for key in keys)
        counted = module_store.add(project, batch_id, [event(key) for key in keys], [], 1.0)
        assert (counted.accepted, counted.duplicates) == (len(new), len(keys) - len(new))
    kept = [
        (row.project_id, SecurityEvent.model_validate_json(row.row).idempotency_key)
        for row in module_store.events(1000, before)
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
        connection.execute(text("CREATE TABLE one (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE other (one INTEGER REFERENCES one DEFERRABLE INITIALLY DEFERRED)"))
    with pytest.raises(IntegrityError), store.database.writing() as connection:  # noqa: PT012
        if connection.dialect.name == "sqlite":
            connection.execute(text("COMMIT"))
            connection.execute(text("PRAGMA foreign_keys = ON"))
            connection.execute(text("BEGIN"))
        connection.execute(text("INSERT INTO other VALUES (7)"))
    store.add("p", "b", [event("1")], [], 1.0)
    assert len(store.events(10)) == 1
    assert store.database.read(text("SELECT * FROM other")) == []


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


def test_two_stores_on_one_database_see_each_other(database: Path | URL, store: Store) -> None:
    with closing(Store(database)) as other:
        other.add("p", "b", [event("1")], [], 1.0)
        assert store.add("p", "c", [event("1"), event("2")], [], 1.0).duplicates == 1
    assert len(store.events(10)) == 2


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at " * 20)
    with pytest.raises(StoreError, match=r"notes\.txt cannot be (opened|used)"):
        Store(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="absent"):
        Store(tmp_path / "absent" / "backend.db")
