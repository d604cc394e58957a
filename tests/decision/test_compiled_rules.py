"""What rules decide, against a naive reading of the same lists with `ipaddress`."""

from __future__ import annotations

import copy
import ipaddress
import logging
import pickle
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opentelemetry_guard.decision.ban_sources import by_entry
from opentelemetry_guard.decision.compiled_rules import MOST_REMEMBERED, CompiledRules
from opentelemetry_guard.decision.unenforced import unenforced
from opentelemetry_guard.models import BanSource, DynamicRules

# A small world, so that addresses and networks meet.
v4_numbers = st.integers(0, 1023).map(lambda low: (198 << 24) + (51 << 16) + low)
v6_numbers = st.integers(0, 1023).map(lambda low: (0x20010DB8 << 96) + low)
addresses = st.one_of(
    v4_numbers.map(lambda number: str(ipaddress.IPv4Address(number))),
    v4_numbers.map(lambda number: f"::ffff:{ipaddress.IPv4Address(number)}"),
    v6_numbers.map(lambda number: str(ipaddress.IPv6Address(number))),
)
networks = st.one_of(
    st.tuples(v4_numbers, st.integers(0, 32)).map(lambda drawn: f"{ipaddress.IPv4Address(drawn[0])}/{drawn[1]}"),
    st.tuples(v4_numbers, st.integers(0, 128)).map(
        lambda drawn: f"::ffff:{ipaddress.IPv4Address(drawn[0])}/{drawn[1]}"
    ),
    st.tuples(v6_numbers, st.integers(0, 128)).map(lambda drawn: f"{ipaddress.IPv6Address(drawn[0])}/{drawn[1]}"),
)
nonsense = st.sampled_from(["", "nonsense", "198.51.0.300", "198.51.0.1/33", "::1/129", "198.51.0.0/-1", "1/2/3", "/8"])
entries = st.lists(st.one_of(addresses, networks, nonsense), max_size=20)

MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def is_listed(address: str, listed: Sequence[str]) -> bool:
    """Read a list the slow way."""
    parsed = ipaddress.ip_address(address)
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    for entry in listed:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            continue
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
            base = network.network_address.ipv4_mapped
            assert base is not None
            network = ipaddress.IPv4Network((base, network.prefixlen - 96))
        if parsed.version == network.version and parsed in network:
            return True
    return False


@given(entries, entries, addresses)
@example(["::/0"], [], "::ffff:198.51.0.1")
def test_address_lists_mean_what_a_naive_reading_of_them_means(
    blacklist: list[str], whitelist: list[str], address: str
) -> None:
    decision = DynamicRules(ip_blacklist=blacklist, ip_whitelist=whitelist).decide(ip=address)
    whitelisted, blacklisted = is_listed(address, whitelist), is_listed(address, blacklist)
    assert decision.allowed == (whitelisted or not blacklisted)
    assert decision.rule == ("ip_whitelist" if whitelisted else "ip_blacklist" if blacklisted else "")
    if decision.rule:
        listed = whitelist if whitelisted else blacklist
        assert decision.matched in listed
        assert is_listed(address, [decision.matched])


@given(entries, addresses)
def test_emergency_mode_lets_only_its_whitelist_pass(whitelist: list[str], address: str) -> None:
    rules = DynamicRules(emergency_mode=True, emergency_whitelist=whitelist, ip_whitelist=[address])
    assert rules.decide(ip=address).allowed == is_listed(address, whitelist)


def test_emergency_mode_blocks_who_has_no_address() -> None:
    rules = DynamicRules(emergency_mode=True, emergency_whitelist=["0.0.0.0/0", "::/0"])
    assert rules.decide().rule == "emergency_mode"
    assert rules.decide(ip="testclient").rule == "emergency_mode"


def test_the_emergency_whitelist_lifts_no_ban() -> None:
    rules = DynamicRules(emergency_mode=True, emergency_whitelist=["192.0.2.1"], ip_blacklist=["192.0.2.1"])
    assert rules.decide(ip="192.0.2.1").rule == "ip_blacklist"


def test_a_decision_says_what_decided_and_is_true_where_the_request_passes() -> None:
    rules = DynamicRules(ip_blacklist=["192.0.2.0/24"])
    blocked = rules.decide(ip="192.0.2.7")
    assert not blocked
    assert (blocked.rule, blocked.matched) == ("ip_blacklist", "192.0.2.0/24")
    assert blocked.reason == "the address is blacklisted (192.0.2.0/24)"
    assert rules.decide(ip="198.51.100.7")
    assert DynamicRules().decide(ip="192.0.2.7", country="DE", endpoint="/", user_agent="curl").reason == ""


