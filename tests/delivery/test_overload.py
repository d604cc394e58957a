"""When an agent comes back to a backend that has too much to do, by value: time and chance are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery.overload import FAIR_TURN, LASTS, MEMORY, PERIOD, SHORT_TURN, Overload


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def lasting(uniform: object = middle, asked: float = 0.0) -> tuple[Overload, float]:
    """Return an overload that has just come to be a lasting one, and the time."""
    overload = Overload(uniform=uniform)  # type: ignore[arg-type]
    overload.refused(100.0, asked)
    overload.refused(100.0 + LASTS, asked)
    return overload, 100.0 + LASTS


def test_a_refusal_that_passes_is_none_of_its_business() -> None:
    overload = Overload()
    for now in (100.0, 105.0, 109.0):
        overload.refused(now, 30.0)
    overload.succeeded(115.0)
    overload.refused(120.0, 30.0)
    assert overload.ready_at <= 120.0
    assert overload.endings == 0


def test_a_fleet_that_is_refused_at_one_moment_is_spread_over_the_period() -> None:
    assert lasting(min)[0].ready_at == 100.0 + LASTS
    assert lasting(max)[0].ready_at == 100.0 + LASTS + PERIOD


def test_the_time_that_the_server_asks_for_comes_before_it_is_spread() -> None:
    assert lasting(min, asked=30.0)[0].ready_at == 100.0 + LASTS + 30.0
    assert lasting(max, asked=30.0)[0].ready_at == 100.0 + LASTS + 30.0 + PERIOD


def test_while_it_lasts_there_is_one_try_a_period() -> None:
    overload, _ = lasting()
    for _ in range(5):
        now = overload.ready_at
        overload.begin(now)
        overload.refused(now, 0.0)
        assert overload.ready_at == pytest.approx(now + PERIOD)


def test_while_it_lasts_a_try_is_the_only_one_until_it_is_answered() -> None:
    overload, _ = lasting()
    now = overload.ready_at
    overload.begin(now)
    assert overload.ready_at > now
    overload.succeeded(now + 1.0)
    assert overload.ready_at == now + 1.0
    overload.begin(now + 2.0)
    assert overload.ready_at == now + 1.0


@pytest.mark.parametrize("accepted", [1, SHORT_TURN, FAIR_TURN, 40, 4000])
def test_the_more_a_turn_has_brought_the_sooner_comes_the_next(accepted: int) -> None:
    overload, now = lasting()
    for _ in range(accepted):
        now += 1.0 / accepted
        overload.succeeded(now)
    assert overload.endings == 1
    overload.refused(now, 0.0)
    assert overload.ready_at == pytest.approx(now + PERIOD * FAIR_TURN / max(SHORT_TURN, accepted))


def test_long_after_it_a_refusal_is_a_passing_one_again() -> None:
    overload, now = lasting()
    overload.succeeded(now + MEMORY)
    overload.refused(now + MEMORY, 0.0)
    assert overload.ready_at == now + MEMORY


def test_a_shutdown_may_make_a_try() -> None:
    overload, now = lasting(max)
    overload.hurry(now + 1.0)
    assert overload.ready_at == now + 1.0
    overload.hurry(now + 2.0)
    assert overload.ready_at == now + 1.0


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 200.0), st.floats(0.0, 300.0)), max_size=60),
    st.floats(0.1, 300.0),
    st.randoms(use_true_random=False),
)
def test_no_pause_is_longer_than_what_was_asked_for_and_two_periods(
    steps: list[tuple[bool, float, float]], period: float, random: object
) -> None:
    overload = Overload(period, random.uniform)  # type: ignore[attr-defined]
    now = 0.0
    for succeeds, elapsed, asked in steps:
        now += elapsed
        overload.begin(now)
        if succeeds:
            overload.succeeded(now)
            assert overload.ready_at <= now
        else:
            overload.refused(now, asked)
            assert overload.ready_at <= now + max(10.0, asked + 2.0 * period)
