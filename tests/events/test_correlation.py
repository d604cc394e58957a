"""Which events belong together: one client's, of one behaviour, until it was quiet for a day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.events.correlation import MAX_CLIENTS, QUIET_SECONDS, OpenIncidents, correlation_key

HOUR = 3600.0


class Time:
    """The time of a process that was started at `date`, and that of the world."""

    def __init__(self, date: float = 1_800_000_000.0) -> None:
        self.date = date
        self.passed = 0.0

    def incidents(self) -> OpenIncidents:
        return OpenIncidents(lambda: self.passed, lambda: self.date + self.passed)


def test_the_same_client_and_behavior_have_the_same_key() -> None:
    key = correlation_key("203.0.113.7", "penetration_attempt")
    assert len(key) == 16
    assert correlation_key("203.0.113.7", "pattern_detected") == key
    assert correlation_key("203.0.113.8", "penetration_attempt") != key
    assert correlation_key("203.0.113.7", "authentication_failed") != key
    assert correlation_key("203.0.113.7", "penetration_attempt", 20_000) != key


def test_a_network_of_ipv6_is_one_client() -> None:
    key = correlation_key("2001:db8::1", "penetration_attempt")
    assert correlation_key("2001:db8::ffff:2", "penetration_attempt") == key
    assert correlation_key("2001:db8:0:1::1", "penetration_attempt") != key
    assert correlation_key("::ffff:203.0.113.7", "ip_blocked") == correlation_key("203.0.113.7", "ip_blocked")


def test_without_a_client_there_is_no_key() -> None:
    assert correlation_key("", "penetration_attempt") == ""
    assert correlation_key("203.0.113.7", "redis_error") == ""
    incidents = Time().incidents()
    assert incidents.key("", "penetration_attempt") == ""
    assert incidents.key("203.0.113.7", "redis_error") == ""


def test_an_incident_goes_on_for_as_long_as_no_day_without_an_event_lies_in_it() -> None:
    time = Time()
    incidents = time.incidents()
    first = incidents.key("a", "ip_blocked")
    for _ in range(10):
        time.passed += 23 * HOUR
        assert incidents.key("a", "ip_blocked") == first, "it goes on, over midnight and for days"
    time.passed += QUIET_SECONDS
    second = incidents.key("a", "ip_blocked")
    assert second != first
    assert incidents.key("a", "ip_blocked") == second


@given(st.lists(st.floats(0, 3 * QUIET_SECONDS, allow_nan=False), max_size=30), st.floats(0, QUIET_SECONDS))
def test_two_events_share_a_key_unless_a_day_without_one_lies_between_them(pauses: list[float], start: float) -> None:
    time = Time(1_800_000_000.0 + start)
    incidents = time.incidents()
    before = incidents.key("a", "ip_blocked")
    seen = {before}
    for pause in pauses:
        earlier = time.passed
        time.passed += pause
        key = incidents.key("a", "ip_blocked")
        is_over = time.passed - earlier >= QUIET_SECONDS
        assert (key != before) == is_over
        assert not (is_over and key in seen), "a key is never used again"
        seen.add(key)
        before = key


@pytest.mark.parametrize("uptime", [0.0, 5e6])
def test_processes_agree_on_the_key_without_asking_each_other(uptime: float) -> None:
    early, late = Time(), Time(1_800_000_000.0 - uptime)
    late.passed = uptime
    assert early.incidents().key("a", "ip_blocked") == late.incidents().key("a", "ip_blocked")


def test_no_number_of_clients_takes_more_memory_than_two_periods_of_them() -> None:
    time = Time()
    incidents = time.incidents()
    for period in range(3):
        time.passed = period * QUIET_SECONDS
        keys = {incidents.key(f"{period}-{client}", "ip_blocked") for client in range(2 * MAX_CLIENTS)}
        assert len(keys) == 2 * MAX_CLIENTS
        assert len(incidents._current) <= MAX_CLIENTS
        assert len(incidents._former) <= MAX_CLIENTS
    last = f"2-{2 * MAX_CLIENTS - 1}"
    assert incidents.key(last, "ip_blocked") == incidents.key(last, "ip_blocked"), "who isn't remembered: by the day"
