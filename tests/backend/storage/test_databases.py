"""What an SQLite file and a PostgreSQL database have in common, and how days lie in the latter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, inspect, make_url, select, text
from support.postgresql import Postgresql

from opentelemetry_guard.backend.storage import migrating
from opentelemetry_guard.backend.storage.incident_search import IncidentSearch
from opentelemetry_guard.backend.storage.leases import take_lease
from opentelemetry_guard.backend.storage.retention import Retention, apply_retention
from opentelemetry_guard.backend.storage.search import EventFilter, EventSearch
from opentelemetry_guard.backend.storage.sqlite import SqliteFile
from opentelemetry_guard.backend.storage.store import Store, StoreError
from opentelemetry_guard.backend.storage.tables import DAY_SECONDS, event_keys, metadata
from opentelemetry_guard.events.enrichment import CORRELATION_KEY
from opentelemetry_guard.models import SecurityEvent, SecurityMetric

NOW = 100 * DAY_SECONDS + 5.0
METRIC = SecurityMetric(metric_type="threat_level", value=1.0)


def indexes(engine: Engine) -> list[str]:
    """Return how each index is defined: what is reflected of them leaves out those of expressions."""
    said = {
        "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "postgresql": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename != 'alembic_version'",
    }
    with engine.connect() as connection:
        return sorted(connection.scalars(text(said[engine.dialect.name])))


def shape(url: URL) -> dict[str, object]:
    """Return the columns and keys of each table, and the indexes."""
    engine = create_engine(url)
    try:
        found = inspect(engine)
        return {
            table: (
                [(one["name"], str(one["type"]), one["nullable"]) for one in found.get_columns(table)],
                found.get_pk_constraint(table)["constrained_columns"],
                [tuple(one["column_names"]) for one in found.get_unique_constraints(table)],
            )
            for table in found.get_table_names()
            if table != "alembic_version"
        } | {"indexes": indexes(engine)}
    finally:
        engine.dispose()


def url_of(database: Path | URL) -> URL:
    return database if isinstance(database, URL) else URL.create("sqlite", database=str(database))


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection")
def test_the_revisions_lead_to_the_tables_that_are_declared(empty_database: Path | URL) -> None:
    url = url_of(empty_database)
    engine = create_engine(url)
    metadata.create_all(engine)
    declared = shape(url)
    metadata.drop_all(engine)
    engine.dispose()
    Store(empty_database).close()
    assert shape(url) == declared


def test_the_revisions_are_one_chain_in_the_order_of_their_files() -> None:
    chain = [script.revision for script in ScriptDirectory(migrating.SCRIPTS).walk_revisions()]
    assert chain == sorted(migrating.known_versions(), reverse=True)
    assert chain[0] == migrating.newest_version()


def test_a_database_that_was_opened_by_many_at_once_is_brought_up_to_date_once(empty_database: Path | URL) -> None:
    if isinstance(empty_database, Path):
        SqliteFile(empty_database).engine(1, reading=False).dispose()
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(Store, [empty_database] * 4))
    for number, store in enumerate(stores):
        with closing(store):
            assert store.add("p", f"b{number}", [SecurityEvent(event_type="e")], [], NOW).accepted == 1


def test_stores_that_are_sent_the_same_at_once_keep_it_once(database: Path | URL) -> None:
    events, metric = [SecurityEvent(event_type="e") for _ in range(50)], METRIC
    with closing(Store(database)) as one, closing(Store(database)) as other, ThreadPoolExecutor(4) as threads:
        counted = list(
            threads.map(lambda number: (one, other)[number % 2].add("p", "b", events, [metric], NOW), range(8))
        )
        assert sum(one.accepted for one in counted) == 51
        assert [row.id for row in one.events(100)] == list(range(1, 51))
        assert one.summary().events == {"e": 50}


def test_text_that_cannot_be_stored_is_shown_as_what_cannot_be_shown(store: Store) -> None:
    strange = SecurityEvent(event_type="a\0b", ip_address="\0", endpoint="/\0", metadata={"k": "\0"})
    assert store.add("p", "b\0", [strange], [METRIC], NOW).accepted == 2
    (found,) = EventSearch(store.database).page(EventFilter("p", event_type="a\0b"), None, 10).found
    assert SecurityEvent.model_validate_json(found.row) == strange
    assert store.add("p", "b\0", [], [METRIC], NOW).duplicates == 1


WRITTEN_OTHERWISE = ["a\tb", "a\nb\r", "\\N", "\\.", "\\", "\\n\\t", '"', "'", "100 %s", "\x1f\x7f\x01", "ü€𝄞"]
"""Texts that mean something on the way into a database, if they aren't escaped there."""


