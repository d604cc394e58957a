"""What of a security event may leave the process: secrets masked, strings shortened, addresses hashed.

Everything that is emitted goes through `Privacy.event` before it reaches a
log record, a span, a queue or the wire, and everything that an exporter reads
from somebody else's telemetry does too. Cleaning what is clean changes
nothing, so it does not matter how often it happens.

Example:
    >>> from opentelemetry_guard import privacy
    >>> privacy.Privacy().text("GET /reset?token=s3cret&page=2")
    'GET /reset?token=[REDACTED]&page=2'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings.privacy import PrivacySettings
    from .cleaning import Privacy
    from .process import configure, current, reset, told

_HOME = {
    "Privacy": ".cleaning",
    "PrivacySettings": "..settings.privacy",
    "configure": ".process",
    "current": ".process",
    "reset": ".process",
    "told": ".process",
}


def __getattr__(name: str) -> object:
    # Loaded when it is asked for: who masks spans alone needs no models.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


__all__ = ["Privacy", "PrivacySettings", "configure", "current", "reset", "told"]
