"""Client addresses under a key: who has the key can tell whose address it is, nobody else, and equal ones stay equal.

A bare hash would protect nothing: all IPv4 addresses are hashed in minutes.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from ..decision.addresses import subscriber
from .sensitive_names import canonical

PREFIX = "ip-hmac-"
"""What a hashed address begins with; 32 hexadecimal digits follow (128 bits of HMAC-SHA256)."""
HASHED_ADDRESS = re.compile(PREFIX + "[0-9a-f]{32}")

_NAMES = frozenset(
    canonical(name)
    for name in """
    address addresses client.address client-host remote-host peer source.address x-forwarded forwarded banned-ip
    blocked-ip origin-ip x-envoy-external-address network.peer.address net.sock.peer.addr client.socket.address
    net.peer.name net.sock.peer.name enduser.address visitor-address attacker-address
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Names of client addresses that don't end like `_END`."""
_MEMORY = 256
"""Addresses whose hash is remembered, and texts whose addresses are."""
_LONGEST_ADDRESS = 256
_NOBODY = frozenset({"", "system", "unknown", "localhost", "none", "null", "-"})
"""What stands for an address where there is none."""
_LITERAL = re.compile(
    r"(?<![0-9A-Za-z.:-])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f.]{0,15}){2,8})"
)


_END = re.compile(
    r"(?:ip|ipaddr|ipaddress|ipv4|ipv6|remoteaddr|remoteaddress|clientaddr|clientaddress|peeraddr|peeraddress"
    r"|sourceaddress|forwardedfor|proxiedfor)(?:s|es)?\Z"
)
"""How other names of client addresses end: ``guard.client_ip``, ``attackerIp``, ``X-Vercel-Forwarded-For``."""
_WORD_BEFORE_IP = re.compile(r"(?:\A|[._ -]|[a-z](?=I))(?:[Ii][Pp]|IP)(?:[Ss]|_?[Vv][46])?\Z")
_JOINED = re.compile(r"(?:client|real|user|remote|peer|source|src|connecting|connection|socket|visitor|attacker)ips?\Z")
_OURS = re.compile(
    r"(?:server|host|local|dest|destination|dst|listen|bind|node|pod|target|upstream|gateway)[._-]?"
    r"(?:ip|addr|address|ipaddr|ipaddress|ipv[46])s?\Z"
)
"""Addresses of the server's side."""
_PREFIXES = ("http.request.header.", "http.response.header.", "http.", "guard.", "metadata.", "HTTP_")


def is_address_name(name: str) -> bool:
    """Whether a field of this name holds client addresses; those of the server's side are nobody's."""
    name = name[-128:]
    if canonical(name) in _NAMES:
        return True
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    found = canonical(name)
    if found in _NAMES:
        return True
    if _OURS.search(found):
        return False
    end = _END.search(found)
    return end is not None and (
        not end[0].startswith("ip")
        or end[0].startswith("ipadd")
        or bool(_WORD_BEFORE_IP.search(name))
        or bool(_JOINED.search(found))
    )


class AddressHash:
    """Replaces addresses by their HMAC under one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode(errors="surrogatepass")
        self._remembered = lru_cache(maxsize=_MEMORY)(self._made)

    def of(self, address: str) -> str:
        """Return the hash of one address; what stands for no address and what is hashed already stays."""
        return self._remembered(address)

    def _made(self, address: str) -> str:
        address = address.strip()
        if address.lower() in _NOBODY or HASHED_ADDRESS.fullmatch(address):
            return address
        message = _canonical(address).encode(errors="surrogatepass")
        return PREFIX + hmac.digest(self._key, message, "sha256").hex()[:32]

    def of_client(self, address: object) -> str:
        """Return the hash by which a client is counted: that of its address, or of its IPv6 network; "" without one."""
        return self.in_field(subscriber(address[:_LONGEST_ADDRESS])) if isinstance(address, str) else ""

    def in_field(self, text: str) -> str:
        """Return the text of a field that holds addresses with each of them replaced: one, a list, or with a port."""
        replaced = self.in_prose(text)
        if replaced != text or HASHED_ADDRESS.search(text) or text.strip().lower() in _NOBODY:
            return replaced
        return self.of(text)

    def in_prose(self, text: str) -> str:
        """Return a text with whatever reads like an IP address replaced."""
        return _LITERAL.sub(self._replace, text)

    def in_text(self, text: str, addresses: Iterable[str]) -> str:
        """Return a text with every occurrence of these very addresses replaced."""
        for address in addresses:
            if address == text:
                return self.of(address)
            if address in text:
                text = self._everywhere(text, address)
        return text

    def _everywhere(self, text: str, address: str) -> str:
        parts: list[str] = []
        done, found = 0, text.find(address)
        while found >= 0:
            end = found + len(address)
            if not _continues(text[max(0, found - 2) : found], text[end : end + 2]):
                parts += (text[done:found], self.of(address))
                done = end
            found = text.find(address, end)
        return "".join((*parts, text[done:]))

    def _replace(self, found: re.Match[str]) -> str:
        try:
            ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        # "Chrome/120.0.0.0" is a version, and no client has a network's address.
        if found[0].endswith(".0.0") and found.string[max(0, found.start() - 1) : found.start()] == "/":
            return found[0]
        return self.of(found[0])


def _continues(before: str, after: str) -> bool:
    """Whether what looks like an address is the end or the beginning of another one, or of a word."""
    return (
        before[-1:].isalnum()
        or before[-1:] in (":", "-")
        or (before[-1:] == "." and before[:1].isdigit())
        or after[:1].isalnum()
        or (after[:1] == "." and after[1:].isdigit())
    )


@lru_cache(maxsize=_MEMORY)
def literals(text: str) -> tuple[str, ...]:
    """Return the addresses that a field's text holds, as they are written there."""
    text = text.strip()
    if text.lower() in _NOBODY or HASHED_ADDRESS.search(text):
        return ()
    found = tuple(match[0] for match in _LITERAL.finditer(text) if _is_address(match[0]))
    return found or ((text,) if len(text) >= 7 and not text.isspace() and " " not in text else ())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _canonical(address: str) -> str:
    """Return one spelling for the many of an IP address; an IPv4 address within IPv6 is the IPv4 address."""
    try:
        parsed = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
