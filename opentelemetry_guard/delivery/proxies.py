"""Which proxy leads to a backend, as the environment says it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_of(url: str) -> str | None:
    """Return the URL of the proxy that ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``ALL_PROXY`` name for a URL, None for none.

    What ``NO_PROXY`` lists is reached without one: hosts with all their subdomains, with or without a port, addresses
    and networks of addresses. On macOS and Windows the system's settings count where no variable is set.
    """
    proxies = getproxies()
    parts = urlsplit(url)
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or _is_excepted(parts.hostname, parts.port, proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_excepted(host: str, port: int | None, proxies: Mapping[str, str]) -> bool:
    for listed in proxies.get("no", "").lower().replace(" ", "").split(","):
        name = listed.lstrip(".")
        if not name:
            continue
        named = f"{host}:{port}" if ":" in name and not _is_in(host, name) else host
        if named == name or named.endswith(f".{name}") or _is_in(host, name):
            return True
    return bool(proxy_bypass(host))


def _is_in(host: str, network: str) -> bool:
    """Whether a host is an address of a network, or the address itself."""
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
