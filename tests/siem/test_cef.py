"""Every event is one line of CEF, which a strict parser reads back, whatever its fields hold."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from siem.rows import bare, every_known, full, hostile

from opentelemetry_guard.siem.cef import EXTENSION, LABELS, cef
from opentelemetry_guard.siem.facts import facts_of

_HEADER = re.compile(r"CEF:0((?:\|(?:[^|\\]|\\[|\\])*){6})\|")
_PAIR = re.compile(r"(?:^| )([A-Za-z0-9]+)=((?:[^=\\]|\\[=\\nr])*?)(?= [A-Za-z0-9]+=|$)")
_UNESCAPED = {"\\\\": "\\", "\\|": "|", "\\=": "=", "\\n": "\n", "\\r": "\r"}


class NoCef(ValueError):
    pass


def parse(line: str) -> tuple[list[str], dict[str, str]]:
    """Read a line by the letter of the format: no escape that it doesn't know, no key twice, nothing left over."""
    if line.splitlines() != [line] or not all(sign.isprintable() or sign not in "\0\t\x1b" for sign in line):
        raise NoCef("not one line")
    header = _HEADER.match(line)
    if header is None:
        raise NoCef("no header")
    fields = _fields(header[1])
    extension, place, pairs = line[header.end() :], 0, dict[str, str]()
    while place < len(extension):
        pair = _PAIR.match(extension, place) if place == 0 else _PAIR.match(extension[place:])
        if pair is None:
            raise NoCef(f"no pair at {extension[place:]!r}")
        if pair[1] in pairs:
            raise NoCef(f"{pair[1]} twice")
        pairs[pair[1]] = _unescaped(pair[2])
        place += len(pair[0])
    return fields, pairs


def _fields(header: str) -> list[str]:
    return [_unescaped(field) for field in re.findall(r"\|((?:[^|\\]|\\[|\\])*)", header)]


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda found: _UNESCAPED[found[0]], text)


def test_every_known_type_with_every_action_parses() -> None:
    for row in every_known():
        fields, pairs = parse(cef(row))
        assert fields[:2] == ["opentelemetry-guard", "Guard"]
        assert fields[3] == row["event_type"]
        assert 0 <= int(fields[5]) <= 10
        assert pairs["externalId"] == row["idempotency_key"]


@pytest.mark.parametrize(
    "line",
    [
        "CEF:0|a|b|c|d|e|5|act=x\nsrc=1",
        "CEF:0|a|b|c|d|e|f|5|x",
        "CEF:0|a|b|c|d|e|5|act=x=y",
        "CEF:0|a|b|c|d|e|5|act=x act=y",
        "CEF:0|a|b|c\\x|d|e|5|",
        "CEF:0|a|b|c|d|5|",
    ],
)
def test_the_parser_is_strict(line: str) -> None:
    with pytest.raises((NoCef, KeyError)):
        parse(line)


@settings(max_examples=100, deadline=None)
@given(hostile())
def test_whatever_a_row_holds_comes_back(row: dict[str, Any]) -> None:
    fields, pairs = parse(cef(row))
    assert len(fields) == 6
    for value in (*fields, *pairs.values()):
        assert value.strip(" ") == value != ""
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", pairs.get("cfp1", "0"))
    assert pairs.keys() <= EXTENSION.keys() | {f"{key}Label" for key in LABELS}
    facts = facts_of(row)
    for key, value in (("act", facts.action[:63]), ("reason", facts.reason[:1023]), ("suser", facts.user[:1023])):
        if value.isprintable():
            assert pairs.get(key, "") == value.strip()


def test_nothing_in_a_field_begins_a_key_or_a_line() -> None:
    reason = "a|b\\ act=allowed\nCEF:0|x src=198.51.100.1"
    _, pairs = parse(cef({**full("ip_blocked"), "reason": reason}))
    assert pairs["reason"] == reason
    assert pairs["src"] == "203.0.113.7"
    assert pairs["act"] == "request_blocked"


def test_the_line_of_an_event() -> None:
    fields, pairs = parse(cef(full("penetration_attempt")))
    assert fields[3:] == ["penetration_attempt", "penetration attempt", "8"]
    assert (pairs["rt"], pairs["src"], pairs["act"]) == ("1772627696789", "203.0.113.7", "request_blocked")
    assert (pairs["request"], pairs["requestMethod"], pairs["requestClientApplication"]) == (
        "/search?q=1",
        "GET",
        "sqlmap/1.9",
    )
    assert (pairs["cs1Label"], pairs["cs1"]) == ("traceId", "af7651916cd43dd8448eb211c80319c0")
    assert (pairs["cn1Label"], pairs["cn1"]) == ("httpStatus", "403")
    assert (pairs["cn2Label"], pairs["cn2"]) == ("threatScore", "83")
    assert pairs["destinationServiceName"] == "shop"


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\u2028", "\n", " ", "\x85", "\ud800"])
def test_a_field_of_nothing_but_what_cannot_be_shown_is_left_out(sign: str) -> None:
    fields, pairs = parse(cef({**full(sign), "pattern_matched": sign, "reason": f"{sign}a{sign}"}))
    assert "flexString1" not in pairs
    assert fields[3:5] == ["unknown", "unknown"]
    assert pairs["reason"] == "a"


@pytest.mark.parametrize(("seconds", "told"), [(2.5e-05, "0.000025"), (1e-9, "0"), (-0.0, "0"), (100.0, "100")])
def test_seconds_have_no_exponent(seconds: float, told: str) -> None:
    _, pairs = parse(cef({**full("ip_blocked"), "response_time": seconds}))
    assert pairs["cfp1"] == told


def test_an_address_of_ipv6_has_its_own_key() -> None:
    _, pairs = parse(cef({**bare("ip_blocked"), "ip_address": "2001:db8::7"}))
    assert pairs["c6a2"] == "2001:db8::7"
    assert "src" not in pairs
