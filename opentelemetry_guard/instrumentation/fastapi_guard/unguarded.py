"""Say so where a guard middleware was constructed around an application that is then served without it.

``SecurityMiddleware(app, config=config)`` wraps `app` and changes nothing about
it. Who serves `app` afterwards serves it unguarded.
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakSet, ref

from ...settings.once import log_once
from ..patching import AnyFunction, Patches

_logger = logging.getLogger(__name__)

_not_called: WeakSet[Any] = WeakSet()
_patches = Patches()


def watch(app: Any, middleware: Any, guards: tuple[type, ...]) -> None:
    """Warn when `app` builds its middleware stack, unless one of `guards` is in its way by then.

    Args:
        app: what the middleware was constructed around; only a FastAPI or Starlette application is watched.
        middleware: the middleware.
        guards: the guard middleware classes.
    """
    if not hasattr(app, "build_middleware_stack") or _is_guarded(app, guards):
        return
    _not_called.add(middleware)
    middleware_ref, name = ref(middleware), type(middleware).__name__

    def checked(build: AnyFunction) -> AnyFunction:
        def build_middleware_stack() -> object:
            # An application builds its stack when it is called for the first time; a middleware around it was called
            # before that.
            found = middleware_ref()
            if (found is None or found in _not_called) and not _is_guarded(app, guards):
                _warn(name)
            return build()

        return build_middleware_stack

    _patches.wrap(app, "build_middleware_stack", checked)


def called(middleware: object) -> None:
    """Note that requests go through `middleware`."""
    _not_called.discard(middleware)


def forget() -> None:
    """Watch nothing that was constructed so far."""
    _patches.undo()
    _not_called.clear()


def _is_guarded(app: Any, guards: tuple[type, ...]) -> bool:
    added = (getattr(entry, "cls", None) for entry in getattr(app, "user_middleware", ()))
    return any(isinstance(kind, type) and issubclass(kind, guards) for kind in added)


def _warn(name: str) -> None:
    log_once(
        _logger,
        logging.WARNING,
        f"{name}(app, ...) was constructed around an application that is served without it, so nothing is guarded: "
        f"add it with app.add_middleware({name}, config=config), or serve what {name}(...) returned",
    )
