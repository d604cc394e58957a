"""What is changed in FastAPI and Starlette: a follower goes into every application's stack of middlewares.

It goes inside of an application's outermost error middleware:
opentelemetry-instrumentation-fastapi takes that one for granted, and wraps
what is in it, so its server span is current when an answer begins.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ... import emit
from ...emit import Emitter
from ...events import incident
from ...process import end as process_end
from ...settings.http_rules import HttpRules
from ...settings.instrumentation import GuardOptions
from .. import resources
from ..behavior.analyzer import BehaviorAnalyzer
from ..behavior.sharing import Sharing
from ..behavior.store_place import place
from ..patching import AnyFunction, Patches, unexpected
from . import following as request_following
from . import logins
from .crawlers import Crawlers
from .following import ASGIApp, Message, Receive, Scope, Send
from .judging import Analyzer, AnswerJudge

_logger = logging.getLogger(__name__)

_CLASSES = {
    "starlette.applications": "Starlette",
    "fastapi.applications": "FastAPI",
    "starlette.routing": "Router",
}
"""The class of each framework's application, by its module; a router may be served like one."""

_OVER = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")

_MAX_DEPTH = 100
"""Middlewares that are looked through; a stack that refers to itself would have no end."""

_patches = Patches()
_judge: AnswerJudge | None = None
_analyzer: Analyzer | None = None
_protect: Callable[[ASGIApp, Iterable[object]], ASGIApp] | None = None
"""Puts the enforcement of rules before an application with these layers; None where that is not wanted."""


class Follow:
    """The middleware that follows requests; it lets them pass when nothing is installed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Whether an HTTP instrumentation was added as a middleware; it opens its span behind us.
        self._measured = any(type(layer).__name__ == "OpenTelemetryMiddleware" for layer in _layers(app))

    # No coroutine of its own: it would be entered and left with each step of every request.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer by the application."""
        if _judge is None:
            return self.app(scope, receive, send)
        if scope["type"] == "lifespan":
            return self.app(scope, *_flushing(receive, send))
        resources.watch_loop()
        return request_following.follow(
            self.app, scope, receive, send, guarded=False, measured=self._measured and scope["type"] == "http"
        )


