"""Settings of the durable exporters for OTLP: one destination, and the queue before it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias, cast

from . import otlp, values
from .delivery import PREFIX as GUARD_PREFIX
from .delivery import DestinationSettings, GuardConfig, Overflow, digest
from .setting import SettingError, same, setting
from .shown import quoted
from .urls import mask_url

PREFIX = "OTEL_PYTHON_EXPORTER_DURABLE_"
"""What the names of the variables begin with."""

Headers: TypeAlias = "Mapping[str, str] | Callable[[], Mapping[str, str]]"
"""Request headers, or what returns them at each request."""
Compression = Literal["none", "gzip", "deflate"]

_CREDENTIAL = re.compile(r"auth|cookie|credential|key|password|secret|signature|team|token", re.IGNORECASE)
"""In the name of a header: its value lets somebody in, and may be renewed while who is let in stays the same."""

_NO_HEADERS: Headers = MappingProxyType({})


def _headers(value: object) -> Headers:
    return cast("Headers", value) if callable(value) else values.headers(value)


def _url(value: object) -> str:
    given = str(value).strip()
    if values.http_parts(given) is None:
        raise ValueError("it must be a URL like http://collector:4318/v1/traces, without user and password")
    return given


@dataclass(frozen=True, slots=True)
class DurableConfig(DestinationSettings):
    """Validated settings of one destination. A wrong variable is raised: the caller switches this exporter off."""

    PREFIX: ClassVar[str] = PREFIX
    CONNECTION: ClassVar[str] = "OTEL_EXPORTER_OTLP_"
    STRICT: ClassVar[bool] = True
    LATE: ClassVar[bool] = False

    endpoint: str = setting(
        otlp.DEFAULT_ENDPOINT, _url, "whole URL of the requests, or what they begin with", url=True, variable=False
    )
    whole: bool = setting(False, values.switch, "whether requests go to the endpoint as it is", variable=False)
    headers: Headers = setting(_NO_HEADERS, _headers, "request headers", secret=True, variable=False)
    owner: str = setting("", values.text, "hash of whose data it is at the endpoint", variable=False)
    timeout: float = same(GuardConfig, "timeout", variable=False)
    compression: Compression = setting(
        "none", values.choice("none", "gzip", "deflate"), "`none`, `gzip` or `deflate`", variable=False
    )
    certificate: str | None = setting(None, values.text, "PEM file that vouches for the receiver", variable=False)
    client_certificate: str | None = setting(None, values.text, "PEM file with our certificate", variable=False)
    client_key: str | None = setting(None, values.text, "PEM file with our private key", variable=False)
    queue_url: str | None = same(
        GuardConfig,
        "queue_url",
        meaning="`sqlite:///path/otlp.db`, `redis://host/0`, `memory://`; see [queues.md](queues.md)",
    )
    queue_max_bytes: int = same(GuardConfig, "queue_max_bytes")
    queue_overflow: Overflow = same(
        GuardConfig,
        "queue_overflow",
        meaning="what goes when the queue is full: `drop_oldest` or `drop_newest`; metrics go before logs, logs before "
        "spans",
    )
    max_age: float | None = setting(
        None,
        values.seconds(1, 366 * 86_400),
        "seconds after which what waits is dropped, counted as `expired`: receivers refuse what is too old",
        shown="none",
    )
    keep_all_points: bool = setting(
        False,
        values.switch,
        "`true`: send every point of a cumulative series after an outage; else the newest one, and the others are "
        "counted as `superseded`",
    )
    tenant: str | None = setting(
        None,
        values.short_header_text,
        "a name for whose data it is, in the place of the headers: queues then stay the same when headers change",
        shown="told from the headers",
    )
    encryption_key: str | None = same(
        GuardConfig,
        "encryption_key",
        meaning="encrypt what waits in the queue (AES-256-GCM): urlsafe base64 of 32 bytes; extra `encryption`",
        shown=f"`{GUARD_PREFIX}ENCRYPTION_KEY`",
    )
    max_body_bytes: int = setting(
        4_000_000,
        values.whole(4096, 1_000_000_000, "bytes"),
        "bytes that the body of several rows stays below, before compression; less for a receiver that refuses it",
    )
    requests_in_flight: int = same(GuardConfig, "requests_in_flight")
    retry_attempts: int = same(GuardConfig, "retry_attempts")
    backoff_factor: float = same(GuardConfig, "backoff_factor")
    breaker_failures: int = same(GuardConfig, "breaker_failures")
    breaker_failure_rate: float = same(GuardConfig, "breaker_failure_rate")
    breaker_recovery: float = same(GuardConfig, "breaker_recovery")
    breaker_max_recovery: float = same(GuardConfig, "breaker_max_recovery")
    fleet_size: int = same(
        GuardConfig,
        "fleet_size",
        meaning="processes that send to this receiver, about: a larger fleet comes back from an outage evenly",
    )
    shutdown_timeout: float = same(GuardConfig, "shutdown_timeout")

    @classmethod
    def of(cls, signal: otlp.Signal, **keywords: object) -> DurableConfig:
        """Return what keywords, the standard variables of a signal and ``OTEL_PYTHON_EXPORTER_DURABLE_*`` make.

        Raises:
            SettingError: a keyword or a variable has a value that is not allowed.
            TypeError: a keyword is not the name of a setting.
        """
        given = {name: value for name, value in keywords.items() if value not in (None, "")}
        url = str(cls.parse("endpoint", given["endpoint"])) if "endpoint" in given else _url_of(signal)
        base = url.removesuffix(otlp.path_of(signal))
        headers = cast("Headers", cls.parse("headers", given["headers"])) if "headers" in given else {}
        tenant = str(given.get("tenant") or os.environ.get(f"{PREFIX}TENANT", "").strip())
        told = {
            "timeout": otlp.timeout(signal),
            "compression": otlp.compression(signal),
            "certificate": otlp.text(signal, "CERTIFICATE"),
            "client_certificate": otlp.text(signal, "CLIENT_CERTIFICATE"),
            "client_key": otlp.text(signal, "CLIENT_KEY"),
            "encryption_key": _key_of_guard(),
        }
        if os.environ.get(f"{PREFIX}ENCRYPTION_KEY"):
            del told["encryption_key"]
        # What returns headers returns credentials: it is not asked before there is something to send.
        owner = _owner(tenant, {**otlp.headers(signal), **({} if callable(headers) else told_now(headers))})
        return cls.resolve(**{**told, **given, "endpoint": base, "whole": base == url, "owner": owner})

    @property
    def destination(self) -> str:
        """Hash that the names of queues derive from: one queue per endpoint and tenant."""
        return digest(f"otlp\n{self.endpoint}\n{self.whole}\n{self.owner}")[:16]


def told_now(headers: Headers) -> Mapping[str, str]:
    """Return headers as they are at this moment, with names in lower case."""
    return {name.lower(): str(value) for name, value in (headers() if callable(headers) else headers).items()}


def _owner(tenant: str, headers: Mapping[str, str]) -> str:
    """Return the hash of whose data it is, to go by what is sent with it; never what lets somebody in.

    Credentials count only where nothing else tells tenants apart, so that a renewed one finds its backlog.
    """
    if not tenant:
        names = [name for name in headers if not _CREDENTIAL.search(name)] or headers
        tenant = "\n".join(f"{name}={headers[name]}" for name in sorted(names))
    return digest(tenant) if tenant else ""


def _url_of(signal: otlp.Signal) -> str:
    given = otlp.url(signal)
    try:
        return _url(given)
    except ValueError as error:
        name = otlp.variable(signal, "ENDPOINT")
        text = f"{name} is {quoted(mask_url(given))}, which can't be used: {error}"
        raise SettingError(text, from_environment=True) from None


def _key_of_guard() -> str | None:
    """Return the key that Guard's rows are encrypted with: who encrypts those at rest means these as well."""
    found = GuardConfig.settings()["encryption_key"]
    text = os.environ.get(found.variable or "", "")
    return None if found.is_unset(text) else str(found.parse(text, from_environment=True))
