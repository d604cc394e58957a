"""Settings of the exporters and the delivery behind them: one destination."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, TypeVar

from . import values
from .setting import Group, setting

PREFIX = "OTEL_EXPORTER_GUARD_"
"""What the names of the variables begin with."""
DEFAULT_ENDPOINT = "https://api.fastapi-guard.com"
MAX_BODY_BYTES = 256_000
"""Bytes that a body stays below by default: the hosted platform refuses more than 262,144."""

Compression = Literal["gzip", "none"]
Overflow = Literal["drop_oldest", "drop_newest"]
EventLogFormat = Literal["ndjson", "ocsf", "ecs", "cef"]


def _encryption_key(value: object) -> str:
    text = str(value).strip()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != 32:
        raise ValueError("it must be urlsafe base64 of 32 bytes")
    if importlib.util.find_spec("cryptography") is None:
        raise ValueError("encryption needs the package cryptography: pip install 'opentelemetry-guard[encryption]'")
    return text


def _compression_of(enabled: object) -> Compression:
    return "gzip" if enabled else "none"


def _overflow_of(policy: object) -> Overflow:
    """``block`` and ``raise`` keep what came first, so a full store refuses what is new."""
    return "drop_oldest" if policy == "drop" else "drop_newest"


def _tries_of(retries: object) -> int:
    return max(1, int(str(retries)))


class DestinationSettings(Group):
    """What every delivery is told of its destination, whatever it carries. `GuardConfig` says what each means."""

    __slots__ = ()

    CONNECTION: ClassVar[str]
    """What the names of the variables begin with that say how to connect."""

    endpoint: str
    timeout: float
    max_body_bytes: int
    requests_in_flight: int
    queue_url: str | None
    queue_max_bytes: int
    queue_overflow: Overflow
    certificate: str | None
    client_certificate: str | None
    client_key: str | None
    encryption_key: str | None
    retry_attempts: int
    backoff_factor: float
    breaker_failures: int
    breaker_failure_rate: float
    breaker_recovery: float
    breaker_max_recovery: float
    fleet_size: int
    shutdown_timeout: float

    @property
    def destination(self) -> str:
        """Hash that the names of queues derive from."""
        raise NotImplementedError

    def differences(self: _Settings, other: _Settings) -> list[str]:
        """Return the names of the settings in which `other` differs."""
        return [name for name in self.settings() if getattr(self, name) != getattr(other, name)]


_Settings = TypeVar("_Settings", bound=DestinationSettings)


@dataclass(frozen=True, slots=True)
class GuardConfig(DestinationSettings):
    """Validated settings of one destination. A wrong variable is raised: the caller switches Guard export off."""

    PREFIX: ClassVar[str] = PREFIX
    CONNECTION: ClassVar[str] = PREFIX
    STRICT: ClassVar[bool] = True

    endpoint: str = setting(
        DEFAULT_ENDPOINT, values.base_url, "base URL of the backend, without `/api/v1`", url=True, agent="endpoint"
    )
    api_key: str | None = setting(
        None, values.header_text, "API key; without one, batches wait in the queue", secret=True, agent="api_key"
    )
    project_id: str | None = setting(None, values.short_header_text, "project of the rows", agent="project_id")
    headers: Mapping[str, str] = setting(
        MappingProxyType({}), values.headers, "more request headers, `name=value,name=value`", shown="", secret=True
    )
    timeout: float = setting(
        10.0,
        values.seconds(0, 3600),
        "seconds that one request may take in all, resolving the name and every attempt to connect included",
        agent="timeout",
    )
    compression: Compression = setting(
        "gzip", values.choice("gzip", "none"), "`gzip` or `none`", agent="compression_enabled", convert=_compression_of
    )
    compression_threshold: int = setting(
        1024,
        values.whole(0, 1_000_000_000, "bytes"),
        "bytes of a body from which on it is compressed",
        agent="compression_threshold",
    )
    batch_size: int = setting(1000, values.whole(1, 100_000), "rows of one request at most", agent="buffer_size")
    max_body_bytes: int = setting(
        MAX_BODY_BYTES,
        values.whole(4096, 1_000_000_000, "bytes"),
        "bytes that the body of several rows stays below, before compression; less for a backend that refuses it",
    )
    requests_in_flight: int = setting(
        2, values.whole(1, 16), "requests for rows that are made at once, at most, while the backend takes them"
    )
    queue_url: str | None = setting(
        None,
        values.queue_url,
        "`sqlite:///path/queue.db`, `redis://host/0`, `memory://`; see [docs/queues.md](docs/queues.md)",
        shown="SQLite in the state directory",
        url=True,
    )
    queue_max_bytes: int = setting(
        64 * 1024 * 1024, values.whole(64 * 1024, 2**50, "bytes"), "bound of the queue in bytes of encoded batches"
    )
    queue_overflow: Overflow = setting(
        "drop_oldest",
        values.choice("drop_oldest", "drop_newest"),
        "what goes when the queue is full: `drop_oldest` or `drop_newest`; metrics go before events",
        agent="buffer_overflow_policy",
        convert=_overflow_of,
    )
    event_log: str | None = setting(
        None,
        values.file_path,
        "file that gets a line for each event as well, for a log shipper; see [docs/siem.md](docs/siem.md)",
    )
    event_log_format: EventLogFormat = setting(
        "ndjson", values.choice("ndjson", "ocsf", "ecs", "cef"), "its lines: `ndjson` (as sent), `ocsf`, `ecs` or `cef`"
    )
    event_log_max_bytes: int = setting(
        50 * 1024 * 1024,
        values.whole(0, 2**50, "bytes"),
        "bytes at which it is rotated; 0 leaves that to others, such as logrotate",
    )
    event_log_backups: int = setting(
        5, values.whole(1, 1000), "former files that are kept: `events.ndjson.1` is the latest"
    )
    certificate: str | None = setting(
        None,
        values.readable_file,
        "PEM file to check the backend's certificate against; without it `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, "
        "`SSL_CERT_FILE` and `SSL_CERT_DIR` count, in this order",
        shown="system's store",
    )
    client_certificate: str | None = setting(
        None, values.readable_file, "PEM file with the client's certificate, for mutual TLS"
    )
    client_key: str | None = setting(
        None, values.readable_file, "PEM file with the client's private key, for mutual TLS"
    )
    install_id: str | None = setting(
        None,
        values.uuid,
        "UUID of this agent",
        shown="of the user's installation, which is kept, and the service",
        agent="install_id",
    )
    signing_secret: str | None = setting(
        None,
        values.secret,
        "sign every body with HMAC-SHA256",
        secret=True,
        blank_is_wrong=True,
        agent="payload_signing_secret",
    )
    encryption_key: str | None = setting(
        None,
        _encryption_key,
        "encrypt rows (AES-256-GCM) on the wire and in the queue: urlsafe base64 of 32 bytes; extra `encryption`",
        secret=True,
        blank_is_wrong=True,
        agent="project_encryption_key",
    )
    enable_events: bool = setting(
        True,
        values.switch,
        "`false`: events are counted as dropped, `switched_off`, and not sent",
        agent="enable_events",
    )
    enable_metrics: bool = setting(True, values.switch, "the same for metrics", agent="enable_metrics")
    retry_attempts: int = setting(
        5,
        values.whole(1, 1000),
        "tries of one burst, after which a batch waits in the backlog; an outage discards nothing",
        agent="retry_attempts",
        convert=_tries_of,
    )
    backoff_factor: float = setting(
        0.5,
        values.seconds(0, 3600),
        "seconds of the first pause in a burst at most; each further one may be twice as long",
        agent="backoff_factor",
    )
    breaker_failures: int = setting(
        5, values.whole(1, 1000), "failures in a row after which the circuit breaker of a route opens"
    )
    breaker_failure_rate: float = setting(
        0.5, values.share, "share of failures among the last 20 requests that opens it as well"
    )
    breaker_recovery: float = setting(
        1.0, values.seconds(0, 3600), "seconds of an open breaker's first pause; each failed probe doubles it"
    )
    breaker_max_recovery: float = setting(10.0, values.seconds(0, 3600), "seconds that such a pause lasts at most")
    fleet_size: int = setting(
        1000,
        values.whole(1, 10_000_000, "processes"),
        "processes that send to this backend, about, on all machines: a larger fleet comes back from an outage evenly",
    )
    status_interval: float = setting(
        300.0,
        values.seconds(1, or_zero="never"),
        "seconds between two status reports; 0 sends none",
        agent="status_interval",
    )
    rules_stream: bool = setting(
        True,
        values.switch,
        "keep a connection open on which the backend tells of changed rules at once, where it can; `false` only polls",
    )
    signed_rules_only: bool = setting(
        False,
        values.switch,
        "with a signing secret: refuse unsigned rules from the first, and not only once the backend has signed some",
    )
    shutdown_timeout: float = setting(
        5.0, values.seconds(0, 3600, or_zero="at once"), "seconds that all shutdowns together may take"
    )
    guard_version: str | None = setting(
        None,
        values.short_header_text,
        "release of fastapi-guard that bodies name",
        shown="the installed one",
        agent="guard_version",
    )
    guard_core_version: str | None = setting(
        None,
        values.short_header_text,
        "release of guard-core that bodies name",
        shown="the installed one",
        agent="guard_core_version",
    )

    @property
    def destination(self) -> str:
        """Hash that the names of queues derive from: one queue per endpoint and project.

        The key counts only where there is no project, so that a rotated key finds its backlog.
        """
        owner = f"project:{self.project_id}" if self.project_id else f"key:{digest(self.api_key or '')}"
        return digest(f"{self.endpoint}\n{owner}")[:16]

    def conflict(self) -> tuple[str, str] | None:
        """Return what is wrong where the half of mutual TLS is set that has no use alone."""
        if self.client_key and not self.client_certificate:
            variable = f"{PREFIX}CLIENT_CERTIFICATE"
            return "client_key", f"is set without a client certificate: set {variable}, whose key it is, or unset it"
        return None


def digest(text: str) -> str:
    """Return the SHA-256 of text, in hexadecimal."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
