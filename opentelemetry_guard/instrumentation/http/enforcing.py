"""Dynamic rules in applications that don't ask for them by themselves, where `OTEL_PYTHON_GUARD_ENFORCE_RULES` says so.

An application is left alone that fastapi-guard guards, or that has a
`GuardRulesMiddleware`; and within another application the outer one enforces.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakSet

from ...emit import Emitter
from ...rules.middleware import ASGIApp, GuardRulesMiddleware, Receive, Scope, Send
from ...settings.instrumentation import GuardOptions
from ..fastapi_guard import release as guard_release
from .following import followed

_living: WeakSet[Enforcing] = WeakSet()
_on = False


class Enforcing(GuardRulesMiddleware):
    """The middleware as it is put into applications: it lets everything pass when nothing is installed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Enforce rules on what no guard and no application around this one has seen; a router tells of the latter."""
        request = followed(scope)
        if not _on or "router" in scope or (request is not None and request.guarded):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def begin() -> None:
    """Have what was put into applications enforce rules."""
    global _on
    _on = True


def end() -> None:
    """Enforce nothing from now on, and ask for no more rules."""
    global _on
    _on = False
    for middleware in list(_living):
        middleware.close()


def enforced(app: ASGIApp, layers: Iterable[object], options: GuardOptions, emitter: Emitter) -> ASGIApp:
    """Return `app` with the middleware before it, or as it is where one of its `layers` enforces rules already."""
    # The rules reach fastapi-guard's middlewares by themselves.
    enforcers = (GuardRulesMiddleware, *guard_release.middlewares())
    if any(isinstance(layer, enforcers) for layer in layers):
        return app
    # What `instrument` was given in code counts here too; the middleware by itself reads the environment.
    middleware = Enforcing(
        app,
        interval=options.rules_interval,
        trusted_proxies=map(str, options.trusted_proxies),
        ipv6_prefix=options.ipv6_prefix,
        exclude_paths=options.exclude_paths,
        emitter=emitter,
    )
    _living.add(middleware)
    return middleware