@pytest.mark.parametrize("entry", ["fe80::1", "fe80::1%eth0", "fe80::/10", " fe80::1 "])
@pytest.mark.parametrize("address", ["fe80::1", "fe80::1%en7"])
def test_a_zone_is_no_part_of_an_address(entry: str, address: str) -> None:
    assert DynamicRules(ip_blacklist=[entry]).decide(ip=address).rule == "ip_blacklist"


def test_a_network_may_be_written_with_a_mask() -> None:
    assert DynamicRules(ip_blacklist=["10.0.0.0/255.0.0.0"]).decide(ip="10.9.8.7").rule == "ip_blacklist"


@pytest.mark.parametrize("address", ["", "nonsense", "198.51.100.007", "1.2.3.4.5", "::1::", "1.2.3.4\0", "é"])
def test_text_that_is_no_address_is_on_no_list(address: str) -> None:
    assert DynamicRules(ip_blacklist=["0.0.0.0/0", "::/0", "nonsense", ""]).decide(ip=address)


def test_wrong_entries_are_reported_once_and_void_no_others(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            rules = DynamicRules(ip_blacklist=["999.0.0.1", "192.0.2.1"], blocked_user_agents=["*bot", "curl"])
            assert rules.decide(ip="192.0.2.1").rule == "ip_blacklist"
            assert rules.decide(user_agent="curl/8").rule == "blocked_user_agents"
    assert [record.getMessage() for record in caplog.records] == [
        "dynamic rules: ip_blacklist has entries that are neither an address nor a network and are ignored: "
        "'999.0.0.1'",
        "dynamic rules: blocked_user_agents: '*bot' is not a regular expression and is looked for as plain text",
    ]


@pytest.mark.parametrize(
    ("blocked", "whitelisted", "country", "rule"),
    [
        (["de"], [], "DE", "blocked_countries"),
        (["DE"], [], "de", "blocked_countries"),
        (["DE"], [], "FR", ""),
        (["DE"], [], "", ""),
        (["DE"], [], None, ""),
        ([], ["DE"], "DE", ""),
        ([], ["DE"], "FR", "whitelist_countries"),
        ([], ["DE"], "", "whitelist_countries"),
        ([], ["DE"], None, ""),
        (["DE"], ["DE"], "DE", ""),
    ],
)
def test_countries(blocked: list[str], whitelisted: list[str], country: str | None, rule: str) -> None:
    rules = DynamicRules(blocked_countries=blocked, whitelist_countries=whitelisted)
    assert rules.decide(ip="192.0.2.1", country=country).rule == rule


def test_a_country_whitelist_lets_the_machine_itself_pass() -> None:
    rules = DynamicRules(whitelist_countries=["DE"])
    assert rules.decide(ip="127.0.0.1", country="")
    assert rules.decide(ip="::1", country="")
    assert not rules.decide(ip="192.0.2.1", country="")


def test_a_whitelisted_address_passes_every_other_list() -> None:
    rules = DynamicRules(
        ip_whitelist=["192.0.2.1"], blocked_countries=["DE"], blocked_user_agents=["curl"], suspicious_patterns=["etc"]
    )
    assert rules.decide(ip="192.0.2.1", country="DE", user_agent="curl", endpoint="/etc")
    assert not rules.decide(ip="192.0.2.2", country="DE")


@pytest.mark.parametrize(
    ("pattern", "agent", "blocked"),
    [
        ("curl", "CURL/8.1", True),
        ("bad.*bot", "Mozilla BadRobot", True),
        ("^bot", "robot", False),
        ("*bot*", "a *BOT* b", True),
        ("*bot*", "robot", False),
        ("", "anything", False),
        ("tail", "x" * 600 + "tail", False),
        ("(a+)+$", "a" * 600 + "!", True),
    ],
)
def test_user_agents_match_as_in_fastapi_guard(pattern: str, agent: str, blocked: bool) -> None:
    rules = DynamicRules(blocked_user_agents=[pattern])
    for _ in range(2):  # the second answer is remembered
        assert rules.decide(user_agent=agent).rule == ("blocked_user_agents" if blocked else "")


def test_remembered_user_agents_are_bounded() -> None:
    compiled = CompiledRules(DynamicRules(blocked_user_agents=["bot"]))
    for number in range(3 * MOST_REMEMBERED):
        assert compiled.decide(user_agent=f"browser {number}")
    assert len(compiled._verdicts) <= MOST_REMEMBERED


@pytest.mark.parametrize("endpoint", ["/../etc", "/..%2fetc", "/%2e%2e/etc", "/a?file=../x", "/a?q=union+select"])
def test_suspicious_patterns_are_found_in_endpoints_as_sent_and_decoded(endpoint: str) -> None:
    patterns = [r"\.\./", r"union\s+select"]
    assert DynamicRules(suspicious_patterns=patterns).decide(endpoint=endpoint).rule == "suspicious_patterns"
    assert DynamicRules(suspicious_patterns=patterns, enable_penetration_detection=False).decide(endpoint=endpoint)
    assert DynamicRules(suspicious_patterns=patterns).decide(endpoint="/items/7")


def test_expired_rules_allow() -> None:
    end = datetime(2026, 1, 1, tzinfo=timezone.utc)
    compiled = CompiledRules(DynamicRules(ip_blacklist=["192.0.2.1"], expires_at=end))
    assert not compiled.decide("192.0.2.1", now=end.timestamp() - 1)
    assert compiled.decide("192.0.2.1", now=end.timestamp())
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert not DynamicRules(ip_blacklist=["192.0.2.1"], expires_at=later).decide(ip="192.0.2.1")


def test_rules_that_were_asked_stay_equal_serialisable_and_copyable() -> None:
    asked, fresh = DynamicRules(ip_blacklist=["192.0.2.1"]), DynamicRules(ip_blacklist=["192.0.2.1"])
    fresh.timestamp = asked.timestamp
    assert not asked.decide(ip="192.0.2.1")
    assert asked == fresh
    assert asked.model_dump_json() == fresh.model_dump_json()
    for twin in (asked.model_copy(), copy.deepcopy(asked), pickle.loads(pickle.dumps(asked))):
        assert twin == asked
        assert not twin.decide(ip="192.0.2.1")
    assert asked.model_copy(update={"ip_blacklist": []}).decide(ip="192.0.2.1")


def test_rules_notice_a_list_that_grows_and_a_field_that_is_assigned() -> None:
    rules = DynamicRules()
    assert rules.decide(ip="192.0.2.1")
    rules.ip_blacklist.append("192.0.2.1")
    assert not rules.decide(ip="192.0.2.1")
    rules.ip_blacklist = ["192.0.2.2"]
    assert rules.decide(ip="192.0.2.1")
    rules.emergency_mode = True
    assert rules.decide(ip="192.0.2.1").rule == "emergency_mode"


def test_an_address_without_its_country_is_told_once_where_rules_name_countries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = DynamicRules(blocked_countries=["DE"])
    assert rules.decide(ip="192.0.2.1", country="FR")
    assert rules.decide(user_agent="curl")
    assert caplog.records == []
    assert rules.decide(ip="192.0.2.1")
    assert rules.decide(ip="192.0.2.2")
    (record,) = caplog.records
    assert "blocked_countries can't be judged" in record.getMessage()
    assert any("blocked_countries" in problem for problem in unenforced())


def test_rules_are_compiled_once() -> None:
    rules = DynamicRules(ip_blacklist=["192.0.2.1"])
    assert rules.compiled() is rules.compiled()


def test_an_address_object_is_the_address_that_it_writes() -> None:
    rules = DynamicRules(ip_blacklist=["192.0.2.0/24", "2001:db8::/32"])
    assert not rules.decide(ip=ipaddress.ip_address("192.0.2.7"))
    assert not rules.decide(ip=ipaddress.ip_address("2001:db8::7"))
    assert rules.decide(ip=ipaddress.ip_address("198.51.100.7"))


@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.lists(st.builds(BanSource, name=st.sampled_from(["x", "y"]), first=st.integers(0, 9), count=st.integers(0, 9))),
)
def test_an_entry_is_of_the_first_list_that_reaches_it(blacklist: list[str], sources: list[BanSource]) -> None:
    expected: dict[str, str] = {}
    reached = 0
    for source in sources:
        for place in range(max(reached, source.first), source.first + source.count):
            if place < len(blacklist):
                expected[blacklist[place]] = source.name
        reached = max(reached, source.first + source.count)
    assert by_entry(blacklist, sources) == expected
