"""Who a client is, and what its requests are about, in a few bytes that stay small whatever a client sends."""

from __future__ import annotations

import functools
import hashlib
import re
import socket
import zlib

from ...settings.instrumentation import DEFAULT_IPV6_PREFIX

_HASHED_CHARACTERS = 256
"""Characters of a path or a user agent that are told apart; hashing what comes after would be the client's choice."""

_ASSETS = frozenset(
    """
    js mjs css map wasm png jpg jpeg gif svg webp avif ico woff woff2 ttf otf eot mp3 mp4 webm
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""How the names of files end that a page loads by itself."""
_LONGEST_ENDING = max(map(len, _ASSETS)) + 1

_OF_ITS_KIND = re.compile(
    r"(?<=/)[^/_-]{1,64}(?:[-_][^/_-]{1,64}){2,}"  # a title
    r"|(?<![0-9A-Za-z])(?=[0-9a-f]{0,32}[0-9])[0-9a-f]{8,32}(?![0-9A-Za-z])"  # a hash
    r"|[0-9]+"
)
"""What tells one path from others of its kind."""

_MAPPED_IPV4 = bytes(10) + b"\xff\xff"
_NETWORK_BYTES = 8


def address_key(address: str, ipv6_prefix: int = DEFAULT_IPV6_PREFIX) -> bytes | None:
    """Return the key of a client address, None where it is unknown.

    IPv4 addresses are told apart, IPv6 addresses by their network (`addresses.subscriber`). Anything else (a test
    client, the path of a socket) is a name.

    Args:
        address: of the client.
        ipv6_prefix: bits of an IPv6 address that count.
    """
    if not address:
        return None
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return _named(b"a", address)
    if packed.startswith(_MAPPED_IPV4):
        return packed[len(_MAPPED_IPV4) :]
    free = 128 - ipv6_prefix
    network = (int.from_bytes(packed, "big") >> free << free).to_bytes(len(packed), "big")
    return network[:_NETWORK_BYTES] if ipv6_prefix <= 8 * _NETWORK_BYTES else network


def is_ipv6(key: bytes) -> bool:
    """Whether an address's key stands for an IPv6 address, or for its network."""
    return len(key) in (_NETWORK_BYTES, 16)


def user_key(user: str) -> bytes:
    """Return the key of a user id."""
    return _named(b"u", user)


def resource(route: str | None, path: str) -> str:
    """Return what a request is about: the route's template, or the path where no template tells more.

    A template tells more when it has a part of its own: ``/items/{number}`` is one resource, whatever was not found
    in it, but ``/{anything}`` is a catch-all, and only the path says what was asked for. The files that a page loads
    are one resource in each directory: after a deployment, an old page asks for dozens that are gone.
    """
    if route and has_own_part(route):
        return route
    return path[: path.rfind("/") + 1] + "*" if is_asset(path) else path


def kind(about: str) -> str:
    """Return a `resource` without numbers, hashes and titles: after a move, a robot asks for thousands of one kind."""
    return _OF_ITS_KIND.sub(_placeholder, about[:_HASHED_CHARACTERS])


def has_objects(route: str | None) -> bool:
    """Whether a template has a part of its own and a parameter, so that its paths are objects of one kind."""
    return bool(route) and "{" in route and has_own_part(route)  # type: ignore[operator]


def _placeholder(found: re.Match[str]) -> str:
    return "0" if found.group().isdigit() else "~"


def is_asset(path: str) -> bool:
    """Whether a path is that of a file which a page loads by itself, as its ending says."""
    _, dot, ending = path[-_LONGEST_ENDING:].rpartition(".")
    return bool(dot) and ending.lower() in _ASSETS


@functools.lru_cache(maxsize=1024)
def has_own_part(route: str) -> bool:
    """Whether a route's template has a segment that is no parameter."""
    return any(part and not part.startswith("{") for part in route.split("/"))


def mark(key: bytes) -> int:
    """Return a hash of a key, to count how many different ones there are."""
    return zlib.crc32(key)


def fingerprint(text: str) -> int:
    """Return a hash that tells texts apart well enough to count how many different ones there are."""
    return zlib.crc32(text[:_HASHED_CHARACTERS].encode("utf-8", "surrogatepass"))


def _named(kind: bytes, name: str) -> bytes:
    # Nine bytes, so that a name is never an address. No client can choose two names that share a key.
    return kind + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
