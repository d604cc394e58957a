"""What a change of the rules could shut out by a slip: it is asked about once more before it is saved."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from ...models import DynamicRules
from ..bans import shown

_MOST_FORWARDED = 20
"""Addresses of `X-Forwarded-For` that are looked at."""

_MOST_TOLD = 20
"""Bans that the question tells apart."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOCAL: Sequence[tuple[str, Sequence[Network]]] = (
    ("this machine itself", [ipaddress.ip_network(text) for text in ("127.0.0.0/8", "::1/128")]),
    (
        "an address of a private network",
        # RFC 1918, 3927, 6598, 4193 and 4291. What else Python calls private is for documentation and tests.
        [
            ipaddress.ip_network(text)
            for text in (
                *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
                *("fc00::/7", "fe80::/10"),
            )
        ],
    ),
)


@dataclass(frozen=True, slots=True)
class Risk:
    """A reason to ask: `key` is what a confirmation names, `told` is said to the visitor."""

    key: str
    told: str


def risks_of(older: DynamicRules, newer: DynamicRules, own: Sequence[str]) -> list[Risk]:
    """Return what may be a slip in the change from `older` to `newer`, made by somebody with the addresses `own`."""
    found = []
    if newer.emergency_mode and not older.emergency_mode:
        let_in = {*newer.emergency_whitelist, *(() if newer.emergency_whitelist_only else newer.ip_whitelist)}
        entries = "1 entry" if len(let_in) == 1 else f"{len(let_in)} entries"
        who = f"every client but those of the whitelist ({entries})" if let_in else "everybody: the whitelist is empty"
        found.append(Risk("emergency mode", f"The emergency mode refuses {who}."))
    added = set(newer.ip_blacklist) - set(older.ip_blacklist)
    found += [
        Risk(ban, f"{shown(ban)} {'takes in' if '/' in ban else 'is'} {what}.")
        for ban in sorted(added)
        if (what := _hit(ban, own))
    ]
    more = len(found) - _MOST_TOLD
    if more > 0:
        left_out = "\n".join(risk.key for risk in found[_MOST_TOLD:])
        found = [*found[:_MOST_TOLD], Risk(left_out, f"And {more} more bans of such addresses.")]
    return found


def confirmed(risks: Iterable[Risk], said: str) -> bool:
    """Whether a confirmation names every one of `risks`."""
    named = set(said.splitlines())
    return all(named.issuperset(risk.key.splitlines()) for risk in risks)


def own_addresses(request: Request) -> list[str]:
    """Return the addresses that may be the visitor's: of the connection, and those that a proxy names.

    Anybody may write these; they are good enough for asking whether a ban is meant.
    """
    forwarded = request.headers.get("x-forwarded-for", "").split(",")[:_MOST_FORWARDED]
    return [*([request.client.host] if request.client else []), *(text.strip() for text in forwarded if text.strip())]


def _hit(ban: str, own: Sequence[str]) -> str | None:
    """Say whom a ban shuts out that it can hardly mean; None for anybody else, and for what bans nobody."""
    try:
        network = ipaddress.ip_network(ban, strict=False)
    except ValueError:
        return None
    if any(_is_in(address, network) for address in own):
        return "your own address"
    for what, places in _LOCAL:
        if any(place.version == network.version and place.overlaps(network) for place in places):
            return what
    return None


def _is_in(text: str, network: Network) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # Applications judge a mapped address as the IPv4 address that it is.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address) in network
