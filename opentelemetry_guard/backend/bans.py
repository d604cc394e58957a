"""Which addresses may be banned: one, or a range that can be meant, but never everybody by a slip.

Whatever makes rules the newest goes through `check_bans`: the editor, a ban, and an earlier version that is restored.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timezone

from ..models import DynamicRules

_WIDEST_V4 = 8
_WIDEST_V6 = 16
"""Prefix lengths of the widest ranges that can be banned: nobody was ever allocated more."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 within IPv6."""


def with_ban(rules: DynamicRules, address: str) -> DynamicRules:
    """Return `rules` with an address or range banned besides.

    Raises:
        ValueError: it is neither, or everybody's; the text names it.
    """
    bans = list(dict.fromkeys([*rules.ip_blacklist, read_ban(address.strip())]))
    check_bans(bans)
    return rules.model_copy(update={"ip_blacklist": bans, "timestamp": datetime.now(timezone.utc)})


def read_network(text: str) -> str:
    """Return an address, or a range in CIDR notation, in its usual spelling.

    Raises:
        ValueError: it is neither.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{shown(text)} is neither an IP address nor a range such as 192.0.2.0/24 or 2001:db8::/32."
        ) from None
    if network.version == 6 and network.subnet_of(_MAPPED):
        # Applications judge a mapped address as the IPv4 address that it is (RFC 4291, section 2.5.5.2).
        network = ipaddress.ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")
    return str(network) if "/" in text else str(network.network_address)


def read_ban(text: str) -> str:
    """Return what is to be banned, as `read_network`; a range so wide that it can't be meant is refused."""
    network = read_network(text)
    wide = ipaddress.ip_network(network)
    all_of_v4 = wide.version == 6 and _MAPPED.subnet_of(wide)
    if all_of_v4 or wide.prefixlen < (_WIDEST_V4 if wide.version == 4 else _WIDEST_V6):
        raise ValueError(
            f"{shown(text)} is every address, or a large part of all: /{_WIDEST_V4} is the widest range of IPv4, "
            f"/{_WIDEST_V6} of IPv6. To let only some in, use the emergency mode and its whitelist."
        )
    return network


def check_bans(bans: Sequence[str]) -> None:
    """Refuse a ban that is too wide, and bans that together take half of IPv4, or of the IPv6 in use (2000::/3).

    What is no address bans nobody, and is passed over: the editor alone is strict with it.

    Raises:
        ValueError: they do.
    """
    networks = [ipaddress.ip_network(read_ban(ban)) for ban in bans if _is_network(ban)]
    v4 = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv4Network))
    v6 = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv6Network))
    if sum(one.num_addresses for one in v4) >= 2**31 or sum(one.num_addresses for one in v6) >= 2**124:
        raise ValueError(
            "Together these ranges are half of all addresses. To let only some in, use the emergency mode "
            "and its whitelist."
        )


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def shown(text: str) -> str:
    """Quote what somebody wrote, as much as a message has room for."""
    return f"“{text[:60]}…”" if len(text) > 60 else f"“{text}”"
