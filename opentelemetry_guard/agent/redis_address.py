"""Where the Redis behind a handler is, as the URL of a delivery queue. Nothing here connects.

The queue has connections of its own, with time limits of its own: it shares
the servers with the application, not the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from ..queue.redis.url import parse_redis_url

_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_TLS_DEFAULTS: Mapping[str, object] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


class NoAddress(ValueError):
    """The servers' address can't be learned from a handler; the text says why."""


def queue_url_of(handler: object) -> str:
    """Return the URL of the Redis behind a handler: our `RedisHandler`, fastapi-guard's `RedisManager`, or a client.

    Raises:
        NoAddress: the handler tells no address, or one that a queue can't use. The text shows no password.
    """
    url = _configured_url(handler)
    if url is None:
        url = _url_of_client(_client_of(handler))
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
    return base + _query({name: value for name, value in parse_qsl(query) if name in _TLS_OPTIONS})


def _client_of(handler: object) -> object:
    for name in ("client", "redis", "_redis"):
        client = getattr(handler, name, None)
        if _is_client(client):
            return client
    if _is_client(handler):
        return handler
    raise NoAddress(f"a {type(handler).__name__} does not tell where its Redis is")


def _is_client(value: object) -> bool:
    return hasattr(value, "connection_pool") or hasattr(value, "nodes_manager") or hasattr(value, "startup_nodes")


def _url_of_client(client: Any) -> str:
    pool = getattr(client, "connection_pool", None)
    if pool is None or hasattr(client, "nodes_manager"):
        return _url_of_cluster(client)
    settings: Mapping[str, Any] = pool.connection_kwargs
    if hasattr(pool, "sentinel_manager"):
        return _url_of_sentinels(pool, settings)
    if "path" in settings or "host" not in settings:
        raise NoAddress("its Redis is behind a Unix socket, which the delivery queue can't use; give it a TCP address")
    tls = _tls_options(settings) if _uses_tls(pool) else None
    where = f"{_credentials(settings)}{_host(settings['host'], settings.get('port'))}/{int(settings.get('db') or 0)}"
    return f"redis://{where}" if tls is None else f"rediss://{where}{_query(tls)}"


def _url_of_cluster(client: Any) -> str:
    manager = client.nodes_manager
    settings: Mapping[str, Any] = getattr(manager, "connection_kwargs", {})
    nodes = manager.startup_nodes.values()
    hosts = ",".join(_host(node.host, node.port) for node in nodes)
    secure = bool(settings.get("ssl")) or "ssl_ca_certs" in settings
    tls = {"ssl": "true", **_tls_options(settings)} if secure else {}
    return f"redis+cluster://{_credentials(settings)}{hosts}{_query(tls)}"


def _url_of_sentinels(pool: Any, settings: Mapping[str, Any]) -> str:
    pools = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
    hosts = ",".join(_host(one.connection_kwargs["host"], one.connection_kwargs.get("port")) for one in pools)
    own = pools[0].connection_kwargs
    options = {"ssl": "true", **_tls_options(settings)} if _uses_tls(pool) else {}
    for name in ("username", "password"):
        if own.get(name):
            options[f"sentinel_{name}"] = str(own[name])
    service, db = quote(str(pool.service_name), safe=""), int(settings.get("db") or 0)
    return f"redis+sentinel://{_credentials(settings)}{hosts}/{service}/{db}{_query(options)}"


def _uses_tls(pool: Any) -> bool:
    return "SSL" in pool.connection_class.__name__


def _credentials(settings: Mapping[str, Any]) -> str:
    provider = settings.get("credential_provider")
    if provider is not None and not hasattr(provider, "password"):
        raise NoAddress("its password comes from a credential provider, which the delivery queue can't ask")
    source = settings if provider is None else vars(provider)
    username, password = source.get("username") or "", source.get("password") or ""
    return f"{quote(username, safe='')}:{quote(password, safe='')}@" if username or password else ""


def _host(host: object, port: object) -> str:
    name = f"[{host}]" if ":" in str(host) else str(host)
    return f"{name}:{port or 6379}"


def _tls_options(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of TLS that were set to something of their own."""
    return {
        name: _option(settings[name])
        for name in _TLS_OPTIONS
        if settings.get(name) is not None and settings[name] != _TLS_DEFAULTS.get(name)
    }


def _option(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _query(options: Mapping[str, str]) -> str:
    return f"?{urlencode(options)}" if options else ""
