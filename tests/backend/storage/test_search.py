"""Events are found by what is asked for, in order, page by page, and none twice."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from datetime import datetime, timezone
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from opentelemetry_guard.backend.storage import looks as looks_module
from opentelemetry_guard.backend.storage.paging import Cursor
from opentelemetry_guard.backend.storage.search import EventFilter, EventSearch
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import SecurityEvent

PROJECT = "p"
RECEIVED = 2e9
numbers = count()
"""A project for each example."""
EVENTS = st.builds(
    lambda moment, kind, address, endpoint, action, metadata: SecurityEvent(
        timestamp=datetime.fromtimestamp(moment, timezone.utc),
        event_type=kind,
        ip_address=address,
        endpoint=endpoint,
        action_taken=action,
        metadata=metadata,
    ),
    st.integers(0, 20),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["10.0.0.1", "10.0.0.2", "192.0.2.1", ""]),
    st.sampled_from(["/a", "/a/b", "/c", None]),
    st.sampled_from(["", "blocked"]),
    st.sampled_from([{}, {"guard.service.name": "shop"}, {"guard.service.name": ["odd"]}]),
)
FILTERS = st.builds(
    EventFilter,
    st.just(PROJECT),
    st.sampled_from(["", "a", "none"]),
    st.sampled_from(["", "10.0.0.1", "10.*", "*"]),
    st.sampled_from(["", "/a", "/a*"]),
    st.sampled_from(["", "blocked"]),
    st.none() | st.integers(0, 20).map(float),
    st.none() | st.integers(0, 20).map(float),
    st.sampled_from(["", "shop", "none"]),
)


def matches(event: SecurityEvent, wanted: EventFilter) -> bool:
    def text(value: str, pattern: str) -> bool:
        return value.startswith(pattern[:-1]) if pattern.endswith("*") else pattern in ("", value)

    moment = event.timestamp.timestamp()
    return (
        wanted.event_type in ("", event.event_type)
        and wanted.action in ("", event.action_taken)
        and wanted.service in ("", event.metadata.get("guard.service.name"))
        and text(event.ip_address, wanted.address)
        and text(event.endpoint or "", wanted.endpoint)
        and (wanted.since is None or moment >= wanted.since)
        and (wanted.until is None or moment < wanted.until)
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENTS, max_size=25), FILTERS, st.integers(1, 7), st.integers(3, 30), st.integers(1, 30))
def test_the_pages_together_are_every_match_newest_first(
    module_store: Store, events: list[SecurityEvent], wanted: EventFilter, page_size: int, compared: int, first: int
) -> None:
    wanted = replace(wanted, project_id=f"p{next(numbers)}")
    module_store.add(wanted.project_id, "b", events, [], RECEIVED)
    module_store.add(f"other{wanted.project_id}", "b", events, [], RECEIVED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks_module, "COMPARED_ROWS", compared)
        patch.setattr(looks_module, "STRETCH_ROWS", first)
        found = list(EventSearch(module_store.database).everything(wanted, page_size))
    keys = [SecurityEvent.model_validate_json(one.row).idempotency_key for one in found]
    expected = [
        event.idempotency_key
        for _, _, event in sorted(
            ((event.timestamp, number, event) for number, event in enumerate(events) if matches(event, wanted)),
            key=lambda one: one[:2],
            reverse=True,
        )
    ]
    assert keys == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENTS, max_size=15), FILTERS, st.integers(0, 15))
def test_what_arrived_after_an_id_is_what_matches_among_the_later_rows(
    module_store: Store, events: list[SecurityEvent], wanted: EventFilter, after: int
) -> None:
    search, wanted = EventSearch(module_store.database), replace(wanted, project_id=f"p{next(numbers)}")
    before = search.newest_id()
    module_store.add(wanted.project_id, "b", events, [], RECEIVED)
    found = search.arrived(wanted, before + after, 100)
    assert [one.id - before for one in found] == [
        number for number in range(len(events), after, -1) if matches(events[number - 1], wanted)
    ]


def test_a_page_that_compares_too_many_rows_says_so_and_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks_module, "COMPARED_ROWS", 5)
    events = [
        SecurityEvent(event_type="a" if number == 0 else "b", ip_address="10.0.0.1", action_taken="x")
        for number in range(12)
    ]
    store.add(PROJECT, "b", events, [], RECEIVED)
    search, wanted = EventSearch(store.database), EventFilter(PROJECT, event_type="a", address="10.*")
    first = search.page(wanted, None, 10)
    assert (first.found, first.cut_short, first.looked_at) == ([], True, 5)
    assert len(list(search.everything(wanted))) == 1


@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_a_look_ends_when_its_time_is_over_and_the_next_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(looks_module, "STRETCH_ROWS", 2)
    monkeypatch.setattr(looks_module, "LOOK_SECONDS", seconds)
    events = [SecurityEvent(event_type="ab"[number % 2], ip_address="10.0.0.1") for number in range(12)]
    store.add(PROJECT, "b", events, [], RECEIVED)
    search, wanted = EventSearch(store.database), EventFilter(PROJECT, event_type="a", address="10.*")
    first = search.page(wanted, None, 10)
    assert (len(first.found), first.looked_at) == ((1, 2) if seconds == 0 else (6, 0))
    counts, more = search.counts(wanted, 60)
    assert (counts.total(), more) == ((1, True) if seconds == 0 else (6, False))
    assert len(list(search.everything(wanted))) == 6


def sqlite_of(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def steps(store: Store, wanted: EventFilter, before: Cursor | None) -> int:
    """Count the steps of SQLite that one page takes."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    # The connection that was put back last is the next one to be used.
    with store.database.reading() as connection:
        sqlite_of(connection).set_progress_handler(count, 1)
    EventSearch(store.database).page(wanted, before, 10)
    with store.database.reading() as connection:
        sqlite_of(connection).set_progress_handler(None, 1)
    return taken


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "wanted", [EventFilter(PROJECT), EventFilter(PROJECT, event_type="a"), EventFilter(PROJECT, until=1e9)]
)
def test_a_page_takes_as_much_work_wherever_it_lies(store: Store, wanted: EventFilter) -> None:
    events = [
        SecurityEvent(event_type="a", timestamp=datetime.fromtimestamp(number, timezone.utc)) for number in range(3000)
    ]
    store.add(PROJECT, "b", events, [], RECEIVED)
    newest = steps(store, wanted, Cursor(2999.0, 3000))
    assert 0 < steps(store, wanted, Cursor(100.0, 101)) < 1.2 * newest


