"""When an agent comes back to a backend that was away or has too much to do, by value: time and chance are given."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.guard_server import guard_server
from support.redis import eventually

from opentelemetry_guard.delivery.body_limit import BodyLimit
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.delivery.encoder import Encoder
from opentelemetry_guard.delivery.outage import (
    FAIR_TURN,
    FLEET_SIZE,
    LASTS,
    MEMORY,
    PROBES,
    SHORT_TURN,
    SLOW_FACTOR,
    SLOW_SECONDS,
    YIELD,
    Outage,
)
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.queue.base import QueueOptions
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.settings.delivery import GuardConfig

FLEET = 9_500
PERIOD = FLEET / PROBES
QUICK = 0.05
"""Seconds of an answer that is not slow."""


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def lasting(uniform: object = middle, fleet_size: int = FLEET) -> tuple[Outage, float]:
    """Return what has just come to be an outage, and the time."""
    outage = Outage(fleet_size, uniform)  # type: ignore[arg-type]
    outage.failed(1000.0, 0.0, busy=True)
    outage.failed(1000.0 + LASTS, 0.0, busy=True)
    return outage, 1000.0 + LASTS


def test_a_refusal_that_passes_is_none_of_its_business() -> None:
    outage = Outage()
    for now in (1000.0, 1005.0, 1009.0):
        outage.failed(now, 1.0, busy=True)
    outage.succeeded(1015.0, QUICK)
    outage.failed(1020.0, 1.0, busy=True)
    assert outage.ready_at <= 1020.0
    assert outage.endings == 0


@pytest.mark.parametrize("busy", [True, False])
def test_a_fleet_that_fails_at_one_moment_is_spread_over_the_period(busy: bool) -> None:
    for uniform, wait in ((min, 0.0), (max, PERIOD)):
        outage = Outage(FLEET, uniform)
        for now in (1000.0, 1000.0 + LASTS):
            outage.failed(now, 0.0, busy)
        assert outage.ready_at == 1000.0 + LASTS + wait


def test_the_time_that_the_server_asks_for_comes_before_it_is_spread() -> None:
    for uniform, wait in ((min, 0.0), (max, PERIOD)):
        outage = Outage(FLEET, uniform)
        outage.failed(1000.0, 30.0, busy=True)
        assert outage.ready_at == 1000.0 + 30.0 + wait


def test_while_it_lasts_there_is_one_try_a_period() -> None:
    outage, _ = lasting()
    for _ in range(5):
        now = outage.ready_at
        outage.begin(now)
        outage.failed(now, 0.0, busy=False)
        assert outage.ready_at == pytest.approx(now + PERIOD)


def test_an_agent_that_is_told_nothing_tries_again_within_15_seconds() -> None:
    outage, now = lasting(max, fleet_size=FLEET_SIZE)
    assert outage.ready_at <= now + 15.0
    now = outage.ready_at
    outage.failed(now, 0.0, busy=True)
    assert outage.ready_at <= now + 15.0


def test_while_it_lasts_a_try_is_the_only_one_until_it_is_answered() -> None:
    outage, _ = lasting()
    now = outage.ready_at
    outage.begin(now)
    assert outage.ready_at > now
    outage.succeeded(now + 1.0, QUICK)
    assert outage.ready_at == now + 1.0
    outage.begin(now + 2.0)
    assert outage.ready_at == now + 1.0


@pytest.mark.parametrize("accepted", [1, SHORT_TURN, FAIR_TURN, 40, 4000])
def test_the_more_a_turn_has_brought_the_sooner_comes_the_next(accepted: int) -> None:
    outage, now = lasting()
    for _ in range(accepted):
        now += 1.0 / accepted
        outage.succeeded(now, QUICK)
    assert outage.endings == 1
    outage.failed(now, 0.0, busy=True)
    assert outage.ready_at == pytest.approx(now + PERIOD * FAIR_TURN / max(SHORT_TURN, accepted))


def test_a_slow_answer_ends_a_turn_before_anything_is_refused() -> None:
    outage, now = lasting()
    outage.succeeded(now, SLOW_SECONDS * 0.9)
    assert outage.ready_at == now
    outage.succeeded(now, SLOW_SECONDS * 1.1)
    assert outage.ready_at == pytest.approx(now + YIELD * PERIOD)


def test_chance_decides_which_of_many_that_see_the_same_answer_leave_their_place() -> None:
    for uniform, leaves in ((min, True), (max, False)):
        outage, now = lasting(uniform)
        outage.succeeded(now, SLOW_SECONDS)
        assert (outage.ready_at > now) is leaves


def test_answers_that_were_never_faster_are_not_slow() -> None:
    outage = Outage(FLEET, middle)
    outage.succeeded(900.0, 2.0)
    for now in (1000.0, 1000.0 + LASTS):
        outage.failed(now, 0.0, busy=True)
    outage.succeeded(1100.0, SLOW_FACTOR * 2.0 * 0.9)
    assert outage.ready_at == 1100.0


def test_an_agent_that_may_be_alone_leaves_its_place_to_nobody() -> None:
    outage, now = lasting(fleet_size=FLEET_SIZE)
    outage.succeeded(now, 60.0)
    assert outage.ready_at == now


def test_long_after_it_a_refusal_is_a_passing_one_again_and_a_slow_answer_no_sign() -> None:
    outage, now = lasting()
    outage.succeeded(now + MEMORY, 60.0)
    outage.failed(now + MEMORY, 0.0, busy=True)
    assert outage.ready_at == now + MEMORY


def test_that_nobody_answers_once_ends_no_turn() -> None:
    outage, now = lasting()
    outage.succeeded(now, QUICK)
    outage.failed(now + 1.0, 0.0, busy=False)
    assert outage.ready_at == now


def test_a_process_that_is_told_of_an_outage_before_it_takes_its_first_refusal_for_a_part_of_it() -> None:
    outage = Outage(FLEET, middle)
    outage.remember(1000.0)
    outage.failed(1001.0, 0.0, busy=True)
    assert outage.ready_at == pytest.approx(1001.0 + PERIOD / 2)


@pytest.mark.parametrize(("seconds", "knows"), [(60.0, True), (0.0, False)])
def test_what_has_waited_in_the_queue_tells_a_process_of_an_outage(seconds: float, knows: bool) -> None:
    with guard_server() as server:
        queue = MemoryQueue(QueueOptions("d"))
        settings = {**server.settings, "fleet_size": 10_000_000, "backoff_factor": 0.001}
        rows = [complete(to_row({"event_type": "ip_blocked"})[0])]
        [batch] = Encoder.of(GuardConfig.resolve({}, **settings), BodyLimit()).encode(
            "events", rows, time.time() - seconds
        )
        queue.append(batch)
        server.answer(503)
        made = Delivery(GuardConfig.resolve({}, **settings), queue)
        made.start()
        server.wait_for_requests(1 if knows else 2)
        if knows:
            eventually(lambda: made.route("events").ready_at(time.monotonic()) > time.monotonic() + 10.0)
        made.close(0.0)


def test_a_shutdown_may_make_a_try() -> None:
    outage, now = lasting(max)
    outage.hurry(now + 1.0)
    assert outage.ready_at == now + 1.0
    outage.hurry(now + 2.0)
    assert outage.ready_at == now + 1.0


ROUNDING = 1e-6
"""Seconds that sums of floats may be off."""


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.0, 200.0), st.floats(0.0, 300.0)), max_size=60),
    st.integers(1, 100_000),
    st.randoms(use_true_random=False),
)
def test_no_pause_is_longer_than_twice_what_was_asked_for_or_two_periods_on_top(
    steps: list[tuple[bool, bool, float, float]], fleet_size: int, random: object
) -> None:
    outage, period = Outage(fleet_size, random.uniform), fleet_size / PROBES  # type: ignore[attr-defined]
    now = 0.0
    for succeeds, busy, elapsed, asked in steps:
        now += elapsed
        outage.begin(now)
        if succeeds:
            outage.succeeded(now, elapsed)
            assert outage.ready_at <= now + 0.3 * period + ROUNDING
        else:
            outage.failed(now, asked, busy)
            assert outage.ready_at <= now + max(10.0, asked + max(asked, 2.0 * period)) + ROUNDING


def test_who_may_be_alone_comes_back_faster_than_one_of_many() -> None:
    assert Outage(fleet_size=1_000).restart_rate > Outage(fleet_size=10_000).restart_rate
