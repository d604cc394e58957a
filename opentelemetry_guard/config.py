"""Settings of the exporters: keyword arguments, then the environment, then late settings, then defaults.

*Late* settings are those that a part of the application offers when the
exporters exist already (`opentelemetry_guard.late`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import unquote, urlsplit
from uuid import UUID

from .once import log_once
from .urls import mask_url

_logger = logging.getLogger(__name__)

PREFIX = "OTEL_EXPORTER_GUARD_"
DEFAULT_SHUTDOWN_TIMEOUT = 5.0
DEFAULT_ENDPOINT = "https://api.fastapi-guard.com"

Compression = Literal["gzip", "none"]
Overflow = Literal["drop_oldest", "drop_newest"]


class SettingError(ValueError):
    """A setting has a value that it can't have. The text names the setting, the value (never a secret) and the remedy.

    `from_environment` tells who made the mistake: a wrong keyword argument
    is the programmer's and is raised; a wrong environment variable is the
    operator's and must not take the application's other telemetry down.
    """

    def __init__(self, message: str, *, from_environment: bool) -> None:
        super().__init__(message)
        self.from_environment = from_environment


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """Validated settings of one destination.

    Attributes:
        endpoint: base URL of the backend, without ``/api/v1`` and without a trailing slash.
        api_key: sent as ``X-API-Key``; None means that batches wait in the queue.
        project_id: sent as ``X-Project-ID`` and in every body.
        headers: additional request headers.
        timeout: seconds that one request may take in all.
        compression: of bodies of `compression_threshold` bytes and more.
        queue_url: where batches wait; None is SQLite in the user's state directory.
        queue_max_bytes: bound of the queue in bytes of encoded batches.
        certificate, client_key, client_certificate: PEM files for TLS.
        install_id: UUID of this installation; None is one kept in the state directory.
        signing_secret: key of the signature that every body gets; None signs nothing.
        encryption_key: urlsafe base64 of the 32 bytes that rows are encrypted with, on the wire and in the queue.
        queue_overflow: what goes when the queue is full.
        breaker_failures: failures in a row after which the circuit breaker of a route opens.
        breaker_failure_rate: share of failures among the last 20 requests that opens it as well.
        breaker_recovery: seconds of an open breaker's first pause; each failed probe doubles it.
        breaker_max_recovery: seconds that a pause lasts at most.
        shutdown_timeout: seconds that all shutdowns of the process may take together.
        status_interval: seconds between two status reports, at least 1; 0 sends none.
        enable_events: whether events are delivered; those of a False are counted as dropped, `switched_off`.
        enable_metrics: the same for metrics.
        retry_attempts: failures of a batch that are followed by a quick try, after which it waits in the backlog, and
            partial failures after which it becomes a dead letter. An outage discards nothing, whatever it says.
        backoff_factor: seconds that the first pause after a failure lasts at most; each further failure doubles it.
        compression_threshold: bytes of a body from which on it is compressed.
        batch_size: rows of one request at most.
        guard_version, guard_core_version: releases that bodies name; None are the installed ones.
    """

    endpoint: str = DEFAULT_ENDPOINT
    api_key: str | None = field(default=None, repr=False)
    project_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    compression: Compression = "gzip"
    queue_url: str | None = field(default=None, repr=False)
    queue_max_bytes: int = 64 * 1024 * 1024
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None
    install_id: str | None = None
    signing_secret: str | None = field(default=None, repr=False)
    encryption_key: str | None = field(default=None, repr=False)
    queue_overflow: Overflow = "drop_oldest"
    breaker_failures: int = 5
    breaker_failure_rate: float = 0.5
    breaker_recovery: float = 1.0
    breaker_max_recovery: float = 10.0
    shutdown_timeout: float = DEFAULT_SHUTDOWN_TIMEOUT
    status_interval: float = 300.0
    enable_events: bool = True
    enable_metrics: bool = True
    retry_attempts: int = 5
    backoff_factor: float = 0.5
    compression_threshold: int = 1024
    batch_size: int = 1000
    guard_version: str | None = None
    guard_core_version: str | None = None

    @classmethod
    def resolve(cls, environ: Mapping[str, str] | None = None, /, **keywords: object) -> GuardConfig:
        """Return the settings that keyword arguments, the environment, late settings and the defaults make together.

        A keyword that is None or an empty string and a variable that is empty count as not given: a declarative
        configuration turns an unset variable into either.

        Raises:
            SettingError: a value is not allowed.
            TypeError: a keyword is not the name of a setting.
        """
        unknown = keywords.keys() - _PARSERS.keys()
        if unknown:
            raise TypeError(f"unknown setting {sorted(unknown)[0]!r}, allowed are {', '.join(_PARSERS)}")
        environ = os.environ if environ is None else environ
        values: dict[str, object] = dict(_late)
        for name, parse in _PARSERS.items():
            variable = PREFIX + name.upper()
            if not _is_unset(name, given := keywords.get(name)):
                values[name] = _parsed(name, given, parse, from_environment=False)
            elif not _is_unset(name, text := environ.get(variable, "")):
                values[name] = _parsed(variable, text, parse, from_environment=True)
        return cls(**values)  # type: ignore[arg-type]

    @property
    def destination(self) -> str:
        """Hash that the names of queues derive from: one queue per endpoint and project.

        The key counts only where there is no project, so that a rotated key finds its backlog.
        """
        owner = f"project:{self.project_id}" if self.project_id else f"key:{_digest(self.api_key or '')}"
        return _digest(f"{self.endpoint}\n{owner}")[:16]

    def differences(self, other: GuardConfig) -> list[str]:
        """Return the names of the settings in which `other` differs."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]


