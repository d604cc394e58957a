"""What a ban list says, in the forms in which they are published, and which of it is taken.

Text has an address or a range a line, with comments; JSON is a list of them,
or of objects that have one, on its own or in an object (CrowdSec's decisions,
AbuseIPDB's blacklist), or an object a line (Spamhaus DROP).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from ...decision.addresses import PRIVATE
from ..bans import check_bans, read_ban

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of a list, after decompression."""
MOST_ENTRIES = 100_000
"""Entries of a list that are taken; those after them are left out."""

_PLACES = ("data", "new", "decisions", "entries", "items", "ips", "results")
"""Where an object has its list; what a CrowdSec stream calls ``deleted`` is none."""
_NAMES = ("ip", "value", "ipAddress", "ip_address", "address", "cidr", "range", "network")
"""What an object calls its address."""
_COMMENT = re.compile(r"[#;].*|//.*")
_NO_BAN = frozenset({"captcha", "throttle", "bypass", "allow"})
"""CrowdSec's types of decisions that ban nobody."""


@dataclass(frozen=True, slots=True)
class ReadList:
    """A list as it is taken.

    Attributes:
        entries: addresses and ranges, each once, in their usual spelling.
        passed_over: how many entries are not taken: no address, private or loopback, too wide, or beyond the bound.
    """

    entries: tuple[str, ...]
    passed_over: int


def read_list(content: bytes) -> ReadList:
    """Read a list.

    Raises:
        ValueError: it has no entry at all, as an error page has none, or bans everybody, or nearly so.
    """
    entries: dict[str, None] = {}
    passed_over = 0
    for text in _texts(content):
        entry = _entry(text)
        if entry is None or (len(entries) >= MOST_ENTRIES and entry not in entries):
            passed_over += 1
        else:
            entries[entry] = None
    if not entries and passed_over:
        raise ValueError(f"none of its {passed_over} entries is a public address or range")
    check_bans(list(entries))
    return ReadList(tuple(entries), passed_over)


def _entry(text: str) -> str | None:
    """Return an entry in its usual spelling, None for one that is not taken."""
    try:
        entry = read_ban(text)
    except ValueError:
        return None
    network = ipaddress.ip_network(entry)
    # A list that names the addresses of proxies and health checks would take the application down.
    return None if PRIVATE.touches(entry) or network.is_multicast or network.is_unspecified else entry


def _texts(content: bytes) -> Iterator[str]:
    """Give the text of each entry."""
    if content.lstrip()[:1] in (b"[", b"{"):
        try:
            yield from _of_json(orjson.loads(content))
        except orjson.JSONDecodeError:
            yield from _of_json_lines(content)
        return
    for line in content.decode("utf-8", "replace").splitlines():
        if words := _COMMENT.sub("", line).replace(",", " ").split():
            yield words[0]


def _of_json_lines(content: bytes) -> Iterator[str]:
    for line in content.splitlines():
        if line.strip():
            try:
                yield from _of_items([orjson.loads(line)])
            except orjson.JSONDecodeError as error:
                raise ValueError(f"it is not JSON: {error}") from None


def _of_json(document: object) -> Iterator[str]:
    if isinstance(document, dict):
        found = next((document[place] for place in _PLACES if isinstance(document.get(place), list)), None)
        document = [document] if found is None else found
    yield from _of_items(document if isinstance(document, list) else [])


def _of_items(items: Iterable[object]) -> Iterator[str]:
    for item in items:
        if isinstance(item, str):
            yield item.strip()
        elif isinstance(item, dict):
            if str(item.get("type") or "").lower() in _NO_BAN:
                continue
            # Others, such as the metadata at a list's end, have none.
            named = next((item[name] for name in _NAMES if isinstance(item.get(name), str)), None)
            if named is not None:
                yield named.strip()
