"""Which libraries our instrumentation captures itself, so that exporters leave the library's own telemetry alone.

A fact about this process that both sides need and neither owns: the
instrumentation writes it, the exporters read it.
"""

from __future__ import annotations

_captured: set[str] = set()  # names are added and discarded whole, which needs no lock


def begin(library: str) -> None:
    """Note that every event of `library` goes through `emit_event` from now on."""
    _captured.add(library)


def end(library: str) -> None:
    """Note that `library` is on its own again."""
    _captured.discard(library)


def is_captured(library: str) -> bool:
    """Whether the events of `library` arrive through `emit_event`."""
    return library in _captured
