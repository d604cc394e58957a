"""The token bucket whose rate follows the backend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery.limiter import RateLimiter


def test_a_burst_is_free_and_then_the_rate_rules() -> None:
    limiter = RateLimiter(max_rate=10.0, burst=3.0)
    for _ in range(3):
        assert limiter.ready_at(0.0) == 0.0
        limiter.take(0.0)
    assert limiter.ready_at(0.0) == pytest.approx(0.1)
    assert limiter.ready_at(0.1) == pytest.approx(0.1)


def test_being_asked_for_less_halves_the_rate() -> None:
    limiter = RateLimiter(max_rate=8.0, min_rate=1.0)
    rates = []
    for _ in range(4):
        limiter.slow_down(0.0)
        rates.append(limiter.rate)
    assert rates == [4.0, 2.0, 1.0, 1.0]


def test_every_success_adds_to_the_rate_up_to_its_bound() -> None:
    limiter = RateLimiter(max_rate=8.0, increase=3.0)
    limiter.slow_down(0.0)
    rates = []
    for _ in range(3):
        limiter.speed_up(0.0)
        rates.append(limiter.rate)
    assert rates == [7.0, 8.0, 8.0]


def test_a_slow_rate_saves_up_no_burst() -> None:
    limiter = RateLimiter(max_rate=100.0, min_rate=0.1)
    for _ in range(20):
        limiter.slow_down(0.0)
    assert limiter.ready_at(1000.0) == 1000.0
    limiter.take(1000.0)
    assert limiter.ready_at(1000.0) == pytest.approx(1010.0)


@given(st.lists(st.tuples(st.sampled_from(["take", "slow_down", "speed_up"]), st.floats(0.0, 30.0)), max_size=80))
def test_whatever_happens_a_request_may_be_made_within_ten_seconds(steps: list[tuple[str, float]]) -> None:
    limiter = RateLimiter()
    now = 0.0
    for step, elapsed in steps:
        now += elapsed
        getattr(limiter, step)(now)
        assert 0.1 <= limiter.rate <= 100.0
        assert now <= limiter.ready_at(now) <= now + 10.0 + 1e-6


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=100))
def test_no_more_requests_are_let_through_than_burst_and_rate_allow(pauses: list[float]) -> None:
    limiter = RateLimiter(max_rate=5.0, burst=4.0)
    now, taken = 0.0, 0
    for pause in pauses:
        now += pause
        if limiter.ready_at(now) <= now:
            limiter.take(now)
            taken += 1
    assert taken <= 4.0 + 5.0 * now + 1e-6
