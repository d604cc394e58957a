"""What a person writes into the rules editor becomes rules, or a message that names the line."""

from __future__ import annotations

import ipaddress
import re
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, update
from support.backend import running_backend

from opentelemetry_guard.backend.bans import with_ban
from opentelemetry_guard.backend.dashboard.rules_form import RulesForm, changes_between, form_of, read_form
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.backend.storage.tables import rules as stored_rules
from opentelemetry_guard.models import DynamicRules

NETWORKS = st.one_of(
    st.ip_addresses().filter(lambda address: getattr(address, "ipv4_mapped", None) is None).map(str),
    st.builds(lambda address, bits: f"{address}/{bits}", st.ip_addresses(v=4), st.integers(8, 32)),
).map(lambda text: str(ipaddress.ip_network(text, strict=False)) if "/" in text else text)
RULES = st.builds(
    DynamicRules,
    ip_blacklist=st.lists(NETWORKS, unique=True, max_size=4),
    ip_whitelist=st.lists(NETWORKS, unique=True, max_size=4),
    ip_ban_duration=st.integers(1, 10**6),
    blocked_countries=st.lists(st.sampled_from(["DE", "FR"]), unique=True),
    blocked_user_agents=st.lists(st.sampled_from(["sqlmap", "nikto.*x", "^curl"]), unique=True),
    endpoint_rate_limits=st.dictionaries(
        st.sampled_from(["/login", "/items/{id}"]), st.tuples(st.integers(1, 99), st.integers(1, 99))
    ),
    emergency_mode=st.booleans(),
    emergency_whitelist=st.lists(NETWORKS, unique=True, max_size=2),
    auto_ban_threshold=st.none() | st.integers(1, 9),
    message=st.none() | st.just("why"),
)


@given(RULES)
def test_the_form_gives_back_the_rules_it_shows(rules: DynamicRules) -> None:
    read = read_form(form_of(rules), rules)
    assert read.errors == {}
    assert read.rules is not None
    assert read.rules.model_copy(update={"timestamp": rules.timestamp}) == rules


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("ip_blacklist", "192.0.2.1\n300.1.2.3", "Line 2: “300.1.2.3” is neither an IP address nor a range"),
        ("ip_blacklist", "0.0.0.0/0", "Line 1: “0.0.0.0/0” is every address"),
        *[
            ("ip_blacklist", network, "every address")
            for network in (
                "::/0",
                "::ffff:0:0/96",
                "::ffff:0.0.0.0/97",
                "::/1",
                "::/80",
                "::ffff:0:0/95",
                "2000::/3",
                "128.0.0.0/1",
                "0.0.0.0/0.0.0.0",
            )
        ],
        ("ip_blacklist", "\n".join(f"{first}.0.0.0/8" for first in range(128)), "half of all addresses"),
        ("ip_whitelist", "example.com", "neither an IP address nor a range"),
        ("blocked_user_agents", "\n\n(", "Line 3: “(” is no regular expression"),
        ("blocked_user_agents", ".*", "matches everything"),
        ("blocked_user_agents", "x" * 501, "501 characters"),
        ("blocked_user_agents", r"(a)\1", r"“(a)\1” would be ignored"),
        ("suspicious_patterns", "sqlmap\n(?=(a*)*)b", "Line 2: “(?=(a*)*)b” would be ignored"),
        ("blocked_countries", "Germany", "“Germany” is no country code"),
        ("endpoint_rate_limits", "/login 5", "/login 5 60"),
        ("endpoint_rate_limits", "/login 0 60", "number of requests"),
        ("global_rate_limit", "-1", "“-1” is no whole number from 1"),
        ("ip_ban_duration", "soon", "“soon” is no whole number"),
        ("message", "x" * 1001, "1001 characters"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_remedy(field: str, text: str, told: str) -> None:
    form = RulesForm({**form_of(DynamicRules()).fields, field: text})
    read = read_form(form, DynamicRules())
    assert read.rules is None
    assert list(read.errors) == [field]
    assert told in read.errors[field]


def test_half_a_global_limit_is_a_mistake_of_the_empty_half() -> None:
    form = RulesForm({**form_of(DynamicRules()).fields, "global_rate_limit": "10"})
    assert list(read_form(form, DynamicRules()).errors) == ["global_rate_window"]


def test_a_ban_is_added_once_in_its_usual_spelling() -> None:
    rules = with_ban(with_ban(DynamicRules(), " 192.0.2.77/24 "), "192.0.2.0/24")
    assert rules.ip_blacklist == ["192.0.2.0/24"]


@pytest.mark.parametrize("network", ["0.0.0.0/1", "::ffff:0:0/96", "2000::/3"])
def test_a_ban_of_nearly_everybody_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match="every address"):
        with_ban(DynamicRules(), network)


