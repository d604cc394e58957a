"""Counts of the recent past per key: bounded, never far off, and forgotten in the right order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.instrumentation.behavior.sliding import Clock, Share, Table, Windows, estimated
from opentelemetry_guard.instrumentation.behavior.usual import Usual, learned, score


def keys(*numbers: int) -> list[bytes]:
    return [str(number).encode() for number in numbers]


@given(st.lists(st.integers(0, 50), max_size=300), st.integers(1, 20))
def test_a_table_never_has_more_rows_than_it_may_and_each_known_key_its_own(visits: list[int], size: int) -> None:
    table = Table(size)
    column = table.integers("Q")
    for number in visits:
        (key,) = keys(number)
        known = table.find(key) is not None
        row = table.row(key)
        assert 0 <= row < size
        assert table.find(key) == row
        assert column[row] == (number if known else 0)
        column[row] = number
    assert len(table) == min(size, len(set(visits)))


def test_a_full_table_forgets_what_was_seen_once_before_what_came_again() -> None:
    table = Table(3)
    regular, *once = keys(1, 2, 3)
    for key in (regular, *once, regular):
        table.row(key)
    for fresh in keys(*range(100, 200)):
        table.row(fresh)
        table.row(regular)
    assert table.find(regular) is not None
    assert [table.find(key) for key in once] == [None, None]


def test_a_column_that_comes_later_covers_the_rows_that_are_there() -> None:
    table = Table(3)
    row = table.row(b"a")
    assert (table.integers()[row], table.reals()[row], table.bits()[row]) == (0, 0.0, 0)


@given(st.lists(st.floats(0, 30), max_size=80))
def test_a_sliding_count_lies_between_the_last_window_and_the_last_two(pauses: list[float]) -> None:
    clock, table = Clock(), Table(1)
    windows = Windows(table, clock.beat(60))
    count = windows.count()
    row, now, times = table.row(b""), 0.0, list[float]()
    for pause in pauses:
        now += pause
        clock.advance(now)
        windows.turn(row)
        count.current[row] += 1
        times.append(now)
        bucket = math.floor(clock.now / 60)
        assert sum(math.floor((at - times[0]) / 60) == bucket for at in times) <= count.value(row)
        assert count.value(row) <= count.at_most(row) <= sum(now - at <= 120 for at in times)


def test_after_an_idle_window_nothing_is_left() -> None:
    clock, table = Clock(), Table(1)
    windows = Windows(table, clock.beat(60))
    count, distinct = windows.count(), windows.distinct()
    row = table.row(b"")
    clock.advance(0)
    count.current[row] += 5
    distinct.add(row, 7)
    clock.advance(60)
    windows.turn(row)
    assert (count.value(row), round(distinct.value(row))) == (5, 1)
    clock.advance(90)
    assert count.value(row) == 2.5
    clock.advance(180)
    windows.turn(row)
    assert (count.value(row), distinct.value(row)) == (0, 0)


@pytest.mark.parametrize(("bits", "ones"), [(256, 20), (256, 200), (64, 10), (64, 63)])
def test_distinct_things_are_counted_through_the_bits_that_they_share(bits: int, ones: int) -> None:
    # As many as set that many bits on average.
    number = estimated(bits, ones)
    assert bits * (1 - (1 - 1 / bits) ** number) == pytest.approx(ones, rel=0.02)


def test_the_estimate_grows_with_each_bit_and_a_full_map_has_one_too() -> None:
    estimates = [estimated(64, ones) for ones in range(65)]
    assert estimates == sorted(estimates)
    assert estimates[0] == 0
    assert math.isfinite(estimates[-1])


def test_a_share_is_exact_at_first_and_of_the_latest_requests_later() -> None:
    table = Table(1)
    share, row = Share(table), table.row(b"")
    for happened in (True, False, False, False):
        share.add(row, happened)
    assert share.value[row] == pytest.approx(0.25)
    for _ in range(1_000):
        share.add(row, False)
    for _ in range(10):
        share.add(row, True)
    assert share.value[row] == pytest.approx(1 - (31 / 32) ** 10, rel=1e-3)


def test_a_flood_takes_many_windows_to_become_usual() -> None:
    usual = learned(Usual(), 30, 1)
    for _ in range(50):
        usual = learned(usual, 30, 1 / 8)
    flooded = learned(usual, 30_000, 1 / 8)
    assert flooded.mean < 35
    assert score(30_000, flooded) > 1_000
    windows = 0
    while score(30_000, flooded) > 6:
        flooded = learned(flooded, 30_000, 1 / 8)
        windows += 1
    assert windows > 10


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=50))
def test_time_never_goes_back(readings: list[float]) -> None:
    clock = Clock()
    beat = clock.beat(60)
    before = clock.now
    for reading in readings:
        clock.advance(reading)
        assert before <= clock.now < math.inf
        assert 0 < beat.weight <= 1
        before = clock.now
