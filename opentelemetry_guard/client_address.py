"""Who the client is: the peer of the connection, or whom trusted proxies name in its place.

Anybody can send ``X-Forwarded-For``. So it counts only where the peer is a
proxy that the application's owner trusts, and then it is read from the right:
each proxy appends the address that it saw, and the first one that is not a
trusted proxy's is the last one that somebody trusted has seen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Headers: TypeAlias = "Iterable[tuple[bytes, bytes]]"

MAX_HOPS = 100
"""Entries of a header that are read, from the right."""

_LONGEST = 80
"""Characters of an IPv6 address with its zone and port; longer text is not remembered."""

_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED = b"forwarded"


def client_address(scope: Mapping[str, object], trusted: tuple[Network, ...] = ()) -> str:
    """Return the address of the client that sent a request, "" where the server doesn't know the peer.

    ``X-Forwarded-For`` wins over ``Forwarded`` (RFC 7239), because proxies that write the first pass the second on
    as the client sent it. An entry that is no address ends the reading: the address before it is the client's.

    Args:
        scope: the ASGI scope of the request.
        trusted: the networks of the proxies that may name a client.
    """
    peer = _peer(scope)
    if not trusted or not (address := parse_address(peer)) or not _is_trusted(address, trusted):
        return _normal(peer)
    headers = scope.get("headers") or ()
    return str(_nearest_untrusted(address, _hops(headers), trusted))  # type: ignore[arg-type]


def _peer(scope: Mapping[str, object]) -> str:
    client = scope.get("client")
    # A Unix socket's peer has no address; servers tell that as None, as an empty name or as a path.
    return str(client[0]) if isinstance(client, (tuple, list)) and client and client[0] else ""


def _normal(peer: str) -> str:
    """Write an address one way only; what is no address (a test client's name) stays."""
    if ":" not in peer:
        return peer
    address = parse_address(peer)
    return peer if address is None else str(address)


def _nearest_untrusted(peer: Address, hops: Sequence[str], trusted: tuple[Network, ...]) -> Address:
    """Go from the peer towards the client as far as each one that names the next is trusted."""
    nearest = peer
    for hop in reversed(hops[-MAX_HOPS:]):
        address = parse_address(hop)
        if address is None:
            return nearest
        nearest = address
        if not _is_trusted(address, trusted):
            return nearest
    return nearest


@lru_cache(maxsize=4096)
def _is_trusted(address: Address, trusted: tuple[Network, ...]) -> bool:
    return any(address in network for network in trusted)


def _hops(headers: Headers) -> list[str]:
    """Return what the proxies wrote, the farthest first; several headers of one name read as one (RFC 9110, 5.3)."""
    values: dict[bytes, list[str]] = {_FORWARDED_FOR: [], _FORWARDED: []}
    for name, value in headers:
        if (lower := name.lower()) in values:
            values[lower].append(value.decode("latin-1"))
    if values[_FORWARDED_FOR]:
        return ",".join(values[_FORWARDED_FOR]).split(",")
    return [_forwarded_for(element) for element in ",".join(values[_FORWARDED]).split(",") if element.strip()]


def _forwarded_for(element: str) -> str:
    """Return the ``for`` of one element of ``Forwarded``, "" where it has none."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def parse_address(text: str) -> Address | None:
    """Read an address with or without a port or brackets; None where the text is none.

    An IPv4 address that is written as an IPv6 one (``::ffff:192.0.2.1``) is the IPv4 address.
    """
    text = text.strip()
    return _parse(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