def test_single_bans_do_not_add_up_to_half_of_all_addresses() -> None:
    rules = DynamicRules(ip_blacklist=["no address", *[f"{first}.0.0.0/8" for first in range(127)]])
    with pytest.raises(ValueError, match="half of all addresses"):
        with_ban(rules, "127.0.0.0/8")


BANS_OF_NEARLY_EVERYBODY = [["0.0.0.0/0"], ["::ffff:0:0/96"], [f"{first}.0.0.0/8" for first in range(128)]]


@pytest.mark.parametrize("bans", BANS_OF_NEARLY_EVERYBODY, ids=lambda bans: bans[0])
def test_the_store_takes_no_rules_that_ban_nearly_everybody(store: Store, bans: list[str]) -> None:
    with pytest.raises(ValueError, match=r"all addresses|every address"):
        store.set_rules("p", DynamicRules(ip_blacklist=bans))
    assert store.rules("p").version == 0
    assert store.set_rules("p", DynamicRules(ip_blacklist=["no address", "192.0.2.1"])).version == 1


@pytest.mark.parametrize("bans", BANS_OF_NEARLY_EVERYBODY, ids=lambda bans: bans[0])
def test_an_earlier_version_that_bans_nearly_everybody_is_not_restored(database: Path | URL, bans: list[str]) -> None:
    with closing(Store(database)) as store:
        store.set_rules("test-project", DynamicRules())
        with store.database.writing() as connection:
            # As a release has taken them that didn't look.
            too_wide = DynamicRules(version=1, ip_blacklist=bans).model_dump_json()
            connection.execute(update(stored_rules).values(rules=too_wide))
        store.set_rules("test-project", DynamicRules(message="mended"))
    with running_backend(db=database) as backend:
        page = backend.http.get(f"{backend.url}/rules", timeout=60)
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', page.text)
        assert token is not None
        fields = {"form_token": token[1], "version": "1"}
        answer = backend.http.post(f"{backend.url}/rules/restore", data=fields, timeout=60)
        assert answer.status_code == 422
        assert "every address" in answer.text or "half of all addresses" in answer.text
        rules = backend.http.get(f"{backend.url}/api/v1/rules", headers=backend.headers, timeout=60).json()
        assert (rules["version"], rules["message"]) == (2, "mended")


def test_a_mapped_range_is_the_ipv4_range_that_it_means() -> None:
    assert with_ban(DynamicRules(), "::ffff:192.0.2.0/120").ip_blacklist == ["192.0.2.0/24"]


def test_the_history_tells_what_a_version_changes() -> None:
    older = DynamicRules(ip_blacklist=["192.0.2.1"], endpoint_rate_limits={"/login": (5, 60)})
    newer = DynamicRules(ip_blacklist=["192.0.2.2"], endpoint_rate_limits={"/login": (5, 60)}, emergency_mode=True)
    assert changes_between(older, newer) == [
        "ip blacklist + 192.0.2.2",
        "ip blacklist − 192.0.2.1",  # noqa: RUF001
        "emergency mode: off → on",
    ]
