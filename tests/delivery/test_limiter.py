"""The token bucket whose rate follows the backend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery.limiter import (
    BURST,
    FLEET_RESTART_RATE,
    INCREASE,
    MAX_RATE,
    MIN_RATE,
    RESTART_THRESHOLD,
    RateLimiter,
)


def test_a_burst_is_free_and_then_the_rate_rules() -> None:
    limiter = RateLimiter(4.0)
    for _ in range(4):
        assert limiter.ready_at(0.0) == 0.0
        limiter.take(0.0)
    assert limiter.ready_at(0.0) == pytest.approx(0.25)
    assert limiter.ready_at(0.25) == pytest.approx(0.25)


def test_the_rate_doubles_with_every_success_up_to_its_bound() -> None:
    limiter = RateLimiter(20.0)
    rates = []
    for _ in range(4):
        limiter.speed_up(0.0)
        rates.append(limiter.rate)
    assert rates == [40.0, 80.0, MAX_RATE, MAX_RATE]


def test_being_asked_for_less_halves_the_rate_which_then_rises_evenly() -> None:
    limiter = RateLimiter(40.0)
    limiter.slow_down(0.0)
    rates = [limiter.rate]
    for _ in range(2):
        limiter.speed_up(0.0)
        rates.append(limiter.rate)
    assert rates == [20.0, 20.0 + INCREASE, 20.0 + 2 * INCREASE]


def test_the_rate_falls_no_lower_than_its_bound() -> None:
    limiter = RateLimiter()
    for _ in range(20):
        limiter.slow_down(0.0)
    assert limiter.rate == MIN_RATE


def test_a_slow_rate_saves_up_no_burst() -> None:
    limiter = RateLimiter()
    for _ in range(20):
        limiter.slow_down(0.0)
    assert limiter.ready_at(1000.0) == 1000.0
    limiter.take(1000.0)
    assert limiter.ready_at(1000.0) == pytest.approx(1000.0 + 1.0 / MIN_RATE)


def test_after_an_overload_it_begins_slowly_and_without_a_burst() -> None:
    limiter = RateLimiter(MAX_RATE)
    limiter.restart(0.0, FLEET_RESTART_RATE)
    assert limiter.ready_at(0.0) == pytest.approx(1.0 / FLEET_RESTART_RATE)
    rates = [limiter.rate]
    for _ in range(5):
        limiter.speed_up(0.0)
        rates.append(limiter.rate)
    assert rates == [FLEET_RESTART_RATE, 2.0, 4.0, RESTART_THRESHOLD, RESTART_THRESHOLD + INCREASE, 12.0]


STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "slow_down", "speed_up", "restart"]), st.floats(0.0, 30.0)), max_size=80
)


@given(STEPS)
def test_whatever_happens_a_request_may_be_made_within_ten_seconds(steps: list[tuple[str, float]]) -> None:
    limiter = RateLimiter()
    now = 0.0
    for step, elapsed in steps:
        now += elapsed
        getattr(limiter, step)(now)
        assert MIN_RATE <= limiter.rate <= MAX_RATE
        assert now <= limiter.ready_at(now) <= now + 10.0 + 1e-6


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=100), st.floats(1.0, 100.0))
def test_no_more_requests_are_let_through_than_burst_and_rate_allow(pauses: list[float], rate: float) -> None:
    limiter = RateLimiter(rate)
    now, taken = 0.0, 0
    for pause in pauses:
        now += pause
        if limiter.ready_at(now) <= now:
            limiter.take(now)
            taken += 1
    assert taken <= min(BURST, rate) + rate * now + 1e-6
