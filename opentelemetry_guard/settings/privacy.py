"""Settings of privacy: what is masked, shortened, hashed and left out.

A wrong variable is logged once and the safe default takes its place: an
operator's mistake must neither end the application nor let anything out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from . import values
from .instrumentation import PREFIX
from .setting import Fallback, Group, setting

DEFAULT_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
"""Headers whose values are masked; the setting `sensitive_headers` names others in their place."""

Processor: TypeAlias = Callable[[Any], object]
"""A user's hook: a `SecurityEvent` in; it, another one or a mapping of fields out, or None to drop it."""


def _address_key(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be text that is not blank; leave it unset to keep addresses as they are")
    return value.strip()


def _processors(value: object) -> tuple[Processor, ...]:
    if not isinstance(value, (list, tuple)) or not all(callable(item) for item in value):
        raise ValueError("it must be a list of functions that take an event and return it, another one or None")
    return tuple(value)


_UNKNOWN_KEY = Fallback(
    lambda: secrets.token_hex(32), "addresses are hashed under a key that nobody knows until it is set right"
)
"""Who wants addresses hashed must not get them in the clear because of a slip."""


@dataclass(frozen=True, slots=True)
class PrivacySettings(Group):
    """What is masked, shortened, hashed and left out."""

    PREFIX: ClassVar[str] = PREFIX
    SUBJECT: ClassVar[str] = "privacy"

    sensitive_headers: frozenset[str] = setting(
        DEFAULT_HEADERS,
        values.header_names,
        "headers whose values are masked, in the place of the usual ones",
        shown="[docs/privacy.md](docs/privacy.md)",
        agent="sensitive_headers",
    )
    max_payload_size: int = setting(
        1024, values.whole(1, 2**30, "bytes"), "bytes of one text at most", agent="max_payload_size"
    )
    address_key: str | None = setting(
        None,
        _address_key,
        "hash clients' addresses with this key",
        secret=True,
        blank_is_wrong=True,
        fallback=_UNKNOWN_KEY,
    )
    capture_content: bool = setting(False, values.switch, "keep what matched in a request")
    processors: tuple[Processor, ...] = setting(
        (), _processors, "functions that get each event and return it, another one, or None to drop it", variable=False
    )