@pytest.mark.parametrize("value", WRITTEN_OTHERWISE)
def test_text_of_any_kind_comes_back_as_it_was(store: Store, value: str) -> None:
    strange = SecurityEvent(
        event_type=value, ip_address=value, endpoint=value, reason=value, metadata={CORRELATION_KEY: value}
    )
    assert store.add("p", value, [strange], [], NOW).accepted == 1
    asked = EventFilter("p", event_type=value, address=value, endpoint=value)
    (found,) = EventSearch(store.database).page(asked, None, 10).found
    assert (SecurityEvent.model_validate_json(found.row), found.batch_id) == (strange, value)
    (incident,) = IncidentSearch(store.database).latest("", 10)
    assert (incident.correlation_key, incident.event_types) == (value, [value])


def test_what_was_dropped_is_forgotten_with_its_keys(store: Store) -> None:
    old, kept = SecurityEvent(event_type="old"), SecurityEvent(event_type="kept")
    store.add("p", "a", [old], [], NOW - 9 * DAY_SECONDS)
    store.add("p", "b", [kept], [], NOW)
    assert apply_retention(store.database, Retention(days=3), NOW) == 1
    assert len(store.database.read(select(event_keys.c.key))) == 1
    assert store.summary().events == {"old": 0, "kept": 1} or store.summary().events == {"kept": 1}
    assert (store.add("p", "c", [kept], [], NOW).accepted, store.add("p", "d", [old], [], NOW).accepted) == (0, 1)


def test_a_lease_is_one_holder_s_until_it_ends(store: Store) -> None:
    assert take_lease(store.database, "duty", "one", NOW, 10)
    assert not take_lease(store.database, "duty", "other", NOW + 9, 10)
    assert take_lease(store.database, "duty", "one", NOW + 9, 10)
    assert not take_lease(store.database, "duty", "other", NOW + 11, 10)
    assert take_lease(store.database, "duty", "other", NOW + 20, 10)


@pytest.fixture
def parts(postgresql: Postgresql) -> Callable[[Store], list[str]]:
    def names(store: Store) -> list[str]:
        listed = text(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY 1"
        )
        return [name for (name,) in store.database.read(listed)]

    return names


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_is_read_is_planned_for_its_values(store: Store) -> None:
    asked = select(event_keys.c.day).where(event_keys.c.day > 5)
    with store.database.reading() as connection:
        for _ in range(20):
            connection.execute(asked)
        prepared = connection.scalars(text("SELECT statement FROM pg_prepared_statements")).all()
    assert prepared == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_day_is_a_table_of_its_own_and_is_dropped_as_a_whole(
    store: Store, parts: Callable[[Store], list[str]]
) -> None:
    for day in (90, 91, 99, 100):
        events = [SecurityEvent(event_type="e") for _ in range(10)]
        store.add("p", f"b{day}", events, [METRIC], day * DAY_SECONDS + 7.0)
    assert parts(store) == ["events_100", "events_90", "events_91", "events_99"]
    assert apply_retention(store.database, Retention(days=5), NOW) == 22
    assert parts(store) == ["events_100", "events_99"]
    # A bound on the number takes whole days first, and the rest row by row.
    assert apply_retention(store.database, Retention(rows=4), NOW) == 16
    assert parts(store) == ["events_100"]
    assert store.summary().events == {"e": 4}
    assert store.summary().metrics == {METRIC.metric_type: 2}


def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(StoreError, match="mysql://user@host/d is of no known kind"):
        Store(make_url("mysql://user@host/d"))


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    url = URL.create("postgresql", "guard", "secret word", database="d", query={"host": str(tmp_path)})
    with pytest.raises(StoreError, match=r"postgresql://guard:\*\*\*@/d.* cannot be opened") as refused:
        Store(url)
    assert "secret" not in str(refused.value)
