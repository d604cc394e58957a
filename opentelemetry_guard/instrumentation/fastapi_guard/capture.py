"""When fastapi-guard is captured: from the moment on at which the application imports it, or at once where it has.

Nothing of fastapi-guard is imported here, and an application without it pays
for nothing. What is changed in it, `guard_patches` tells.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from wrapt import register_post_import_hook

from ...settings.instrumentation import GuardOptions

if TYPE_CHECKING:
    from ...emit import Emitter

MODULES = ("guard.middleware", "guard.asgi", "guard.websocket")
"""The modules of fastapi-guard that are changed when they are imported."""

_hooked = False
_active: tuple[GuardOptions, Emitter | None] | None = None


def install(options: GuardOptions | None = None, emitter: Emitter | None = None) -> None:
    """Capture from now on; a second call changes nothing.

    Args:
        options: settings; None is the defaults.
        emitter: what everything is emitted through; None is the global providers.
    """
    global _active, _hooked
    if _active is not None:
        return
    _active = options or GuardOptions(), emitter
    if _hooked:
        for module in filter(None, map(sys.modules.get, MODULES)):
            _on_import(module)
        return
    # An import hook can't be taken back; one that comes up while we are not active does nothing.
    _hooked = True
    for name in MODULES:
        register_post_import_hook(_on_import, name)


def uninstall() -> None:
    """Put fastapi-guard back as it was."""
    global _active
    if _active is None:
        return
    _active = None
    if any(name in sys.modules for name in MODULES):
        from . import patches as guard_patches

        guard_patches.remove()


def _on_import(module: ModuleType) -> None:
    if _active is not None:
        from . import patches as guard_patches

        guard_patches.apply(module, *_active)
