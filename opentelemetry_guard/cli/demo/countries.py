"""Countries of the demonstration's clients, in the place of a database of addresses.

Nobody has the networks that are kept for documentation, so that any country will do.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

_NETWORKS = {
    ip_network("192.0.2.0/24"): "DE",
    ip_network("2001:db8::/32"): "DE",
    ip_network("198.51.100.0/24"): "NZ",
    ip_network("203.0.113.0/24"): "AQ",
}


def country_of(address: str) -> str | None:
    """Return the ISO 3166 code of an address's country; None where it isn't known."""
    try:
        number = ip_address(address)
    except ValueError:
        return None
    return next((country for network, country in _NETWORKS.items() if number in network), None)


class Countries:
    """The same as fastapi-guard asks for it (``guard_core.protocols.geo_ip_protocol.GeoIPHandler``)."""

    is_initialized = True

    async def initialize(self) -> None:
        """Load nothing."""

    async def initialize_redis(self, redis_handler: object) -> None:
        """Share nothing."""

    async def initialize_agent(self, agent_handler: object) -> None:
        """Report nothing."""

    def get_country(self, ip: str) -> str | None:
        """Return `country_of` an address."""
        return country_of(ip)

    async def refresh(self) -> None:
        """Load nothing."""

    def close(self) -> None:
        """Release nothing."""
