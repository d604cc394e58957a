"""Where events and metrics go in the place of OpenTelemetry while a test captures them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Capture(Protocol):
    """What takes them."""

    def event(self, row: Mapping[str, object]) -> None:
        """Take an event as it would be sent."""

    def metric(self, metric_type: str, value: float, attributes: Mapping[str, str]) -> None:
        """Take a measurement with the attributes of its instrument."""


class _Diversion:
    """The captures under way, the innermost last. Replaced whole: emission reads it without a lock, in any thread."""

    captures: tuple[Capture, ...] = ()


_diversion = _Diversion()


def begin(capture: Capture) -> None:
    """Give `capture` what is emitted from now on, in all threads."""
    _diversion.captures = (*_diversion.captures, capture)


def end(capture: Capture) -> None:
    """Give it no more; what captured before does again."""
    _diversion.captures = tuple(known for known in _diversion.captures if known is not capture)


def current() -> Capture | None:
    """Return what captures now; None where nothing does."""
    captures = _diversion.captures
    return captures[-1] if captures else None
