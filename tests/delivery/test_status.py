"""How a reading becomes a status: healthy, degraded or failed, and errors that say what a person can do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery.breaker import BreakerState
from opentelemetry_guard.delivery.route import ROUTES
from opentelemetry_guard.delivery.stats import DeliveryStats, RouteStats
from opentelemetry_guard.delivery.status import (
    LATE_SECONDS,
    LATELY_SECONDS,
    LONG_OUTAGE_SECONDS,
    MAX_ERROR,
    MAX_ERRORS,
    Lately,
    Reading,
    assess,
)
from opentelemetry_guard.events.tally import TallyStats
from opentelemetry_guard.queue.base import KINDS, Ledger

NOW = 1_800_000_000.0
FINE = RouteStats(BreakerState.CLOSED, 0, 100.0, None)


def stats(**changes: object) -> DeliveryStats:
    fine = DeliveryStats(
        ledger={kind: Ledger() for kind in KINDS},
        depth=0,
        bytes=0,
        oldest=None,
        routes=dict.fromkeys(ROUTES, FINE),
        process=TallyStats({}, {}),
    )
    return replace(fine, **changes)  # type: ignore[arg-type]


def routes(**changed: RouteStats) -> dict[str, RouteStats]:
    return {**dict.fromkeys(ROUTES, FINE), **changed}


FAILING = RouteStats(BreakerState.OPEN, 1, 50.0, "503 down for maintenance")
REFUSED = RouteStats(BreakerState.CLOSED, 0, 100.0, "401 unknown key", held=True)
BAD_RULES = RouteStats(BreakerState.CLOSED, 0, 100.0, "ttl: Input should be a valid integer")


def test_nothing_wrong_is_healthy_and_has_no_errors() -> None:
    status = assess(Reading(stats(), NOW, 12.5, NOW - 3))
    assert (status.status, status.errors, status.uptime) == ("healthy", [], 12.5)
    assert status.last_flush is not None
    assert status.last_flush.timestamp() == NOW - 3


@pytest.mark.parametrize(
    ("reading", "state", "text"),
    [
        (Reading(stats(), NOW, 1.0, can_call=False), "failed", "set OTEL_EXPORTER_GUARD_API_KEY"),
        (Reading(stats(routes=routes(events=REFUSED)), NOW, 1.0), "failed", "401 unknown key"),
        (Reading(stats(routes=routes(metrics=FAILING)), NOW, 1.0), "degraded", "metrics can't be delivered now"),
        (Reading(stats(routes=routes(events=FAILING)), NOW, 1.0), "degraded", "503 down for maintenance"),
        (
            Reading(stats(routes=routes(events=FAILING), oldest=NOW - LONG_OUTAGE_SECONDS - 1), NOW, 1.0),
            "failed",
            "events can't be delivered now",
        ),
        (Reading(stats(), NOW, 1.0, sender_died=True), "failed", "the thread that sends rows"),
        (Reading(stats(oldest=NOW - LATE_SECONDS - 1), NOW, 1.0), "degraded", "has waited for 5 minutes"),
        (Reading(stats(bytes=90), NOW, 1.0, max_bytes=100), "degraded", "the queue is 90% full"),
        (Reading(stats(unreadable="disk I/O error"), NOW, 1.0), "degraded", "disk I/O error"),
        (Reading(stats(set_aside=1), NOW, 1.0), "degraded", "1 damaged queue files"),
        (Reading(stats(), NOW, 1.0, writable=False), "degraded", "wait in memory"),
        (Reading(stats(), NOW, 1.0, dropped_lately=7), "failed", "7 rows were dropped lately"),
        (Reading(stats(), NOW, 1.0, refused_lately=2), "degraded", "refused 2 rows lately"),
        (Reading(stats(), NOW, 1.0, lost_lately=3), "degraded", "3 rows were lost lately"),
        (Reading(stats(routes=routes(rules=BAD_RULES)), NOW, 1.0), "degraded", "the last ones stay: ttl"),
        (
            Reading(stats(routes=routes(status=REFUSED)), NOW, 1.0),
            "degraded",
            "doesn't take our status reports",
        ),
        (Reading(stats(routes=routes(status=FAILING)), NOW, 1.0), "degraded", "status reports fail: 503"),
    ],
)
def test_what_is_wrong_decides_the_state_and_is_said(reading: Reading, state: str, text: str) -> None:
    status = assess(reading)
    assert status.status == state
    assert any(text in error for error in status.errors)


def test_one_cause_that_stops_all_routes_is_said_once() -> None:
    status = assess(Reading(stats(routes=dict.fromkeys(ROUTES, REFUSED)), NOW, 1.0))
    assert len(status.errors) == 1


def test_the_figures_are_the_ledgers_and_rows_that_never_reached_it_count_as_failed() -> None:
    ledger = {
        "events": Ledger(accepted=20, delivered=9, queued=4, in_flight=2, dead_lettered=3, dropped={"purged": 2}),
        "metrics": Ledger(accepted=5, delivered=1, queued=4),
    }
    process = TallyStats({}, {"events": {"invalid": 1, "switched_off": 50}, "metrics": {"invalid": 9}})
    status = assess(Reading(stats(ledger=ledger, process=process), NOW, 1.0))
    assert (status.events_sent, status.events_failed, status.buffer_size) == (9, 6, 10)


@given(st.text(max_size=2000), st.booleans())
def test_errors_are_bounded_and_the_worst_come_first(text: str, refused: bool) -> None:
    bad = RouteStats(BreakerState.OPEN, 1, 1.0, text, held=refused)
    reading = Reading(
        stats(routes=dict.fromkeys(ROUTES, bad), unreadable=text, oldest=0.0, bytes=100, set_aside=1),
        NOW,
        1.0,
        writable=False,
        max_bytes=100,
        dropped_lately=1,
        refused_lately=1,
        lost_lately=1,
    )
    status = assess(reading)
    assert status.status == "failed"
    assert len(status.errors) <= MAX_ERRORS
    assert all(len(error) <= MAX_ERROR for error in status.errors)


def test_a_rise_is_recent_for_a_while_and_a_past_of_other_processes_is_none() -> None:
    lately = Lately(None)
    assert lately.rise(1000, 0.0) == 0
    assert lately.rise(1003, 1.0) == 3
    assert lately.rise(1003, LATELY_SECONDS) == 3
    assert lately.rise(1003, LATELY_SECONDS + 1.0) == 0
    assert lately.rise(1004, LATELY_SECONDS + 2.0) == 1
    assert Lately(0).rise(2, 0.0) == 2


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=60))
def test_a_rise_is_never_more_than_what_was_added_within_the_window(steps: list[tuple[float, int]]) -> None:
    lately, now, total = Lately(0), 0.0, 0
    added: list[tuple[float, int]] = []
    for pause, more in steps:
        now, total = now + pause, total + more
        added.append((now, more))
        recent = sum(rows for at, rows in added if at > now - LATELY_SECONDS)
        assert lately.rise(total, now) == recent
