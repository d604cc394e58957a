"""What is changed in fastapi-guard: our agent handler goes to every place where guard-core looks for one.

Classes are changed in place, because fastapi-guard compares them by identity.
A release that lacks one of the places is captured as far as it goes, and a
message says so.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from .. import capture, models
from ..once import log_once
from . import request_following, unguarded
from .agent_handler import LIBRARY, BesideAgent, GuardAgentHandler
from .patching import AnyFunction, Patches

_logger = logging.getLogger(__name__)

_handler = GuardAgentHandler()
_patches = Patches()


def apply(module: ModuleType) -> None:
    """Change what has to be changed in one of fastapi-guard's modules; it never raises into the import."""
    _handler.active = True
    try:
        _CHANGES[module.__name__](module)
    except Exception as error:  # noqa: BLE001  raising here would make the application's import fail
        _say_incomplete(module.__name__, error)


def remove() -> None:
    """Undo every change; a handler that a live middleware still holds takes nothing any more."""
    _handler.active = False
    _patches.undo()
    unguarded.forget()
    capture.end(LIBRARY)


def _change_middleware(module: Any) -> None:
    _follow_requests(module.SecurityMiddleware)
    _patches.wrap(module.SecurityMiddleware, "__init__", _after(_equip_middleware))
    _patches.wrap(module.BaseSecurityDecorator, "__init__", _after(_equip_decorator))
    _patches.wrap(module.HandlerInitializer, "initialize_dynamic_rule_manager", _detached)
    _patches.wrap(import_module("guard_core._pydantic_plugin_mute"), "get_telemetry_model", _with_our_models)


def _change_asgi(module: Any) -> None:
    _follow_requests(module.PureASGISecurityMiddleware)


def _change_websocket(module: Any) -> None:
    _patches.wrap(module._WebSocketDetectionMiddleware, "__init__", _after(_equip_detection))


def _follow_requests(cls: Any) -> None:
    def watched(init: AnyFunction) -> AnyFunction:
        def __init__(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
            init(self, app, *args, **kwargs)
            try:
                unguarded.watch(app, self, _guards())
            except Exception as error:  # noqa: BLE001  an application may be any object
                _logger.debug("an application can't be watched: %r", error)

        return __init__

    def followed(call: AnyFunction) -> AnyFunction:
        async def __call__(
            self: Any, scope: request_following.Scope, receive: request_following.Receive, send: request_following.Send
        ) -> None:
            unguarded.called(self)
            await request_following.follow(partial(call, self), scope, receive, send)

        return __call__

    _patches.wrap(cls, "__init__", watched)
    _patches.wrap(cls, "__call__", followed)


_CHANGES: dict[str, Callable[[Any], None]] = {
    "guard.middleware": _change_middleware,
    "guard.asgi": _change_asgi,
    "guard.websocket": _change_websocket,
}


def _guards() -> tuple[type, ...]:
    classes = (("guard.middleware", "SecurityMiddleware"), ("guard.asgi", "PureASGISecurityMiddleware"))
    found = (getattr(sys.modules.get(module), name, None) for module, name in classes)
    return tuple(guard for guard in found if guard is not None)


def _say_incomplete(what: str, error: Exception) -> None:
    log_once(
        _logger,
        logging.ERROR,
        f"what {what} reports is captured in part or not at all: {error!r}; use fastapi-guard 8.1, or report this",
        cause=f"incomplete capture of {what}",
    )


def _after(equip: Callable[[Any], None]) -> Callable[[AnyFunction], AnyFunction]:
    """Make a wrapping of `__init__` that equips what was constructed."""

    def wrapping(init: AnyFunction) -> AnyFunction:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            try:
                equip(self)
            except Exception as error:  # noqa: BLE001  the application is guarded all the same
                _say_incomplete(type(self).__name__, error)

        return __init__

    return wrapping


def _equip_middleware(middleware: Any) -> None:
    _equip(middleware, _holders(middleware))


def _equip_decorator(decorator: Any) -> None:
    _equip(decorator, [getattr(decorator, "behavior_tracker", None)])


def _equip_detection(detection: Any) -> None:
    _equip(detection, [detection.event_bus])


def _holders(middleware: Any) -> Iterator[Any]:
    """Yield what a middleware made that sends events on its own, or hands its agent handler on."""
    for name in ("handler_initializer", "event_bus", "metrics_collector", "rate_limit_handler", "redis_handler"):
        yield getattr(middleware, name, None)
    yield getattr(getattr(middleware, "response_factory", None), "context", None)


def _equip(owner: Any, holders: Iterable[Any]) -> None:
    """Set our handler, beside the application's agent where there is one, on `owner` and what shares its agent."""
    theirs = owner.agent_handler
    handler = _handler if theirs is None else BesideAgent(theirs, _handler)
    owner.agent_handler = handler
    for holder in holders:
        present = getattr(holder, "agent_handler", None)
        if holder is not None and (present is None or present is theirs):
            holder.agent_handler = handler


def _detached(initialize: AnyFunction) -> AnyFunction:
    """Keep the task that polls rules from continuing the trace of the request that happened to start it."""

    async def initialize_dynamic_rule_manager(self: Any) -> None:
        await request_following.detached(partial(initialize, self))

    return initialize_dynamic_rule_manager


def _with_our_models(get: AnyFunction) -> AnyFunction:
    """Stand in with our models where the guard-agent package, which has the originals, is not installed."""

    def get_telemetry_model(name: str) -> Any:
        try:
            return get(name)
        except ImportError:
            return getattr(models, name)

    return get_telemetry_model
