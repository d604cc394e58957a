"""The overview's figures are those of the rows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentelemetry_guard.backend.storage.overview import WINDOWS, overview, threat_level
from opentelemetry_guard.backend.storage.rollups import latency_bucket, latency_of, quantile
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import SecurityEvent, SecurityMetric

NOW = datetime(2026, 3, 4, 12, 34, 56, tzinfo=timezone.utc).timestamp()
HOUR = WINDOWS[0]
numbers = count()
"""A project for each example."""


def at(seconds_ago: float) -> datetime:
    return datetime.fromtimestamp(NOW - seconds_ago, timezone.utc)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.sampled_from("abcdefgh"), st.sampled_from("xyz"), st.booleans()), max_size=40
    ),
    st.integers(1, 5),
)
def test_every_event_of_the_window_is_counted_once_in_each_figure(
    module_store: Store, made: list[tuple[int, str, str, bool]], batches: int
) -> None:
    project = f"p{next(numbers)}"
    events = [
        SecurityEvent(timestamp=at(ago), event_type=kind, ip_address=address, action_taken="blocked" * blocked)
        for ago, kind, address, blocked in made
    ]
    for number in range(batches):
        module_store.add(project, f"b{number}", events[number::batches], [], NOW)
    module_store.add(project, "again", events, [], NOW)
    figures = overview(module_store.database, project, HOUR, NOW)
    assert figures.events == len(made)
    assert figures.blocked == sum(blocked for *_, blocked in made)
    assert dict(figures.addresses) == Counter(address for _, _, address, _ in made)
    assert sum(many for _, many in figures.types) == len(made)
    assert sum(sum(bar.rates.values()) for bar in figures.bars) == pytest.approx(len(made))


def test_the_event_of_a_diagnosis_is_kept_and_not_counted(store: Store) -> None:
    made = [SecurityEvent(event_type=kind, timestamp=at(5), ip_address="192.0.2.1") for kind in ("doctor_test", "e")]
    store.add("p", "b", made, [], NOW)
    figures = overview(store.database, "p", HOUR, NOW)
    assert (figures.events, figures.types, figures.addresses) == (1, [("e", 1)], [("192.0.2.1", 1)])
    assert len(store.events(10)) == 2


def test_the_bars_cover_the_window_up_to_now_and_no_more(store: Store) -> None:
    for window in WINDOWS:
        bars = overview(store.database, "p", window, NOW).bars
        assert len(bars) == window.minutes // window.bar_minutes
        assert bars[-1].start <= NOW < bars[-1].start + window.bar_minutes * 60


def test_the_block_rate_is_of_requests_where_they_are_counted(store: Store) -> None:
    blocked = [SecurityEvent(event_type="e", timestamp=at(5), action_taken="request_blocked") for _ in range(3)]
    store.add("p", "b", [*blocked, SecurityEvent(event_type="e", timestamp=at(5), action_taken="logged")], [], NOW)
    assert overview(store.database, "p", HOUR, NOW).block_rate == 0.75
    store.add("p", "m", [], [SecurityMetric(timestamp=at(5), metric_type="request_count", value=300)], NOW)
    assert overview(store.database, "p", HOUR, NOW).block_rate == 0.01


def test_nothing_stored_is_no_figure_at_all(store: Store) -> None:
    figures = overview(store.database, "p", HOUR, NOW)
    assert (figures.events, figures.block_rate, figures.quantiles, figures.threat_level) == (0, None, {}, "calm")


def test_the_quantiles_of_one_row_are_the_ones_it_states(store: Store) -> None:
    tags = {"count": "200", "p50": "0.02", "p95": "0.1", "p99": "0.5", "max": "2.0"}
    row = SecurityMetric(timestamp=at(5), metric_type="response_time", value=0.05, tags=tags)
    store.add("p", "m", [], [row], NOW)
    found = overview(store.database, "p", HOUR, NOW).quantiles
    assert found == pytest.approx({0.5: 0.02, 0.95: 0.1, 0.99: 0.5}, rel=0.1)


@given(st.lists(st.floats(1e-4, 100), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_of_single_values_is_the_nearest_rank_within_a_bucket(values: list[float], q: float) -> None:
    buckets = Counter(map(latency_bucket, values))
    found = quantile(buckets, q)
    exact = sorted(values)[max(-(-int(q * len(values) * 10**9) // 10**9), 1) - 1]
    assert found is not None
    assert latency_of(latency_bucket(exact) - 1) <= found * 1.0001
    assert found <= latency_of(latency_bucket(max(values))) * 1.0001


@pytest.mark.parametrize(
    ("rate", "level"), [(0, "calm"), (0.1, "elevated"), (9.9, "elevated"), (10, "high"), (100, "critical")]
)
def test_the_threat_level_is_a_word_for_hostile_events_a_minute(rate: float, level: str) -> None:
    assert threat_level(rate) == level
