"""Redis URLs: which servers a URL names and how to reach them. Imports no Redis client and opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

Topology = Literal["single", "sentinel", "cluster"]

FORMS = {
    "redis": "redis://[user:password@]host[:6379][/db]",
    "rediss": "rediss://[user:password@]host[:6379][/db][?ssl_ca_certs=/path/ca.pem]",
    "redis+sentinel": "redis+sentinel://[user:password@]host[:26379][,host...]/service[/db]",
    "redis+cluster": "redis+cluster://[user:password@]host[:6379][,host...]",
}
"""The schemes, with the form of each."""

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
"""Options of a URL that speaks TLS, which are redis-py's arguments too."""
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "redis": (),
    "rediss": TLS_OPTIONS,
    "redis+sentinel": ("ssl", *TLS_OPTIONS, "sentinel_username", "sentinel_password"),
    "redis+cluster": ("ssl", *TLS_OPTIONS),
}
_URL = re.compile(
    r"(?P<scheme>[A-Za-z+]+)://(?:(?P<credentials>.*)@)?(?P<hosts>[^/?#@]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?",
    re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:\s]+)(?::(?P<port>\d{1,5}))?")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is. What is secret is in no repr.

    `hosts` are servers, sentinels or cluster nodes as (host, port); `service`
    is the name by which sentinels know the master; `tls` holds redis-py's
    ``ssl_*`` arguments, None for a plain connection.
    """

    topology: Topology
    hosts: tuple[tuple[str, int], ...]
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    service: str = ""
    tls: Mapping[str, str | bool] | None = None
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        found = (self.password, self.sentinel_password)
        return tuple(secret for secret in found if secret)

    @property
    def url(self) -> str:
        """The URL that `parse_redis_url` reads as this address, with its credentials."""
        single, tls = self.topology == "single", self.tls is not None
        scheme = ("rediss" if tls else "redis") if single else f"redis+{self.topology}"
        credentials = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"
        path = {"single": f"/{self.db}", "sentinel": f"/{quote(self.service, safe='')}/{self.db}", "cluster": ""}
        options: dict[str, str | bool | None] = {"ssl": True} if tls and not single else {}
        options |= {
            **(self.tls or {}),
            "sentinel_username": self.sentinel_username,
            "sentinel_password": self.sentinel_password,
        }
        shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
        query = urlencode({name: value for name, value in shown.items() if value})
        before = f"{scheme}://{credentials if self.username or self.password else ''}{self._hosts}"
        return before + path[self.topology] + (f"?{query}" if query else "")

    def __str__(self) -> str:
        """Name the servers, without credentials."""
        return f"{self._hosts}/{self.service}" if self.service else self._hosts

    @property
    def _hosts(self) -> str:
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)


def parse_redis_url(url: str) -> RedisAddress:
    """Read a Redis URL; user, password and path may hold percent escapes.

    Example::

        parse_redis_url("redis+sentinel://:secret@a:26379,b:26379/mymaster/0").service  # "mymaster"

    Raises:
        ValueError: the URL is malformed; the text shows no credentials.
    """
    match = _URL.fullmatch(url)
    scheme = match.group("scheme").lower() if match else ""
    if match is None or scheme not in FORMS:
        form = next((form for name, form in FORMS.items() if url.lower().startswith(f"{name}:")), " or ".join(FORMS))
        raise ValueError(f"the Redis URL is malformed; write {form}, with @, /, ? and # in a password as %40, %2F, ...")

    def wrong(what: str) -> ValueError:
        return ValueError(f"queue URL {scheme}://***: {what}; write {FORMS[scheme]}")

    hosts = _hosts(match.group("hosts"), 26379 if scheme == "redis+sentinel" else 6379)
    if not hosts:
        raise wrong("it needs a host, with a port from 1 to 65535 if any")
    if len(hosts) > 1 and scheme in ("redis", "rediss"):
        raise wrong("it takes one host; several belong to redis+sentinel:// or redis+cluster://")
    steps = [unquote(step) for step in (match.group("path") or "").strip("/").split("/") if step]
    service = ""
    if scheme == "redis+sentinel":
        if not steps:
            raise wrong("it needs the name of the service that the sentinels watch")
        service = steps.pop(0)
    if len(steps) > 1 or (steps and not (steps[0].isascii() and steps[0].isdecimal())):
        raise wrong("the path after the host is the number of a database")
    db = int(steps[0]) if steps else 0
    if db and scheme == "redis+cluster":
        raise wrong("a cluster has database 0 only")
    options = dict(parse_qsl(match.group("query") or "", keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS[scheme]:
            known = ", ".join(_OPTIONS[scheme]) or "none"
            # Its text is not shown: what follows a stray "?" or "&" may be a part of a password
            raise wrong(
                f"the query has an option that does not exist, options are: {known}; "
                "user and password go before the host"
            )
    try:
        tls = _tls(options, secure=scheme == "rediss")
    except ValueError as error:
        raise wrong(str(error)) from None
    username, _, password = (match.group("credentials") or "").partition(":")
    return RedisAddress(
        topology="sentinel" if scheme == "redis+sentinel" else "cluster" if scheme == "redis+cluster" else "single",
        hosts=hosts,
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=db,
        service=service,
        tls=tls,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    """Return the hosts, or none when one of them is malformed."""
    found: list[tuple[str, int]] = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        port = int(match.group("port") or default_port) if match else 0
        if match is None or not 0 < port < 65536:
            return ()
        found.append((unquote(match.group("host").strip("[]")), port))
    return tuple(found)


def _tls(options: Mapping[str, str], *, secure: bool) -> dict[str, str | bool] | None:
    """Return redis-py's arguments for TLS, None for a plain connection."""
    if not _boolean("ssl", options.get("ssl", "true" if secure else "false")):
        if stray := [name for name in options if name in TLS_OPTIONS]:
            raise ValueError(f"option {stray[0]} needs ssl=true")
        return None
    tls: dict[str, str | bool] = {name: value for name, value in options.items() if name in TLS_OPTIONS}
    if "ssl_check_hostname" in options:
        tls["ssl_check_hostname"] = _boolean("ssl_check_hostname", options["ssl_check_hostname"])
    requirement = options.get("ssl_cert_reqs", "required")
    if requirement not in ("required", "optional", "none"):
        raise ValueError(f"ssl_cert_reqs must be required, optional or none, not {requirement!r}")
    return tls


def _boolean(name: str, value: str) -> bool:
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise ValueError(f"option {name} must be true or false, not {value!r}") from None
