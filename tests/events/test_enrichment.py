"""What is added to an event: a score, a key, and how many events its client has had."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.events.codec import Row
from opentelemetry_guard.events.correlation import incident_key
from opentelemetry_guard.events.enrichment import (
    CORRELATION_KEY,
    INCIDENT,
    MAX_CLIENTS,
    RECENT_EVENT_COUNT,
    THREAT_SCORE,
    WINDOW,
    RecentEvents,
    enrich,
    threat_score,
)
from opentelemetry_guard.events.known import KNOWN


@pytest.mark.parametrize(
    ("event_type", "action", "recent", "score"),
    [
        ("penetration_attempt", "request_blocked", 1, 80),
        ("penetration_attempt", "logged_only", 1, 85),
        ("penetration_attempt", "request_blocked", 4, 86),
        ("penetration_attempt", "logged_only", 1000, 100),
        ("rate_limited", "request_blocked", 1, 40),
        ("rate_limited", "request_blocked", 1_000_000, 55),
        ("security_headers_applied", "headers_added", 1, 10),
        ("my_own", "blocked", 1, 50),
    ],
)
def test_the_score_follows_its_formula(event_type: str, action: str, recent: int, score: int) -> None:
    assert threat_score(event_type, action, recent) == score


@given(st.sampled_from(sorted(KNOWN)) | st.text(), st.text(), st.integers(-10, 2**40))
def test_the_score_lies_between_0_and_100_and_grows_with_repetition(event_type: str, action: str, recent: int) -> None:
    score = threat_score(event_type, action, recent)
    assert 0 <= score <= 100
    assert score <= threat_score(event_type, action, recent + 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_clients_events_are_counted_for_the_window() -> None:
    clock = Clock()
    recent = RecentEvents(clock)
    assert [recent.count("a") for _ in range(4)] == [1, 2, 3, 4]
    assert recent.count("b") == 1
    clock.now = WINDOW
    assert recent.count("a") == 5
    clock.now = 1.5 * WINDOW
    assert recent.count("a") == 2 + 2
    clock.now = 4 * WINDOW
    assert recent.count("a") == 1


def test_no_number_of_clients_takes_more_memory_than_two_periods_of_them() -> None:
    clock = Clock()
    recent = RecentEvents(clock)
    for period in range(3):
        clock.now = period * WINDOW
        assert {recent.count(f"{period}-{client}") for client in range(2 * MAX_CLIENTS)} == {1}
        assert len(recent._current) <= MAX_CLIENTS
        assert len(recent._former) <= MAX_CLIENTS
    assert recent.count("2-0") == 2


EVENT: Row = {"event_type": "penetration_attempt", "ip_address": "203.0.113.7", "action_taken": "blocked"}


def metadata_of(row: Row, *, hashed_client: str | None = None) -> dict[str, Any]:
    made = {**row}
    enrich(made, hashed_client=hashed_client)
    found: Any = made["metadata"]
    return dict(found)


def test_an_event_gets_its_score_its_key_and_its_clients_count() -> None:
    key = incident_key("203.0.113.7", "penetration_attempt")
    for recent, score in ((1, 80), (2, 83), (3, 83), (4, 86)):
        assert metadata_of({**EVENT, "metadata": {"own": 1}}) == {
            "own": 1,
            THREAT_SCORE: score,
            CORRELATION_KEY: key,
            RECENT_EVENT_COUNT: recent,
        }


def test_what_guard_core_has_written_stays() -> None:
    given = {THREAT_SCORE: 90, CORRELATION_KEY: "cafe", RECENT_EVENT_COUNT: 17}
    assert metadata_of({**EVENT, "metadata": given}) == given


def test_where_addresses_are_hashed_a_key_that_is_made_of_the_address_goes() -> None:
    hashed = "ip-hmac-" + "0" * 32
    found = metadata_of({**EVENT, "ip_address": hashed, "metadata": {CORRELATION_KEY: "cafe"}}, hashed_client="network")
    assert found[CORRELATION_KEY] == incident_key("network", "penetration_attempt") != "cafe"
    assert metadata_of({"event_type": "redis_error", "metadata": {CORRELATION_KEY: "cafe"}}, hashed_client="") == {
        THREAT_SCORE: 75
    }


def test_where_addresses_are_hashed_the_key_of_a_campaign_stays() -> None:
    given = {CORRELATION_KEY: "cafe", INCIDENT: "cafe"}
    found = metadata_of({**EVENT, "metadata": given}, hashed_client="ip-hmac-" + "0" * 32)
    assert found[CORRELATION_KEY] == "cafe"


def test_the_metadata_that_the_application_gave_is_not_changed() -> None:
    given: dict[str, Any] = {"own": 1}
    metadata_of({**EVENT, "metadata": given})
    assert given == {"own": 1}


def test_an_event_without_a_client_has_a_score_alone() -> None:
    assert metadata_of({"event_type": "dynamic_rule_updated"}) == {THREAT_SCORE: 10}


def test_the_events_of_a_network_of_ipv6_are_those_of_one_client() -> None:
    event = {**EVENT, "ip_address": "2001:db8:77::1"}
    first = metadata_of(event)
    second = metadata_of({**event, "ip_address": "2001:db8:77::2"})
    assert (first[RECENT_EVENT_COUNT], second[RECENT_EVENT_COUNT]) == (1, 2)
    assert first[CORRELATION_KEY] == second[CORRELATION_KEY]
