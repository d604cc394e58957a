"""Where the Redis behind a handler is, as the URL of a delivery queue. Nothing here connects.

The queue has connections of its own, with time limits of its own: it shares
the servers with the application, not the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ..queue.redis.url import TLS_OPTIONS, RedisAddress, parse_redis_url

_TLS_DEFAULTS: Mapping[str, object] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
"""What redis-py's options of TLS are where nobody sets them, if anything."""


class NoAddress(ValueError):
    """The servers' address can't be learned from a handler; the text says why."""


def queue_url_of(handler: object) -> str:
    """Return the URL of the Redis behind a handler: our `RedisHandler`, fastapi-guard's `RedisManager`, or a client.

    Raises:
        NoAddress: the handler tells no address, or one that a queue can't use. The text shows no password.
    """
    url = _configured_url(handler) or _address_of_client(_client_of(handler)).url
    try:
        return parse_redis_url(url).url
    except ValueError as error:
        raise NoAddress(str(error)) from None


def _configured_url(handler: object) -> str | None:
    """Return the URL that fastapi-guard's own handler connects to, without options that are for its client only."""
    url = getattr(getattr(handler, "config", None), "redis_url", None)
    if not isinstance(url, str) or not url:
        return None
    base, _, query = url.partition("?")
    return f"{base}?{urlencode([option for option in parse_qsl(query) if option[0] in TLS_OPTIONS])}"


def _client_of(handler: object) -> Any:
    for client in (*(getattr(handler, name, None) for name in ("client", "redis", "_redis")), handler):
        if hasattr(client, "connection_pool") or hasattr(client, "nodes_manager"):
            return client
    raise NoAddress(f"a {type(handler).__name__} does not tell where its Redis is")


def _address_of_client(client: Any) -> RedisAddress:
    manager = getattr(client, "nodes_manager", None)
    if manager is not None:
        return _address_of_cluster(manager)
    pool = client.connection_pool
    settings: Mapping[str, Any] = pool.connection_kwargs
    tls = _tls_options(settings) if "SSL" in pool.connection_class.__name__ else None
    username, password = _credentials(settings)
    db = int(settings.get("db") or 0)
    if hasattr(pool, "sentinel_manager"):
        sentinels = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
        return RedisAddress(
            "sentinel",
            tuple(_host(one) for one in sentinels),
            username,
            password,
            db,
            str(pool.service_name),
            tls,
            sentinels[0].get("username"),
            sentinels[0].get("password"),
        )
    if "path" in settings or "host" not in settings:
        raise NoAddress("its Redis is behind a Unix socket, which the delivery queue can't use; give it a TCP address")
    return RedisAddress("single", (_host(settings),), username, password, db, tls=tls)


def _address_of_cluster(manager: Any) -> RedisAddress:
    settings: Mapping[str, Any] = getattr(manager, "connection_kwargs", {})
    hosts = tuple((str(node.host), int(node.port)) for node in manager.startup_nodes.values())
    secure = bool(settings.get("ssl")) or "ssl_ca_certs" in settings
    return RedisAddress("cluster", hosts, *_credentials(settings), tls=_tls_options(settings) if secure else None)


def _credentials(settings: Mapping[str, Any]) -> tuple[str, str]:
    provider = settings.get("credential_provider")
    if provider is not None and not hasattr(provider, "password"):
        raise NoAddress("its password comes from a credential provider, which the delivery queue can't ask")
    source = settings if provider is None else vars(provider)
    return source.get("username") or "", source.get("password") or ""


def _host(settings: Mapping[str, Any]) -> tuple[str, int]:
    return str(settings["host"]), int(settings.get("port") or 6379)


def _tls_options(settings: Mapping[str, Any]) -> dict[str, str | bool]:
    """Return the options of TLS that were set to something of their own."""
    found = {name: settings[name] for name in TLS_OPTIONS if settings.get(name) not in (None, _TLS_DEFAULTS.get(name))}
    return {name: value if isinstance(value, bool) else str(value) for name, value in found.items()}
