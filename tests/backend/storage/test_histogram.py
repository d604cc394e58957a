"""The histogram counts what the list shows, each event in the stretch of its time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentelemetry_guard.backend.storage import histogram as histogram_module
from opentelemetry_guard.backend.storage import looks as looks_module
from opentelemetry_guard.backend.storage.histogram import MOST_BARS, bar_seconds, histogram
from opentelemetry_guard.backend.storage.search import EventFilter, EventSearch
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import SecurityEvent

HOUR = 1_768_000_020.0 - 1_768_000_020.0 % 3600
EVENTS = st.builds(
    lambda minute, kind, address: SecurityEvent(
        timestamp=datetime.fromtimestamp(HOUR + minute * 60, timezone.utc), event_type=kind, ip_address=address
    ),
    st.integers(0, 12_000),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["10.0.0.1", "10.0.0.2"]),
)
FILTERS = st.builds(
    EventFilter,
    st.just("p"),
    st.sampled_from(["", "a", "none"]),
    st.sampled_from(["", "10.0.0.1", "10.*"]),
    since=st.none() | st.integers(0, 12_000).map(lambda minute: HOUR + minute * 60.0),
    until=st.none() | st.integers(0, 12_000).map(lambda minute: HOUR + minute * 60.0),
)

numbers = count()
"""A project for each example."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENTS, max_size=30), FILTERS)
def test_every_event_of_the_list_is_counted_in_its_bar(
    module_store: Store, events: list[SecurityEvent], wanted: EventFilter
) -> None:
    now = HOUR + 20_000 * 60
    wanted = replace(wanted, project_id=f"p{next(numbers)}")
    module_store.add(wanted.project_id, "b", events, [], now)
    found = list(EventSearch(module_store.database).everything(wanted))
    counted = histogram(module_store.database, wanted, now)
    if counted is None:
        assert found == []
        return
    assert len(counted.bars) <= MOST_BARS
    assert not counted.cut_short
    first, end = counted.bars[0][0], counted.bars[-1][0] + counted.seconds
    shown = [event.occurred_at for event in found if first <= event.occurred_at < end]
    expected = Counter(math.floor(moment / counted.seconds) * counted.seconds for moment in shown)
    assert {start: count for start, count in counted.bars if count} == expected
    if wanted.since is not None:
        assert len(shown) == len(found)


@given(st.floats(1, 1e11))
def test_a_span_of_any_length_has_room(span: float) -> None:
    seconds = bar_seconds(span)
    assert math.ceil(span / seconds) + 1 <= MOST_BARS
    assert seconds % 60 == 0


def test_a_project_without_events_has_none(store: Store) -> None:
    assert histogram(store.database, EventFilter("p"), HOUR) is None


@pytest.mark.parametrize("address", ["", "10.*"])
def test_what_is_not_looked_at_is_told(store: Store, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(histogram_module, "_MOST_COUNTS", 10)
    monkeypatch.setattr(looks_module, "COMPARED_ROWS", 10)
    events = [
        SecurityEvent(
            event_type="a",
            ip_address="10.0.0.1",
            timestamp=datetime.fromtimestamp(HOUR + minute * 60, timezone.utc),
        )
        for minute in range(30)
    ]
    store.add("p", "b", events, [], HOUR + 3600)
    counted = histogram(store.database, EventFilter("p", address=address), HOUR + 3600)
    assert counted is not None
    assert (counted.events, counted.cut_short) == (10, True)
