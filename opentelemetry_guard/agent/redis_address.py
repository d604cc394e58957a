"""Where the Redis behind a handler is, as the URL of a delivery queue. Nothing here connects.

The queue has connections of its own, with time limits of its own: it shares
the servers with the application, not the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from ..queue.redis.url import parse_redis_url

_TLS_DEFAULTS: Mapping[str, object] = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": "required",
    "ssl_check_hostname": True,
}
"""redis-py's options of TLS that a queue's URL has too, and what they are where nobody sets them."""


class NoAddress(ValueError):
    """The servers' address can't be learned from a handler; the text says why."""


def queue_url_of(handler: object) -> str:
    """Return the URL of the Redis behind a handler: our `RedisHandler`, fastapi-guard's `RedisManager`, or a client.

    Raises:
        NoAddress: the handler tells no address, or one that a queue can't use. The text shows no password.
    """
    url = _configured_url(handler) or _url_of_client(_client_of(handler))
    try:
        parse_redis_url(url)
    except ValueError as error:
        raise NoAddress(str(error)) from None
    return url


def _configured_url(handler: object) -> str | None:
    """Return the URL that fastapi-guard's own handler connects to, without options that are for its client only."""
    url = getattr(getattr(handler, "config", None), "redis_url", None)
    if not isinstance(url, str) or not url:
        return None
    base, _, query = url.partition("?")
    return base + _query({name: value for name, value in parse_qsl(query) if name in _TLS_DEFAULTS})


def _client_of(handler: object) -> Any:
    for client in (*(getattr(handler, name, None) for name in ("client", "redis", "_redis")), handler):
        if hasattr(client, "connection_pool") or hasattr(client, "nodes_manager"):
            return client
    raise NoAddress(f"a {type(handler).__name__} does not tell where its Redis is")


def _url_of_client(client: Any) -> str:
    manager = getattr(client, "nodes_manager", None)
    if manager is not None:
        settings: Mapping[str, Any] = getattr(manager, "connection_kwargs", {})
        secure = bool(settings.get("ssl")) or "ssl_ca_certs" in settings
        nodes = [(node.host, node.port) for node in manager.startup_nodes.values()]
        return _url("redis+cluster", settings, nodes, "", {"ssl": "true", **_tls(settings)} if secure else {})
    pool = client.connection_pool
    settings = pool.connection_kwargs
    secure = "SSL" in pool.connection_class.__name__
    db = str(int(settings.get("db") or 0))
    if hasattr(pool, "sentinel_manager"):
        each = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
        options = {"ssl": "true", **_tls(settings)} if secure else {}
        options.update(
            {f"sentinel_{name}": str(each[0][name]) for name in ("username", "password") if each[0].get(name)}
        )
        sentinels = [(its["host"], its.get("port")) for its in each]
        return _url("redis+sentinel", settings, sentinels, f"/{quote(str(pool.service_name), safe='')}/{db}", options)
    if "path" in settings or "host" not in settings:
        raise NoAddress("its Redis is behind a Unix socket, which the delivery queue can't use; give it a TCP address")
    where = [(settings["host"], settings.get("port"))]
    return _url("rediss" if secure else "redis", settings, where, f"/{db}", _tls(settings) if secure else {})


def _url(
    scheme: str, settings: Mapping[str, Any], hosts: Iterable[tuple[Any, Any]], path: str, options: Mapping[str, str]
) -> str:
    provider = settings.get("credential_provider")
    if provider is not None and not hasattr(provider, "password"):
        raise NoAddress("its password comes from a credential provider, which the delivery queue can't ask")
    source = settings if provider is None else vars(provider)
    username, password = (quote(source.get(name) or "", safe="") for name in ("username", "password"))
    credentials = f"{username}:{password}@" if username or password else ""
    servers = ",".join(
        f"[{host}]:{port or 6379}" if ":" in str(host) else f"{host}:{port or 6379}" for host, port in hosts
    )
    return f"{scheme}://{credentials}{servers}{path}{_query(options)}"


def _tls(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of TLS that were set to something of their own."""
    found = {name: settings.get(name) for name in _TLS_DEFAULTS}
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in found.items()
        if value is not None and value != _TLS_DEFAULTS[name]
    }


def _query(options: Mapping[str, str]) -> str:
    return f"?{urlencode(options)}" if options else ""
