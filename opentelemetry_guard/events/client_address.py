"""Who the client is: the peer of the connection, or whom trusted proxies name in its place.

Anybody can send ``X-Forwarded-For``. So it counts only where the peer is a
proxy that the application's owner trusts, and then it is read from the right:
each proxy appends the address that it saw, and the first one that is not a
trusted proxy's is the last one that somebody trusted has seen.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from ..decision.addresses import is_private
from ..settings.once import is_said, log_once

_logger = logging.getLogger(__name__)

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Headers: TypeAlias = "Iterable[tuple[bytes, bytes]]"

MAX_HOPS = 100
"""Entries of a header that are read, from the right."""

_LONGEST = 80
"""Characters of an IPv6 address with its zone and port; longer text is not remembered."""

_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED = b"forwarded"
_IGNORED = "ignored X-Forwarded-For"
"""The cause of the message that says so."""


def client_address(scope: Mapping[str, object], trusted: tuple[Network, ...] = ()) -> str:
    """Return the address of the client that sent a request, "" where the server doesn't know the peer.

    ``X-Forwarded-For`` wins over ``Forwarded`` (RFC 7239), because proxies that write the first pass the second on
    as the client sent it. An entry that is no address ends the reading: the address before it is the client's.

    Args:
        scope: the ASGI scope of the request.
        trusted: the networks of the proxies that may name a client.
    """
    peer = peer_address(scope)
    if not trusted:
        _say_ignored(peer, scope)
    if not trusted or not (address := parse_address(peer)) or not _is_trusted(address, trusted):
        return _normal(peer)
    headers = scope.get("headers") or ()
    return str(_nearest_untrusted(address, _hops(headers), trusted))  # type: ignore[arg-type]


def _say_ignored(peer: str, scope: Mapping[str, object]) -> None:
    """Say once that a proxy seems to name clients and nobody trusts it; then all of them have its address."""
    if is_said(_IGNORED) or not _is_neighbour(peer):
        return
    headers: Headers = scope.get("headers") or ()  # type: ignore[assignment]
    if any(name.lower() in (_FORWARDED_FOR, _FORWARDED) for name, _ in headers):
        log_once(
            _logger,
            logging.WARNING,
            f"{peer}, a private address, sends X-Forwarded-For or Forwarded, and no proxy is trusted: whoever comes "
            "through it has its address, in events, limits and bans. If it is your proxy, set "
            "OTEL_PYTHON_GUARD_TRUSTED_PROXIES to its address or network",
            cause=_IGNORED,
        )


@lru_cache(maxsize=1024)
def _is_neighbour(peer: str) -> bool:
    return is_private(peer)


def is_trusted(address: str, trusted: tuple[Network, ...]) -> bool:
    """Whether an address is that of a trusted proxy."""
    parsed = parse_address(address) if trusted else None
    return parsed is not None and _is_trusted(parsed, trusted)


def peer_address(scope: Mapping[str, object]) -> str:
    """Return the address of the connection's peer as the server writes it, "" where it has none."""
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
    for hop in reversed(hops):
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
    """Return what the proxies wrote, the farthest first.

    Several headers of one name read as one (RFC 9110, 5.3), and empty elements of a list count for nothing (5.6.1.2).
    """
    values: dict[bytes, list[str]] = {_FORWARDED_FOR: [], _FORWARDED: []}
    for name, value in headers:
        if (lower := name.lower()) in values:
            values[lower].append(value.decode("latin-1"))
    if hops := _elements(values[_FORWARDED_FOR]):
        return hops
    return [_forwarded_for(element) for element in _elements(values[_FORWARDED])]


def _elements(values: Sequence[str]) -> list[str]:
    """Return the elements of a list that several headers may carry; beyond `MAX_HOPS` those on the right."""
    return [element for element in ",".join(values).split(",") if element.strip(" \t")][-MAX_HOPS:]


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
