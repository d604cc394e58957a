"""Ban lists as they are published are read, and what would ban oneself is never taken of them."""

from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.lists import reading
from opentelemetry_guard.backend.lists.reading import ReadList, read_list
from opentelemetry_guard.decision.addresses import is_private

TEXT = b"""\
# FireHOL, level 1
; Spamhaus DROP writes so
203.0.113.7
198.51.100.0/24   # a network
203.0.113.9;SBL123
203.0.113.10,2026-11-28,spam
203.0.113.11\tssh 14 // with a comment\r
2001:DB8:0:0::/32
::ffff:192.0.2.1

203.0.113.7
"""
TAKEN = (
    "203.0.113.7",
    "198.51.100.0/24",
    "203.0.113.9",
    "203.0.113.10",
    "203.0.113.11",
    "2001:db8::/32",
    "192.0.2.1",
)


def test_text_with_comments_is_a_list() -> None:
    assert read_list(TEXT) == ReadList(TAKEN, 0)


@pytest.mark.parametrize(
    "document",
    [
        ["203.0.113.7", "198.51.100.0/24"],
        [{"ip": "203.0.113.7"}, {"cidr": "198.51.100.0/24"}],
        # CrowdSec's decisions, and its stream
        [
            {"value": "203.0.113.7", "type": "ban", "scope": "Ip"},
            {"value": "198.51.100.0/24", "type": "ban", "scope": "Range"},
            {"value": "203.0.113.99", "type": "captcha", "scope": "Ip"},
        ],
        {"deleted": [{"value": "203.0.113.1"}], "new": [{"value": "203.0.113.7"}, {"value": "198.51.100.0/24"}]},
        # AbuseIPDB's blacklist
        {
            "meta": {"generatedAt": "2026-11-28T00:00:00+00:00"},
            "data": [
                {"ipAddress": "203.0.113.7", "abuseConfidenceScore": 100},
                {"ipAddress": "198.51.100.0/24", "abuseConfidenceScore": 100},
            ],
        },
    ],
)
def test_json_of_several_kinds_is_a_list(document: object) -> None:
    assert read_list(json.dumps(document).encode()) == ReadList(("203.0.113.7", "198.51.100.0/24"), 0)


def test_an_object_a_line_is_a_list() -> None:
    lines = b'{"cidr":"198.51.100.0/24","sblid":"SBL1"}\n{"cidr":"203.0.113.0/24"}\n{"type":"metadata","records":2}\n'
    assert read_list(lines) == ReadList(("198.51.100.0/24", "203.0.113.0/24"), 0)


@pytest.mark.parametrize(
    "entry",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.0/16", "172.16.0.0/12", "172.0.0.0/8", "169.254.169.254", "100.64.0.1"),
        *("::1", "fe80::1", "fd00::/8", "fc00::/7", "::ffff:127.0.0.1", "0.0.0.0", "::", "224.0.0.1"),
        *("0.0.0.0/0", "::/0", "128.0.0.0/1", "::ffff:0:0/96", "example.com", "AS64496", "1.2.3", "x" * 10_000),
    ],
)
def test_what_is_private_or_too_wide_or_no_address_is_never_taken(entry: str) -> None:
    assert read_list(f"203.0.113.7\n{entry}\n".encode()) == ReadList(("203.0.113.7",), 1)
    assert read_list(json.dumps(["203.0.113.7", entry]).encode()) == ReadList(("203.0.113.7",), 1)


@pytest.mark.parametrize("content", [b"<html><body>Sign in</body></html>", b"127.0.0.1\n", b'["x"]', b"\xff\xfe\x00"])
def test_what_has_no_public_address_at_all_is_no_list(content: bytes) -> None:
    with pytest.raises(ValueError, match="is a public address"):
        read_list(content)


@pytest.mark.parametrize("content", [b"{", b"[1", b'{"a": 1}\nx'])
def test_broken_json_is_no_list(content: bytes) -> None:
    with pytest.raises(ValueError, match="it is not JSON"):
        read_list(content)


@pytest.mark.parametrize("content", [b"", b"# nothing today\n", b"[]", b"{}", b'{"data": []}'])
def test_an_empty_list_is_one(content: bytes) -> None:
    assert read_list(content) == ReadList((), 0)


def test_ranges_that_are_half_of_all_addresses_together_are_refused() -> None:
    ranges = [f"{first}.0.0.0/8" for first in range(224) if first not in (0, 10, 100, 127, 169, 172, 192)]
    with pytest.raises(ValueError, match="half of all addresses"):
        read_list("\n".join(ranges).encode())


def test_entries_beyond_the_bound_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_ENTRIES", 2)
    assert read_list(b"203.0.113.1\n203.0.113.2\n203.0.113.3\n203.0.113.1\n") == ReadList(
        ("203.0.113.1", "203.0.113.2"), 1
    )


NETWORKS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda of: f"{of[0]}/{of[1]}"),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda of: f"{of[0]}/{of[1]}"),
    st.text(max_size=20),
)


@given(st.lists(NETWORKS, max_size=20), st.booleans())
def test_whatever_a_list_says_no_private_address_is_banned(texts: list[str], as_json: bool) -> None:
    content = json.dumps(texts) if as_json else "\n".join(texts)
    try:
        taken = read_list(content.encode("utf-8", "surrogatepass")).entries
    except ValueError:
        return
    for entry in taken:
        network = ipaddress.ip_network(entry)
        assert not is_private(str(network[0]))
        assert not is_private(str(network[-1]))
        assert ipaddress.ip_address("127.0.0.1") not in network
        assert ipaddress.ip_address("::1") not in network
