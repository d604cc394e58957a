"""The circuit breaker as a state machine, by value: time and chance are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery.breaker import BreakerPolicy, BreakerState, CircuitBreaker


def lower(low: float, high: float) -> float:
    return low


def upper(low: float, high: float) -> float:
    return high


def opened(policy: BreakerPolicy, now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(policy, upper)
    for _ in range(policy.failures):
        breaker.begin()
        breaker.failed(now)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_a_new_breaker_lets_requests_through() -> None:
    breaker = CircuitBreaker()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.ready_at <= 0.0


def test_closed_paces_repeated_failures() -> None:
    breaker = CircuitBreaker(BreakerPolicy(failures=5), upper)
    pauses = []
    for _ in range(4):
        breaker.begin()
        breaker.failed(100.0)
        pauses.append(breaker.ready_at - 100.0)
    assert breaker.state is BreakerState.CLOSED
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_failures_in_a_row_open_it() -> None:
    breaker = opened(BreakerPolicy(failures=3, recovery=2.0), now=100.0)
    assert breaker.ready_at == 102.0
    assert breaker.transitions == 1


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = CircuitBreaker(BreakerPolicy(failures=3, window=100), upper)
    for _ in range(10):
        breaker.failed(0.0)
        breaker.failed(0.0)
        breaker.succeeded(0.0)
    assert breaker.state is BreakerState.CLOSED


def test_a_high_rate_of_failures_opens_it_once_the_window_is_full() -> None:
    breaker = CircuitBreaker(BreakerPolicy(failures=100, failure_rate=0.5, window=4), upper)
    for succeeded in (True, False, True):
        (breaker.succeeded if succeeded else breaker.failed)(0.0)
    assert breaker.state is BreakerState.CLOSED
    breaker.failed(0.0)
    assert breaker.state is BreakerState.OPEN


def test_half_of_every_pause_is_certain() -> None:
    breaker = CircuitBreaker(BreakerPolicy(failures=1, recovery=4.0), lower)
    breaker.failed(10.0)
    assert breaker.ready_at == 12.0


def test_the_probe_makes_it_half_open_and_its_success_closes_it() -> None:
    breaker = opened(BreakerPolicy(failures=2))
    breaker.begin()
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(7.0)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.ready_at == 7.0
    assert breaker.transitions == 3


def test_a_failed_probe_doubles_the_pause_up_to_the_bound() -> None:
    breaker = opened(BreakerPolicy(failures=1, recovery=1.0, max_recovery=10.0))
    pauses = [breaker.ready_at]
    for _ in range(6):
        now = breaker.ready_at
        breaker.begin()
        breaker.failed(now)
        pauses.append(breaker.ready_at - now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_after_a_recovery_pauses_are_short_again() -> None:
    policy = BreakerPolicy(failures=1)
    breaker = opened(policy)
    for _ in range(3):
        breaker.begin()
        breaker.failed(breaker.ready_at)
    breaker.begin()
    breaker.succeeded(50.0)
    breaker.failed(50.0)
    assert breaker.ready_at == pytest.approx(50.0 + policy.recovery)


def test_a_recovery_forgets_the_rate_of_the_outage() -> None:
    breaker = CircuitBreaker(BreakerPolicy(failures=3, failure_rate=0.5, window=4), upper)
    for _ in range(3):
        breaker.failed(0.0)
    breaker.begin()
    breaker.succeeded(5.0)
    breaker.failed(5.0)
    assert breaker.state is BreakerState.CLOSED


def test_hurry_ends_a_pause_and_lengthens_none() -> None:
    breaker = opened(BreakerPolicy(failures=1, recovery=8.0), now=100.0)
    breaker.hurry(101.0)
    assert breaker.ready_at == 101.0
    breaker.hurry(105.0)
    assert breaker.ready_at == 101.0


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 20.0)), max_size=60),
    st.integers(1, 6),
    st.floats(0.1, 5.0),
    st.floats(0.5, 20.0),
    st.randoms(use_true_random=False),
)
def test_open_lets_nothing_through_before_its_time_and_no_pause_passes_the_bound(
    steps: list[tuple[bool, float]], failures: int, recovery: float, bound: float, random: object
) -> None:
    policy = BreakerPolicy(failures=failures, recovery=recovery, max_recovery=bound)
    breaker = CircuitBreaker(policy, random.uniform)  # type: ignore[attr-defined]
    now = 0.0
    for succeeds, elapsed in steps:
        now += elapsed
        if now < breaker.ready_at:
            assert breaker.ready_at - now <= bound
            continue
        breaker.begin()
        assert breaker.state is not BreakerState.OPEN
        if succeeds:
            breaker.succeeded(now)
            assert breaker.state is BreakerState.CLOSED
            assert breaker.ready_at <= now
        else:
            half_open = breaker.state is BreakerState.HALF_OPEN
            breaker.failed(now)
            assert now <= breaker.ready_at <= now + bound
            if half_open:
                assert breaker.state is BreakerState.OPEN
        if breaker.state is BreakerState.OPEN:
            assert breaker.ready_at >= now + min(recovery, bound) / 2
