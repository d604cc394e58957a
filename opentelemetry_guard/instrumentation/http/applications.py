"""When applications are followed: from the moment on at which FastAPI or Starlette is imported, or at once where it is.

Nothing is imported here, and a process without these frameworks pays for
nothing. What is changed in them, `application_patches` tells.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from wrapt import register_post_import_hook

from ...settings.instrumentation import GuardOptions

if TYPE_CHECKING:
    from ...emit import Emitter

APPLICATIONS = {
    "starlette.applications": "Starlette",
    "fastapi.applications": "FastAPI",
    "starlette.routing": "Router",
}
"""The module and the class of each framework's application; a router may be served like one."""

_HTTP_INSTRUMENTATION = "opentelemetry.instrumentation.asgi"

_hooked = False
_active: tuple[GuardOptions, Emitter | None] | None = None


def install(options: GuardOptions | None = None, emitter: Emitter | None = None) -> None:
    """Follow and judge requests from now on; a second call changes nothing.

    Applications that are served already are followed from their next request on.

    Args:
        options: what is derived and analysed; None is the defaults.
        emitter: where events and metrics go; None is the global providers.
    """
    global _active, _hooked
    if _active is not None:
        return
    _active = options or GuardOptions(), emitter
    if _hooked:
        for name in (*APPLICATIONS, _HTTP_INSTRUMENTATION):
            if (module := sys.modules.get(name)) is not None:
                _on_import(module)
    else:
        # An import hook can't be taken back; one that comes up while we are not active does nothing.
        _hooked = True
        for name in (*APPLICATIONS, _HTTP_INSTRUMENTATION):
            register_post_import_hook(_on_import, name)
    framework = sys.modules.get("starlette.applications")
    if framework is not None and (_active[0].http_events or _active[0].behavior):
        from . import patches as application_patches

        application_patches.adopt(framework.Starlette)


def uninstall() -> None:
    """Undo `install`."""
    global _active
    if _active is None:
        return
    _active = None
    if any(name in sys.modules for name in APPLICATIONS):
        from . import patches as application_patches

        application_patches.remove()
    if _HTTP_INSTRUMENTATION in sys.modules:
        from . import measuring as http_once

        http_once.remove()


def _on_import(module: ModuleType) -> None:
    if _active is not None and module.__name__ == _HTTP_INSTRUMENTATION:
        from . import measuring as http_once

        http_once.apply(module)
    elif _active is not None:
        from . import patches as application_patches

        application_patches.apply(getattr(module, APPLICATIONS[module.__name__]), *_active)
