"""A list of addresses and networks that answers in about a microsecond whether an address is on it.

Everything lies on one number line, IPv4 first and IPv6 behind it. Networks
either nest or are apart, so the widest ones, sorted, are intervals that don't
overlap, and one binary search finds the only one that can hold an address.
An IPv4 address that is mapped into IPv6 (``::ffff:192.0.2.7``) is that IPv4
address, and a zone (``fe80::1%eth0``) is no part of an address.
"""

from __future__ import annotations

import ipaddress
import socket
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator

from ..settings.instrumentation import DEFAULT_IPV6_PREFIX

_V6 = 1 << 32
"""Where IPv6 begins on the number line."""
_MAPPED = 0xFFFF << 32
"""The network ::ffff:0:0/96."""


def number_of(address: str) -> int | None:
    """Return the place of an address on the number line, None where the text is no address."""
    try:
        if ":" not in address:
            return int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
        value = int.from_bytes(socket.inet_pton(socket.AF_INET6, address.partition("%")[0]), "big")
    except (OSError, ValueError):
        return None
    return value - _MAPPED if value >> 32 == 0xFFFF else value + _V6


def is_loopback(number: int) -> bool:
    """Tell whether a place on the number line is 127.0.0.0/8 or ::1."""
    return number >> 24 == 127 or number == _V6 + 1


def subscriber(address: str, ipv6_prefix: int = DEFAULT_IPV6_PREFIX) -> str:
    """Return by what name a client is counted: an IPv4 address by itself, an IPv6 address by its network.

    One subscriber has a /64 at least (RFC 6177, RIPE-690), and may change within it at will. Anything else (a test
    client, the path of a socket) stays as it is.

    Args:
        address: as the server or a proxy writes it; IPv4 mapped into IPv6 is the IPv4 address.
        ipv6_prefix: bits of an IPv6 address that count, 1 to 128.
    """
    if ":" not in address:
        return address
    number = number_of(address)
    if number is None:
        return address
    if number < _V6:
        return str(ipaddress.IPv4Address(number))
    free = 128 - ipv6_prefix
    network = ipaddress.IPv6Address((number - _V6) >> free << free)
    return f"{network}/{ipv6_prefix}" if free else str(network)


class AddressList:
    """An immutable set of addresses and networks; see the module.

    Args:
        entries: addresses, and networks in CIDR notation (host bits are allowed, as is a netmask for the length).

    Attributes:
        invalid: the entries that are neither; they match nothing and cost the others nothing.
    """

    __slots__ = ("_entries", "_lasts", "_starts", "invalid")

    def __init__(self, entries: Iterable[str]) -> None:
        widest: dict[int, tuple[int, str]] = {}
        invalid: list[str] = []
        for entry in entries:
            span = _span(entry)
            if span is None:
                invalid.append(entry)
                continue
            start, last = span
            known = widest.get(start)
            if known is None or known[0] < last:
                widest[start] = (last, entry)
        self.invalid = tuple(invalid)
        self._starts: list[int] = []
        self._lasts: list[int] = []
        self._entries: list[str] = []
        covered = -1
        for start in _ascending(widest):
            last, entry = widest[start]
            if last > covered:
                self._starts.append(start)
                self._lasts.append(last)
                self._entries.append(entry)
                covered = last

    def __bool__(self) -> bool:
        return bool(self._starts)

    def find(self, number: int) -> str | None:
        """Return the widest entry that holds the address at this place (`number_of`), None where none does."""
        index = bisect_right(self._starts, number) - 1
        return self._entries[index] if index >= 0 and number <= self._lasts[index] else None

    def touches(self, entry: str) -> bool:
        """Tell whether an address or network has any address in common with the list; nothing else has."""
        span = _span(entry)
        if span is None:
            return False
        index = bisect_right(self._starts, span[1]) - 1
        return index >= 0 and self._lasts[index] >= span[0]


def _ascending(numbers: Iterable[int]) -> Iterator[int]:
    """Sort in small portions: one long sort would hold the interpreter's lock, and with it every event loop."""
    portions: defaultdict[int, list[int]] = defaultdict(list)
    for number in numbers:
        portions[number >> 24 if number < _V6 else 256 + (number >> 96)].append(number)
    for key in sorted(portions):
        yield from sorted(portions[key])


def _span(entry: str) -> tuple[int, int] | None:
    """Return the first and the last place of an address or network, None where the text is neither."""
    text = entry.strip()
    if "/" not in text:
        number = number_of(text)
        return None if number is None else (number, number)
    address, _, length = text.partition("/")
    number = number_of(address)
    if number is None:
        return None
    if not (length.isascii() and length.isdigit()):
        return _span_by_mask(text)
    bits = int(length)
    if ":" not in address:
        return _span_of(number, 32 - bits)
    if number >= _V6:
        return _span_of(number - _V6, 128 - bits, _V6)
    # A network within ::ffff:0:0/96 is an IPv4 network; a wider one is IPv6 and holds no IPv4 address.
    return _span_of(number, 128 - bits) if bits >= 96 else _span_of(number + _MAPPED, 128 - bits, _V6)


def _span_of(value: int, free: int, begin: int = 0) -> tuple[int, int] | None:
    """Return the span of a network: `value` with its last `free` bits open, in the family that starts at `begin`."""
    if free < 0:
        return None
    start = (value >> free << free) + begin
    return start, start + (1 << free) - 1


def _span_by_mask(text: str) -> tuple[int, int] | None:
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None
    return int(network.network_address), int(network.broadcast_address)


PRIVATE = AddressList(
    """
    127.0.0.0/8 ::1 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16 fc00::/7 fe80::/10
    """.split()  # noqa: SIM905  networks read better than a column of strings
)
"""Loopback, link-local, and private or shared networks (RFC 1918, 4193, 6598)."""


def is_private(address: str) -> bool:
    """Tell whether an address is loopback, link-local, or of a private or shared network (RFC 1918, 4193, 6598).

    Such a client is a proxy, a neighbour or a health probe. Networks for documentation count as public.
    """
    number = number_of(address)
    return number is not None and PRIVATE.find(number) is not None
