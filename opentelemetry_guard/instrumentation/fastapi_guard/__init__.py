"""fastapi-guard: its events, its settings and its dynamic rules, without a line of code.

`patches` changes it, when the application imports it and no sooner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...settings.instrumentation import GuardOptions
from ..patching import OnImport

if TYPE_CHECKING:
    from ...emit import Emitter

MODULES = ("guard.middleware", "guard.asgi", "guard.websocket")
"""The modules of fastapi-guard that are changed when they are imported."""

_capturing = OnImport(f"{__name__}.patches", MODULES)


def install(options: GuardOptions | None = None, emitter: Emitter | None = None) -> None:
    """Capture from now on; a second call changes nothing.

    Args:
        options: settings; None is the defaults.
        emitter: what everything is emitted through; None is the global providers.
    """
    _capturing.begin(options or GuardOptions(), emitter)


def uninstall() -> None:
    """Put fastapi-guard back as it was."""
    _capturing.end()