def _flushing(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Return a lifespan's `receive` and `send` that flush telemetry at its shutdown, within the shutdown timeout.

    That is often the last that a server lets a worker do: it may end it as soon as the application has said that its
    shutdown is complete, in ways that no handler sees. Telemetry goes on, since a process may serve several
    applications one after the other, as a test does.
    """

    async def listen() -> Message:
        message = await receive()
        if message["type"] == "lifespan.startup":
            process_end.goes_on()
        return message

    async def tell(message: Message) -> None:
        if message["type"] in _OVER:
            if _judge is not None:
                _judge.tell_folded()
            # Imported here: it comes with Starlette, and works in whatever loop the server has.
            from anyio import to_thread

            await to_thread.run_sync(process_end.flush_before_end)
        await send(message)

    return listen, tell


def apply(module: Any, options: GuardOptions, emitter: Emitter | None) -> None:
    """Follow and judge the requests of one of the frameworks' classes of applications; it never raises.

    Args:
        module: has the class; one of `_CLASSES`.
        options: what is derived, analysed and measured. With none of it, applications stay as they are, and only what
            a guard follows is measured.
        emitter: where events and metrics go; None is the global providers.
    """
    global _judge, _analyzer, _protect
    try:
        cls = getattr(module, _CLASSES[module.__name__])
        if _judge is None:
            emitter = emitter or emit._global_emitter
            _analyzer = _watching(options, emitter)
            crawlers = Crawlers() if options.verify_crawlers else None
            _judge = AnswerJudge(options, emitter, _analyzer, crawlers=crawlers)
            request_following.observe(_judge)
            logins.receive(_judge.take_login)
            request_following.hear(_judge.hearing)
            process_end.on_end(_judge.tell_folded, process_end.Stage.EMISSION)
            if options.enforce_rules:
                _protect = _enforcement(options, emitter)
            # Event loops hand work to a thread by this, and not with the context of the request.
            _patches.wrap(ThreadPoolExecutor, "submit", _carrying)
        wanted = options.http_events or options.behavior or options.resource_metrics or options.enforce_rules
        if wanted and "build_middleware_stack" in vars(cls):
            _patches.wrap(cls, "build_middleware_stack", _followed)
        elif wanted and not hasattr(cls, "build_middleware_stack"):
            _patches.wrap(cls, "__call__", _followed_router)
    except Exception as error:  # noqa: BLE001  raising here would make the application's import fail
        _say_unfollowed(module.__name__, error)


def remove() -> None:
    """Undo every change; followers in applications that live on let everything pass."""
    global _judge, _analyzer, _protect
    if _protect is not None:
        from . import enforcing

        enforcing.end()
        _protect = None
    if _judge is not None:
        request_following.ignore(_judge)
        logins.receive(None)
        request_following.hear(None)
        process_end.forget(_judge.tell_folded)
        _judge.tell_folded()
        _judge = None
    if isinstance(_analyzer, Sharing):
        _analyzer.close()
    _analyzer = None
    _patches.undo()


def _enforcement(options: GuardOptions, emitter: Emitter) -> Callable[[ASGIApp, Iterable[object]], ASGIApp]:
    # Imported here: who enforces no rules is spared what they are made of.
    from . import enforcing

    enforcing.begin()
    return partial(enforcing.enforced, options=options, emitter=emitter)


def _carrying(submit: AnyFunction) -> AnyFunction:
    """Have the events of a request noted that are emitted in the thread of a pool."""

    def submit_carried(self: Any, fn: AnyFunction, /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, incident.carried(fn), *args, **kwargs)

    return submit_carried


def _followed_router(call: AnyFunction) -> AnyFunction:
    """Follow a router's requests where it is served itself; within an application, that one's follower does."""

    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if _judge is None or "app" in scope or scope["type"] == "lifespan":
            await call(self, scope, receive, send)
            return
        scope.setdefault("router", self)  # as it would itself, but its middlewares may answer before
        resources.watch_loop()
        await request_following.follow(partial(call, self), scope, receive, send, guarded=False)

    return __call__


def _followed(build: AnyFunction) -> AnyFunction:
    """Put a follower into what a class's method, or that of one application, builds."""

    def build_middleware_stack(*application: object) -> ASGIApp:
        stack: ASGIApp = build(*application)
        if _judge is None:
            return stack
        try:
            return _with_follower(stack)
        except Exception as error:  # noqa: BLE001  an application answers, followed or not
            _say_unfollowed("an application", error)
            return stack

    return build_middleware_stack


def _with_follower(stack: Any) -> ASGIApp:
    """Put a follower inside of the innermost of the error middlewares with which a stack begins."""
    if any(isinstance(layer, Follow) for layer in _layers(stack)):
        return stack  # type: ignore[no-any-return]
    outermost = None
    for layer in _layers(stack):
        if type(layer).__name__ == "ServerErrorMiddleware":
            outermost = layer
        elif type(layer).__module__.partition(".")[0] not in ("opentelemetry", "starlette"):
            break
    inner = stack if outermost is None else outermost.app
    follower = Follow(inner if _protect is None else _protect(inner, _layers(inner)))
    if outermost is None:
        return follower
    outermost.app = follower
    return stack  # type: ignore[no-any-return]


def _layers(stack: Any) -> Iterator[Any]:
    """Yield a middleware and what it wraps, as far as each keeps it as `app`."""
    for _ in range(_MAX_DEPTH):
        if stack is None:
            return
        yield stack
        stack = getattr(stack, "app", None)


def adopt(cls: type) -> None:
    """Follow applications that exist already, whose stack is built or will not be built by their class's method.

    opentelemetry-instrumentation-fastapi gives each application a method of its own, which keeps the class's as it was
    then.

    Args:
        cls: Starlette's class, which is FastAPI's base.
    """
    # By type, because asking a lazy object for its class may make it load.
    for app in [candidate for candidate in gc.get_objects() if issubclass(type(candidate), cls)]:
        try:
            if (stack := getattr(app, "middleware_stack", None)) is not None:
                app.middleware_stack = _with_follower(stack)
            elif "build_middleware_stack" in vars(app):
                _patches.wrap(app, "build_middleware_stack", _followed)
        except Exception as error:  # noqa: BLE001  an application answers, followed or not
            _say_unfollowed(type(app).__name__, error)


def _say_unfollowed(what: str, error: Exception) -> None:
    unexpected(_logger, f"requests to {what} can't be followed, so nothing is derived from its answers", error)


def _watching(options: GuardOptions, emitter: Emitter) -> Analyzer | None:
    if not options.behavior:
        return None
    analyzer = BehaviorAnalyzer(
        options.behavior_rules,
        options.ipv6_prefix,
        HttpRules.resolve(options.http_rules).logins,
        profile=options.behavior_profile,
        epoch=time.time(),
    )
    if options.behavior_url is not None and options.behavior_url.lower().startswith("memory:"):
        return analyzer
    return Sharing(analyzer, partial(place, options.behavior_url), emitter.emit_event)
