"""How long to wait after a failure."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery.backoff import MAX_RETRY_AFTER, backoff_delay, parse_retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def upper(low: float, high: float) -> float:
    return high


@pytest.mark.parametrize(("failures", "bound"), [(0, 0.5), (1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 10.0)])
def test_the_bound_doubles_with_every_failure_up_to_the_cap(failures: int, bound: float) -> None:
    assert backoff_delay(failures, base=0.5, cap=10.0, uniform=upper) == bound


def test_the_jitter_is_full() -> None:
    asked = []

    def record(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    assert backoff_delay(3, base=1.0, cap=10.0, uniform=record) == 0.0
    assert asked == [(0.0, 4.0)]


@given(st.integers(0, 10**9), st.floats(0.01, 5), st.floats(0.01, 100))
def test_a_delay_lies_between_nothing_and_the_cap(failures: int, base: float, cap: float) -> None:
    assert 0.0 <= backoff_delay(failures, base, cap) <= cap


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("99999999999999999999", MAX_RETRY_AFTER),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), MAX_RETRY_AFTER),
        ("Fri, 02 Jan 2026 04:04:15 +0100", 10.0),
        ("Fri, 02 Jan 2026 04:04:15 -0000", MAX_RETRY_AFTER),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Fri, 99 Jan 2026 00:00:00 GMT", None),
        ("Fri, 02 Jan 0001 00:00:00 +2359", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_capped(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(value: str) -> None:
    found = parse_retry_after(value, NOW)
    assert found is None or 0.0 <= found <= MAX_RETRY_AFTER