def test_an_event_from_the_future_counts_as_happened_when_it_came(store: Store) -> None:
    ahead = SecurityEvent(event_type="e", timestamp=datetime(9999, 1, 1, tzinfo=timezone.utc))
    store.add(PROJECT, "b", [ahead], [], RECEIVED)
    (found,) = EventSearch(store.database).page(EventFilter(PROJECT), None, 10).found
    assert found.occurred_at == RECEIVED


def test_choices_are_each_value_once(store: Store) -> None:
    store.add(PROJECT, "b", [SecurityEvent(event_type=kind, action_taken=kind * 2) for kind in "abab"], [], RECEIVED)
    search = EventSearch(store.database)
    assert (search.event_types(PROJECT), search.actions(PROJECT)) == (["a", "b"], ["aa", "bb"])
    assert (search.event_types("none"), search.projects()) == ([], [PROJECT])


@given(st.floats(-1e12, 1e12), st.integers(0, 10**17))
def test_a_cursor_survives_a_url(moment: float, number: int) -> None:
    assert Cursor.parse(str(Cursor(moment, number))) == Cursor(moment, number)


@pytest.mark.parametrize("text", ["", "1", "x_1", "1_x", "nan_1", "1_1; DROP", "1__1"])
def test_anything_else_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="place in the list"):
        Cursor.parse(text)
