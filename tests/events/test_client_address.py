"""Whom a request comes from: the peer, unless trusted proxies name somebody else."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.events.client_address import Network, client_address, parse_address
from opentelemetry_guard.settings.instrumentation import GuardOptions

PROXIES: tuple[Network, ...] = GuardOptions.resolve({}, trusted_proxies="10.0.0.0/8, fd00::/8").trusted_proxies


def scope(peer: Any, **headers: str) -> dict[str, Any]:
    encoded = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "client": peer, "headers": encoded}


def address_of(peer: str, trusted: tuple[Network, ...] = PROXIES, **headers: str) -> str:
    return client_address(scope((peer, 50000), **headers), trusted)


def test_nobody_is_believed_by_default() -> None:
    assert address_of("10.0.0.1", (), x_forwarded_for="192.0.2.66", forwarded="for=192.0.2.66") == "10.0.0.1"


def test_a_peer_that_is_no_trusted_proxy_is_not_believed() -> None:
    assert address_of("203.0.113.7", x_forwarded_for="192.0.2.66") == "203.0.113.7"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("192.0.2.66, 198.51.100.9", "198.51.100.9"),
        ("192.0.2.66, 198.51.100.9, 10.1.1.1, 10.2.2.2", "198.51.100.9"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("198.51.100.9:4711", "198.51.100.9"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:198.51.100.9", "198.51.100.9"),
        ("2001:db8::1, fd00::7", "2001:db8::1"),
        ("203.0.113.7,", "203.0.113.7"),
        (",203.0.113.7 , ,10.2.2.2,", "203.0.113.7"),
        ("203.0.113.7" + "," * 1000, "203.0.113.7"),
    ],
)
def test_the_rightmost_address_that_is_no_trusted_proxy_is_the_clients(header: str, client: str) -> None:
    assert address_of("10.0.0.1", x_forwarded_for=header) == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("192.0.2.66, unknown, 10.2.2.2", "10.2.2.2"),
        ("192.0.2.66, 300.1.1.1", "10.0.0.1"),
        ("\xff\xfe", "10.0.0.1"),
        ("1" * 100_000, "10.0.0.1"),
        ("[2001:db8::1", "2001:db8::1"),
    ],
)
def test_what_is_no_address_ends_the_reading(header: str, client: str) -> None:
    assert address_of("10.0.0.1", x_forwarded_for=header) == client


def test_several_headers_of_one_name_are_one_list() -> None:
    headers = [(b"X-Forwarded-For", b"192.0.2.66"), (b"x-forwarded-for", b"198.51.100.9")]
    assert client_address({"client": ("10.0.0.1", 1), "headers": headers}, PROXIES) == "198.51.100.9"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("for=198.51.100.9", "198.51.100.9"),
        ('For="[2001:db8::1]:4711";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("for=192.0.2.66, for=198.51.100.9;proto=http, for=10.2.2.2", "198.51.100.9"),
        ("for=_hidden, for=10.2.2.2", "10.2.2.2"),
        ("proto=https", "10.0.0.1"),
    ],
)
def test_the_standards_header_is_read_where_the_usual_one_is_missing(header: str, client: str) -> None:
    assert address_of("10.0.0.1", forwarded=header) == client


def test_the_usual_header_wins() -> None:
    assert address_of("10.0.0.1", x_forwarded_for="198.51.100.9", forwarded="for=192.0.2.66") == "198.51.100.9"


@pytest.mark.parametrize(
    ("peer", "client"),
    [(None, ""), (("", 0), ""), (("testclient", 50000), "testclient"), (["::ffff:203.0.113.7", 1], "203.0.113.7")],
)
def test_a_peer_may_be_unknown_or_no_address(peer: Any, client: str) -> None:
    assert client_address(scope(peer, x_forwarded_for="192.0.2.66"), PROXIES) == client


@given(st.binary(max_size=200), st.sampled_from([b"x-forwarded-for", b"forwarded"]))
def test_whatever_a_header_holds_the_answer_is_an_address(value: bytes, name: bytes) -> None:
    found = client_address({"client": ("10.0.0.1", 1), "headers": [(name, value)]}, PROXIES)
    ipaddress.ip_address(found)


@given(st.lists(st.ip_addresses().map(str), max_size=5), st.ip_addresses(v=4, network="198.51.100.0/24").map(str))
def test_a_client_cannot_choose_its_address_by_what_it_sends(sent: list[str], client: str) -> None:
    assert address_of("10.0.0.1", x_forwarded_for=", ".join([*sent, client, "10.9.9.9"])) == client


@given(st.ip_addresses())
def test_an_address_reads_back_with_and_without_a_port(address: Any) -> None:
    text = str(address)
    expected = getattr(address, "ipv4_mapped", None) or address
    with_port = f"{text}:80" if address.version == 4 else f"[{text}]:80"
    assert parse_address(text) == parse_address(with_port) == parse_address(f" {text} ") == expected
