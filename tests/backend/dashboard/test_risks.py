"""Which changes of the rules are asked about once more."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.dashboard.risks import confirmed, risks_of
from opentelemetry_guard.models import DynamicRules

OWN = ["127.0.0.1", "203.0.113.9"]


def keys(ban: str) -> list[str]:
    return [risk.key for risk in risks_of(DynamicRules(), DynamicRules(ip_blacklist=[ban]), OWN)]


@pytest.mark.parametrize(
    "ban",
    [
        *("203.0.113.9", "203.0.113.0/24", "127.0.0.0/8", "::1", "10.1.2.3", "172.16.0.0/12", "192.168.0.1"),
        *("169.254.1.1", "100.64.0.1", "fd00::1", "fe80::/10", "192.0.0.0/8"),
    ],
)
def test_a_ban_of_what_is_local_or_ones_own_is_a_risk(ban: str) -> None:
    assert keys(ban) == [ban]


@pytest.mark.parametrize("ban", ["203.0.113.8", "198.51.100.0/24", "2001:db8::/32", "172.32.0.1", "no address"])
def test_a_ban_of_anybody_else_is_none(ban: str) -> None:
    assert keys(ban) == []


def test_ones_own_address_counts_in_the_mapped_form_too() -> None:
    rules = DynamicRules(ip_blacklist=["203.0.113.9"])
    assert len(risks_of(DynamicRules(), rules, ["::ffff:203.0.113.9", "not one"])) == 1


def test_what_is_in_force_already_is_not_asked_about() -> None:
    rules = DynamicRules(ip_blacklist=["10.0.0.1"], emergency_mode=True)
    assert risks_of(rules, rules.model_copy(update={"message": "more"}), OWN) == []


@given(st.lists(st.ip_addresses(network="10.0.0.0/8").map(str), unique=True, max_size=60), st.booleans())
def test_a_confirmation_holds_for_what_was_asked_and_for_nothing_besides(bans: list[str], emergency: bool) -> None:
    risks = risks_of(DynamicRules(), DynamicRules(ip_blacklist=bans, emergency_mode=emergency), OWN)
    said = "\n".join(risk.key for risk in risks)
    assert confirmed(risks, said)
    assert len(risks) <= 22
    assert confirmed(risks, "") == (not risks)
    another = str(ipaddress.ip_address("192.168.7.7"))
    more = risks_of(DynamicRules(), DynamicRules(ip_blacklist=[*bans, another], emergency_mode=emergency), OWN)
    assert not confirmed(more, said)
