"""A study of rules says what enforcement would have done to the events that are stored, and no more than it knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.storage.search import FoundEvent
from opentelemetry_guard.backend.study import Study, study
from opentelemetry_guard.models import BanSource, DynamicRules, SecurityEvent

NOW = 1_800_000_000.0
NONE = DynamicRules()


def stored(*events: dict[str, Any]) -> Iterator[FoundEvent]:
    """Events as they are kept, newest first."""
    for number, event in enumerate(events):
        row = SecurityEvent.model_validate({"event_type": "suspicious_request", **event}).model_dump_json()
        yield FoundEvent(number, "b", NOW, NOW - number, row)


def event(address: str = "203.0.113.7", **fields: Any) -> dict[str, Any]:
    return {"ip_address": address, "action_taken": "logged", "status_code": 404, "endpoint": "/x", **fields}


def studied(changed: DynamicRules, *events: dict[str, Any], now: DynamicRules = NONE, most: int = 1000) -> Study:
    return study(stored(*events), now, changed, most=most)


def test_who_would_have_been_blocked_is_counted_with_what_they_did() -> None:
    found = studied(
        DynamicRules(ip_blacklist=["203.0.113.0/24"]),
        event(),
        event(action_taken="request_blocked", status_code=403),
        event(status_code=200),
        event(endpoint="/account/login", method="POST", status_code=200),
        event(endpoint="/login?next=/", method="POST", status_code=401, event_type="authentication_failed"),
        event("203.0.113.8", metadata={"folded": 4}),
        event("198.51.100.1", status_code=200),
    )
    one, other = sorted(found.blocked, key=lambda client: client.address)
    assert (one.address, one.requests, one.through, one.successes, one.logins) == ("203.0.113.7", 5, 4, 2, 1)
    assert (one.rule, one.matched) == ("ip_blacklist", "203.0.113.0/24")
    assert (other.address, other.successes, other.logins) == ("203.0.113.8", 0, 0)
    assert (found.with_successes, found.with_logins) == (1, 1)
    assert found.requests == one.requests + other.requests
    assert (found.events, found.since, found.cut_short, found.let_in) == (7, NOW - 6, False, [])


def test_a_client_that_a_list_would_ban_is_told_with_the_list() -> None:
    sources = [BanSource(name="https://lists.example/drop", first=1, count=1)]
    bans = ["203.0.113.7", "203.0.113.8"]
    found = studied(
        DynamicRules(ip_blacklist=bans, ip_blacklist_sources=sources), event("203.0.113.7"), event("203.0.113.8")
    )
    assert {client.address: client.ban_list for client in found.blocked} == {
        "203.0.113.7": "",
        "203.0.113.8": "https://lists.example/drop",
    }


def test_who_is_blocked_already_is_no_news_and_who_would_be_let_in_is() -> None:
    now = DynamicRules(ip_blacklist=["203.0.113.7", "203.0.113.8"])
    found = studied(DynamicRules(ip_blacklist=["203.0.113.8"]), event(), event("203.0.113.8"), now=now)
    assert found.blocked == []
    assert [(client.address, client.requests) for client in found.let_in] == [("203.0.113.7", 1)]


@pytest.mark.parametrize(
    ("rules", "blocked"),
    [
        (DynamicRules(blocked_user_agents=["sqlmap"]), True),
        (DynamicRules(blocked_countries=["DE"]), True),
        (DynamicRules(suspicious_patterns=["union.select"]), True),
        (DynamicRules(suspicious_patterns=["union.select"], ip_whitelist=["203.0.113.7"]), False),
        (DynamicRules(emergency_mode=True), True),
        (DynamicRules(emergency_mode=True, emergency_whitelist=["203.0.113.7"]), False),
    ],
)
def test_every_rule_that_judges_a_request_by_itself_is_replayed(rules: DynamicRules, blocked: bool) -> None:
    told = event(user_agent="sqlmap/1.9", country="DE", endpoint="/items?q=1%20union%20select")
    assert bool(studied(rules, told).blocked) is blocked


def test_what_is_not_studied_is_said() -> None:
    found = studied(DynamicRules(global_rate_limit=5, blocked_cloud_providers=["AWS"]), event())
    assert [note.split()[0] for note in found.notes] == ["blocked_cloud_providers", "global_rate_limit"]
    assert found.blocked == []


def test_test_events_and_events_without_an_address_are_nobodys() -> None:
    everybody = DynamicRules(emergency_mode=True)
    assert studied(everybody, event(event_type="doctor_test"), event("")).blocked == []


def test_a_study_keeps_to_its_bounds() -> None:
    ban = DynamicRules(ip_blacklist=["203.0.113.7"])
    assert not studied(ban, event(), event(), most=2).cut_short
    found = studied(ban, event(), event(), event(), most=2)
    assert (found.events, found.cut_short, found.requests) == (2, True, 2)
    times = iter(range(100))
    slow = study(stored(*[event()] * 50), NONE, ban, most=100, seconds=10, clock=lambda: float(next(times)))
    assert slow.cut_short
    assert 0 < slow.events <= 10


def test_subscribers_of_ipv6_are_one_client() -> None:
    ban = DynamicRules(ip_blacklist=["2001:db8::/32"])
    found = studied(ban, event("2001:db8::1"), event("2001:db8::2"))
    assert [(client.address, client.requests) for client in found.blocked] == [("2001:db8::/64", 2)]


ADDRESSES = st.sampled_from(["203.0.113.1", "203.0.113.2", "198.51.100.1", "2001:db8::1"])
RULES = st.builds(
    DynamicRules,
    ip_blacklist=st.lists(ADDRESSES, max_size=2),
    ip_whitelist=st.lists(ADDRESSES, max_size=1),
    emergency_mode=st.booleans(),
)


@given(st.lists(ADDRESSES, max_size=10), RULES, RULES)
def test_it_agrees_with_enforcement_and_a_change_back_is_the_opposite(
    addresses: list[str], now: DynamicRules, changed: DynamicRules
) -> None:
    events = [event(address) for address in addresses]
    there, back = studied(changed, *events, now=now), studied(now, *events, now=changed)
    assert there.requests == sum(
        now.decide(ip=address).allowed and not changed.decide(ip=address).allowed for address in addresses
    )
    assert {client.address for client in there.blocked} == {client.address for client in back.let_in}
    assert {client.address for client in there.let_in} == {client.address for client in back.blocked}
