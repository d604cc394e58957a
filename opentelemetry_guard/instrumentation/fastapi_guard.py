"""When fastapi-guard is captured: from the moment on at which the application imports it, or at once where it has.

Nothing of fastapi-guard is imported here, and an application without it pays
for nothing. What is changed in it, `guard_patches` tells.
"""

from __future__ import annotations

import sys
from types import ModuleType

from wrapt import register_post_import_hook

MODULES = ("guard.middleware", "guard.asgi", "guard.websocket")
"""The modules of fastapi-guard that are changed when they are imported."""

_active = False
_hooked = False


def install() -> None:
    """Capture from now on; a second call changes nothing."""
    global _active, _hooked
    if _active:
        return
    _active = True
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
    if not _active:
        return
    _active = False
    if any(name in sys.modules for name in MODULES):
        from . import guard_patches

        guard_patches.remove()


def _on_import(module: ModuleType) -> None:
    if _active:
        from . import guard_patches

        guard_patches.apply(module)