_late: Mapping[str, object] = MappingProxyType({})
"""Late settings, validated. Replaced as a whole, by `set_late` alone, so that a reader needs no lock."""


def set_late(settings: Mapping[str, object]) -> None:
    """Replace the late settings by `settings`, which `parse_setting` has validated; for `opentelemetry_guard.late`."""
    global _late
    _late = MappingProxyType(dict(settings))


def parse_setting(name: str, value: object) -> object:
    """Return one setting's validated value; None where the value counts as not given.

    Raises:
        SettingError: the value is not allowed.
        TypeError: there is no such setting.
    """
    if name not in _PARSERS:
        raise TypeError(f"unknown setting {name!r}, allowed are {', '.join(_PARSERS)}")
    return None if _is_unset(name, value) else _parsed(name, value, _PARSERS[name], from_environment=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def _parsed(name: str, value: object, parse: Callable[[object], object], *, from_environment: bool) -> object:
    try:
        return parse(value)
    except ValueError as error:
        raise SettingError(
            f"{name} {_shown(name.lower(), value)}: {error}", from_environment=from_environment
        ) from None


def _is_unset(name: str, value: object) -> bool:
    """Whether a value counts as not given: None and blank text do, but a blank secret is a mistake."""
    return value is None or value == "" or (isinstance(value, str) and not value.strip() and name not in _NEVER_BLANK)


def _shown(name: str, value: object) -> str:
    """Say that a value can't be used, with the value unless it is a secret."""
    if name.endswith(_SECRETS):
        return "has a value that can't be used"
    text = mask_url(str(value)) if name.endswith(_URLS) else str(value)
    return f"is {text!r}, which can't be used"


_SECRETS = ("api_key", "signing_secret", "encryption_key", "headers")
"""Settings whose value is never shown."""
_NEVER_BLANK = ("encryption_key", "signing_secret")
"""Settings where blanks are a mistake and not "unset": what they protect must not go out unprotected."""
_URLS = ("endpoint", "queue_url")
"""Settings that may hold a password, which is masked."""


def normalize_endpoint(value: object) -> str:
    """Return a base URL without ``/api/v1`` and without a trailing slash, saying once what was taken off."""
    text = str(value).strip()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if (
        not host
        or any(c.isspace() for c in text)
        or parts.scheme not in ("http", "https")
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError("it must be a URL like https://guard.example.com, without user, password, query and fragment")
    path = parts.path.rstrip("/")
    base = path.removesuffix("/api/v1").rstrip("/")
    if base != parts.path:
        log_once(
            _logger,
            logging.WARNING,
            f"the Guard endpoint's path {parts.path!r} was shortened to {base or '(none)'!r}: set the bare base URL, "
            "the exporters add /api/v1 themselves",
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{base}"


_OWN_HEADERS = frozenset(
    {"content-encoding", "content-length", "content-type", "host", "transfer-encoding", "x-payload-signature"}
)
"""Headers that say what is in a request: another value would make the backend misread it."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")


def _text(value: object) -> str:
    """Return text, or a whole number as text: in a YAML file a name of digits is a number."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise ValueError(f"it must be text, not {type(value).__name__}")
    return str(value)


def _secret(value: object) -> str:
    text = _text(value).strip()
    if not text:
        raise ValueError("it must not be blank")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it must be valid UTF-8") from None
    return text


def _header_value(value: object) -> str:
    text = _text(value).strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("it must be printable ASCII text, since it travels in a request header")
    return text


def _headers(value: object) -> Mapping[str, str]:
    if isinstance(value, str):
        given: Mapping[Any, object] = _header_pairs(value)
    elif isinstance(value, Mapping):
        given = value
    elif isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        given = {item.get("name"): item.get("value") for item in value}
    else:
        raise ValueError("it must be a mapping of header names to values")
    for position, (name, text) in enumerate(given.items(), 1):
        # Neither is shown: in "Bearer abc" instead of "Authorization=Bearer abc" the secret stands in the name's place.
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"header {position} of {len(given)} has a name that is not a header name (RFC 9110)")
        if text is None:
            raise ValueError(f"header {position} of {len(given)} has no value")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"the header {name} is the exporter's own")
    return {str(name): _header_value(text) for name, text in given.items()}


def _header_pairs(text: str) -> dict[str, str]:
    """Read ``name=value,name=value`` with URL-encoded values.

    The SDK's own parser logs what it can't read, and headers may be secrets.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError("it must be name=value pairs, separated by commas; a comma in a value is written %2C")
        pairs[unquote(name).strip().lower()] = unquote(value).strip()
    if not pairs:
        raise ValueError("it must be name=value pairs, separated by commas")
    return pairs


def _seconds(value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    return number


def _timeout(value: object) -> float:
    number = _seconds(value)
    if not 0 < number <= 3600:
        raise ValueError("it must be a number of seconds, more than 0 and at most 3600")
    return number


def _shutdown_timeout(value: object) -> float:
    number = _seconds(value)
    if not 0 <= number <= 3600:
        raise ValueError("it must be a number of seconds, at least 0 and at most 3600")
    return number


def _compression(value: object) -> str:
    text = str(value).strip().lower()
    if text not in ("gzip", "none"):
        raise ValueError("allowed are gzip and none")
    return text


def _overflow(value: object) -> str:
    text = str(value).strip().lower()
    if text not in ("drop_oldest", "drop_newest"):
        raise ValueError("allowed are drop_oldest and drop_newest")
    return text


def _whole(lowest: int, highest: int) -> Callable[[object], int]:
    """Return the parser of a whole number from `lowest` to `highest`."""

    def parse(value: object) -> int:
        number = _seconds(value)
        if not lowest <= number <= highest or number != int(number):
            raise ValueError(f"it must be a whole number, at least {lowest} and at most {highest}")
        return int(number)

    return parse


def _interval(value: object) -> float:
    number = _seconds(value)
    if not (number == 0 or 1 <= number <= 86_400):
        raise ValueError("it must be a number of seconds from 1 to 86400, or 0 for never")
    return number


def _switch(value: object) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError("allowed are true and false")
    return text == "true"


def _rate(value: object) -> float:
    number = _seconds(value)
    if not 0 < number <= 1:
        raise ValueError("it must be a number, more than 0 and at most 1")
    return number


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


def _bytes(value: object) -> int:
    try:
        number = int(value) if not isinstance(value, (bool, float)) else 0  # type: ignore[call-overload]
    except (TypeError, ValueError):
        number = 0
    if number < 64 * 1024:
        raise ValueError("it must be a whole number of bytes, at least 65536")
    return int(number)


def _queue_url(value: object) -> str:
    text = str(value).strip()
    if "://" not in text:
        raise ValueError("it must be a URL like sqlite:///var/lib/app/queue.db or memory://")
    return text


def _file(value: object) -> str:
    path = os.path.expanduser(str(value).strip())
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise ValueError("it must be the path of a file that this process can read")
    return path


def _uuid(value: object) -> str:
    try:
        return str(UUID(str(value).strip()))
    except ValueError:
        raise ValueError("it must be a UUID") from None


def _project(value: object) -> str:
    text = _header_value(value)
    if len(text) > 256:
        raise ValueError("it must be at most 256 characters long")
    return text


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "endpoint": normalize_endpoint,
    "api_key": _header_value,
    "project_id": _project,
    "headers": _headers,
    "timeout": _timeout,
    "compression": _compression,
    "queue_url": _queue_url,
    "queue_max_bytes": _bytes,
    "certificate": _file,
    "client_key": _file,
    "client_certificate": _file,
    "install_id": _uuid,
    "signing_secret": _secret,
    "encryption_key": _encryption_key,
    "queue_overflow": _overflow,
    "breaker_failures": _whole(1, 1000),
    "breaker_failure_rate": _rate,
    "breaker_recovery": _timeout,
    "breaker_max_recovery": _timeout,
    "shutdown_timeout": _shutdown_timeout,
    "status_interval": _interval,
    "enable_events": _switch,
    "enable_metrics": _switch,
    "retry_attempts": _whole(1, 1000),
    "backoff_factor": _timeout,
    "compression_threshold": _whole(0, 1_000_000_000),
    "batch_size": _whole(1, 100_000),
    "guard_version": _project,
    "guard_core_version": _project,
}
