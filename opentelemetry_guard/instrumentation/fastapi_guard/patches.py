"""What is changed in fastapi-guard: our agent handler goes to every place where guard-core looks for one.

Classes are changed in place, because fastapi-guard compares them by identity.
fastapi-guard is supported fully from 5.2 on. A release that lacks one of the
places is captured as far as it goes, and a message says so.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ... import models
from ...emit import Emitter
from ...events import capture
from ...process import end as process_end
from ...settings.instrumentation import GuardOptions
from ...settings.once import log_once
from ..http import following as request_following
from ..patching import AnyFunction, Patches, unexpected
from . import enforcement, offences, unguarded
from . import release as guard_release
from . import rules as guard_rules
from . import settings as guard_settings
from .handler import LIBRARY, BesideAgent, GuardAgentHandler

_logger = logging.getLogger(__name__)

_handler = GuardAgentHandler()
_patches = Patches()
_options = GuardOptions()


def apply(module: ModuleType, options: GuardOptions, emitter: Emitter | None) -> None:
    """Change what has to be changed in one of fastapi-guard's modules; it never raises into the import.

    Args:
        module: the module, imported.
        options: settings.
        emitter: what everything is emitted through; None is the global providers.
    """
    global _options
    _options = options
    _handler.begin(emitter)
    try:
        _CHANGES[module.__name__](module)
    except Exception as error:  # noqa: BLE001  raising here would make the application's import fail
        _say_incomplete(module.__name__, error)


def remove() -> None:
    """Undo every change; a handler that a live middleware still holds takes nothing any more."""
    process_end.forget(_handler.tell_noise)
    _handler.end()
    _patches.undo()
    if sys.modules.get(_stand_in.__name__) is _stand_in:
        del sys.modules[_stand_in.__name__]
    guard_rules.forget()
    unguarded.forget()
    capture.end(LIBRARY)


def _change_middleware(module: Any) -> None:
    _say_release()
    _stand_in_with_our_models()
    process_end.on_end(_handler.tell_noise, process_end.Stage.EMISSION)
    _follow_requests(module.SecurityMiddleware)
    _patches.wrap(module.SecurityMiddleware, "__init__", _with_settings)
    _wrap(module, "BaseSecurityDecorator", "__init__", _after(_equip_decorator))
    _wrap(module, "HandlerInitializer", "initialize_dynamic_rule_manager", _with_rules)
    handler = guard_release.core("handlers.dynamic_rule_handler")
    _wrap(handler, "DynamicRuleManager", "update_rules", guard_rules.update_around)
    if not guard_release.restores_configuration():
        _wrap(handler, "DynamicRuleManager", "_apply_rules", enforcement.apply_from_base)


def _change_asgi(module: Any) -> None:
    _follow_requests(module.PureASGISecurityMiddleware)


def _change_websocket(module: Any) -> None:
    _wrap(module, "_WebSocketDetectionMiddleware", "__init__", _after(_equip_detection))


def _wrap(module: Any, owner: str, name: str, wrapping: Callable[[AnyFunction], AnyFunction]) -> None:
    """Wrap a function of a class, where this release of fastapi-guard has both."""
    found = getattr(module, owner, None)
    if found is not None and hasattr(found, name):
        _patches.wrap(found, name, wrapping)
    else:
        _say_absent(f"{owner}.{name}")


def _stand_in_with_our_models() -> None:
    """Have guard-core make its events and metrics of our models where guard-agent, which has its own, is missing."""
    try:
        mute = guard_release.core("_pydantic_plugin_mute")
    except ModuleNotFoundError:
        # Releases before 5.2 import the models where they need them.
        if not guard_settings.is_installed("guard_agent"):
            sys.modules[_stand_in.__name__] = _stand_in
    else:
        _patches.wrap(mute, "get_telemetry_model", _with_our_models)


_stand_in = ModuleType("guard_agent", "Stands for the models of a package that is not installed.")
vars(_stand_in).update(
    __spec__=ModuleSpec("guard_agent", None),  # without one, who looks for the package gets an error
    SecurityEvent=models.SecurityEvent,
    SecurityMetric=models.SecurityMetric,
    EventBatch=models.EventBatch,
)


def _follow_requests(cls: Any) -> None:
    def followed(call: AnyFunction) -> AnyFunction:
        async def __call__(
            self: Any, scope: request_following.Scope, receive: request_following.Receive, send: request_following.Send
        ) -> None:
            unguarded.called(self)
            if scope["type"] == "lifespan":
                receive = _until_shutdown(receive)
            await request_following.follow(partial(call, self), scope, receive, send)
            await offences.count(self, scope, _options)

        return __call__

    _patches.wrap(cls, "__init__", _after(_watch))
    _patches.wrap(cls, "__call__", followed)


def _watch(middleware: Any) -> None:
    unguarded.watch(middleware.app, middleware, guard_release.middlewares())


def _until_shutdown(receive: request_following.Receive) -> request_following.Receive:
    """Return a `receive` that tells what noise was folded when the application ends."""

    async def listen() -> request_following.Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            _handler.tell_noise()
        return message

    return listen


_CHANGES: dict[str, Callable[[Any], None]] = {
    "guard.middleware": _change_middleware,
    "guard.asgi": _change_asgi,
    "guard.websocket": _change_websocket,
}


def _say_release() -> None:
    release, core = guard_release.release(), guard_release.core_release()
    if not guard_release.is_fully_supported(release, core):
        log_once(
            _logger,
            logging.WARNING,
            f"fastapi-guard {release}{f' with guard-core {core}' if core else ''} is captured as far as it goes; "
            "from 5.2 on, with guard-core from 3.17 on, it is supported fully",
        )


def _say_absent(what: str) -> None:
    log_once(
        _logger,
        logging.WARNING,
        f"fastapi-guard {guard_release.release()} has no {what}, so what it reports there is not captured; "
        "releases from 5.2 to 8.1 are known to have it",
    )


def _say_incomplete(what: str, error: Exception) -> None:
    unexpected(_logger, f"what {what} reports is captured in part or not at all", error)


def _after(equip: Callable[[Any], None]) -> Callable[[AnyFunction], AnyFunction]:
    """Make a wrapping of `__init__` that equips what was constructed."""

    def wrapping(init: AnyFunction) -> AnyFunction:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            _survive(type(self).__name__, partial(equip, self))

        return __init__

    return wrapping


def _with_settings(init: AnyFunction) -> AnyFunction:
    """Wrap the middleware's `__init__`: its settings are offered before, and it is equipped after."""

    def __init__(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        config: Any = kwargs.get("config", args[0] if args else None)
        replaced = _survive("SecurityConfig", partial(_take_settings, config)) or False
        if replaced:
            # What is off is not constructed: no second pipeline, and no package needed for it.
            config.enable_agent = False
        try:
            init(self, app, *args, **kwargs)
        finally:
            if replaced:
                config.enable_agent = True
        _survive(type(self).__name__, partial(_equip_middleware, self))

    return __init__


def _take_settings(config: Any) -> bool:
    """Take over the settings of a `SecurityConfig`; return whether our handler takes its agent's place."""
    guard_settings.offer(config)
    replaced = guard_settings.replaces_agent(config)
    if replaced and guard_settings.is_delivered():
        log_once(
            _logger,
            logging.INFO,
            "enable_agent is on: this instrumentation does what guard-agent would do, which is not started",
        )
    elif replaced:
        log_once(
            _logger,
            logging.WARNING,
            "enable_agent is on, but nothing delivers events to a Guard backend: set OTEL_LOGS_EXPORTER=guard, or add "
            "GuardLogExporter to a LoggerProvider (the guard-agent package, which is not installed, need not be)",
        )
    return replaced


def _survive(what: str, step: Callable[[], Any]) -> Any:
    """Do something to what the application constructs; it is guarded all the same where that fails."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001  other releases hold other objects
        _say_incomplete(what, error)
        return None


def _equip_middleware(middleware: Any) -> None:
    theirs = getattr(middleware, "agent_handler", None)
    config = middleware.config
    rules_are_theirs = theirs is not None and guard_rules.says(config)
    if not guard_rules.says(config) and guard_rules.wants_rules(config, _options.rules_interval):
        guard_rules.turn_on(config)
    enforcement.enforced_by(middleware)
    _equip(middleware, _holders(middleware), rules_are_theirs=rules_are_theirs)
    if not hasattr(middleware, "_ensure_initialized"):
        # Nobody hands the handler on in these releases.
        for singleton in _singletons():
            singleton.agent_handler = middleware.agent_handler


def _equip_decorator(decorator: Any) -> None:
    _equip(decorator, [getattr(decorator, "behavior_tracker", None)])


def _equip_detection(detection: Any) -> None:
    enforcement.enforced_by(detection)
    _equip(detection, [detection.event_bus])


def _holders(middleware: Any) -> Iterator[Any]:
    """Yield what a middleware made that sends events on its own, or hands its agent handler on."""
    for name in ("handler_initializer", "event_bus", "metrics_collector", "rate_limit_handler", "redis_handler"):
        yield getattr(middleware, name, None)
    yield getattr(getattr(middleware, "response_factory", None), "context", None)


def _singletons() -> Iterator[Any]:
    """Yield guard-core's process-wide objects that send events."""
    for module, name in (
        ("ipban_handler", "ip_ban_manager"),
        ("suspatterns_handler", "sus_patterns_handler"),
        ("security_headers_handler", "security_headers_manager"),
        ("cloud_handler", "cloud_handler"),
    ):
        yield getattr(guard_release.core(f"handlers.{module}"), name)


def _equip(owner: Any, holders: Iterable[Any], *, rules_are_theirs: bool = True) -> None:
    """Set our handler, beside the application's agent where there is one, on `owner` and what shares its agent."""
    theirs = getattr(owner, "agent_handler", None)
    handler = _handler if theirs is None else BesideAgent(theirs, _handler, rules_are_theirs=rules_are_theirs)
    owner.agent_handler = handler
    for holder in holders:
        present = getattr(holder, "agent_handler", None)
        if holder is not None and (present is None or present is theirs):
            holder.agent_handler = handler


def _with_rules(initialize: AnyFunction) -> AnyFunction:
    """Keep the application's rules up to date with the backend's, unless its own agent does."""

    async def initialize_dynamic_rule_manager(self: Any) -> None:
        theirs = isinstance(self.agent_handler, BesideAgent) and self.agent_handler.rules_are_theirs
        interval = 0 if theirs else guard_settings.rules_interval(self.config, _options.rules_interval)
        await guard_rules.initialize(initialize, self, interval)

    return initialize_dynamic_rule_manager


def _with_our_models(get: AnyFunction) -> AnyFunction:
    """Stand in with our models where the guard-agent package, which has the originals, is not installed."""

    def get_telemetry_model(name: str) -> Any:
        try:
            return get(name)
        except ImportError:
            return getattr(models, name)

    return get_telemetry_model
