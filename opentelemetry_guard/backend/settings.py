"""What a backend is built with."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .alerts.file import Alerts
from .dashboard.sessions import Password
from .storage.keys import ApiKeys

DEFAULT_PROJECT = "default"
"""The project id that senders use when none is configured."""

DEFAULT_MAX_BODY_BYTES = 262_144
"""Bound on a request's body in bytes, before and after decompression: the hosted platform's."""

DEFAULT_REQUESTS_PER_MINUTE = 6_000
"""How often a key may send that was given no limit of its own; at 100 rows a batch that is 10,000 rows a second."""

SHARED_RATE = 10
"""An address and a project may send so many times as often as a key, unless told otherwise: they may have several."""


_PLACE = re.compile(r"\{(\w+)\}")
_PLACES = frozenset({"trace_id", "span_id"})


@dataclass(frozen=True, slots=True)
class TraceLink:
    """A URL with the places ``{trace_id}`` and ``{span_id}``, for example ``http://localhost:16686/trace/{trace_id}``.

    Raises:
        ValueError: it is no http or https URL, has no ``{trace_id}``, or has a place of another name.
    """

    template: str

    def __post_init__(self) -> None:
        """Check the template."""
        parts = urlsplit(self.template)
        unknown = set(_PLACE.findall(self.template)) - _PLACES
        if parts.scheme not in ("http", "https") or not parts.hostname or "{trace_id}" not in self.template or unknown:
            raise ValueError(
                f"The trace URL {self.template!r} must be an http or https URL with {{trace_id}} in it, "
                "and {span_id} where wanted: http://localhost:16686/trace/{trace_id}"
            )

    def url(self, trace_id: object, span_id: object) -> str | None:
        """Return the URL of a trace; None when the identifiers aren't W3C ones, which senders choose freely."""
        if not isinstance(trace_id, str) or not re.fullmatch("[0-9a-f]{32}", trace_id):
            return None
        span = span_id if isinstance(span_id, str) and re.fullmatch("[0-9a-f]{16}", span_id) else ""
        return self.template.replace("{trace_id}", trace_id).replace("{span_id}", span)


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """The settings of one backend.

    The dashboard begins with `project`, and with those of the `keys`.
    With a `signing_secret` every POST must carry a valid
    `X-Payload-Signature`. With an `encryption_key` (32 bytes) encrypted
    batches are accepted. `max_body_bytes` bounds a body before and after
    decompression. `requests_per_minute` holds for each key that has no limit
    of its own, `address_per_minute` and `project_per_minute` for all requests
    of one; 0 is no limit, None is `SHARED_RATE` times that of a key. Events
    older than `window_seconds` are dropped and counted, None takes them all.
    Without a `password` whoever reaches the backend sees the dashboard, so it
    answers to this machine's names alone.

    The dashboard shows the rules and channels of `alerts`.

    Raises:
        ValueError: `max_body_bytes` or `window_seconds` is not positive.
    """

    keys: ApiKeys
    project: str = DEFAULT_PROJECT
    signing_secret: bytes | None = field(default=None, repr=False)
    encryption_key: bytes | None = field(default=None, repr=False)
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE
    address_per_minute: int | None = None
    project_per_minute: int | None = None
    window_seconds: float | None = None
    password: Password | None = field(default=None, repr=False)
    trace_link: TraceLink | None = None
    alerts: Alerts | None = None

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.max_body_bytes < 1:
            raise ValueError(f"The largest body has {self.max_body_bytes} bytes: it must be at least 1.")
        if self.window_seconds is not None and not self.window_seconds > 0:
            raise ValueError(f"The window of events has {self.window_seconds:g} seconds: it must be more than 0.")

    @property
    def rate_of_address(self) -> int:
        """Requests a minute of one address, 0 is no limit."""
        return self._shared(self.address_per_minute)

    @property
    def rate_of_project(self) -> int:
        """Requests a minute of one project, 0 is no limit."""
        return self._shared(self.project_per_minute)

    def _shared(self, given: int | None) -> int:
        return self.requests_per_minute * SHARED_RATE if given is None else given


def decode_encryption_key(text: str) -> bytes:
    """Read an encryption key: urlsafe base64 of 32 bytes, with or without padding.

    Raises:
        ValueError: it is anything else; the text does not repeat the key.
    """
    remedy = (
        "The encryption key must be urlsafe base64 of 32 bytes, for example from "
        "python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
    )
    try:
        key = decode_urlsafe_base64(text)
    except ValueError:
        raise ValueError(remedy) from None
    if len(key) != 32:
        raise ValueError(f"{remedy}; this one has {len(key)} bytes.")
    return key


def decode_urlsafe_base64(text: str) -> bytes:
    """Decode urlsafe base64 whose padding is optional.

    Raises:
        ValueError: a character is outside the alphabet, or the length is impossible.
    """
    bare = text.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"not urlsafe base64: {error}") from None
