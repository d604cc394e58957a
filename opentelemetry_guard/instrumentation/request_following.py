"""One request on its way through fastapi-guard: what was reported about it waits until the answer's status is known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context

from ..emit import emit_event
from .reports import Report, fold

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_Held = tuple[Report, Context]
"""A report, and the trace context in which it was made."""

MAX_REPORTS = 100
"""Reports that one request may hold back; later ones are emitted at once."""

_SCOPE_KEY = "opentelemetry_guard.request"


class FollowedRequest:
    """The reports about one request (or one WebSocket handshake) and what its scope and its answer tell."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._held: list[_Held] = []
        self._answered = False
        self.status_code: int | None = None
        self.measured_by_http = _is_measured(scope)

    @property
    def route(self) -> str | None:
        """The template of the route that answers, None before the router has found it or where there is none."""
        route = self._scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
        return path if isinstance(path, str) else None

    def report(self, report: Report) -> None:
        """Take a report; it is emitted when the answer begins, in the trace context of this moment."""
        if self._answered or len(self._held) >= MAX_REPORTS:
            emit_event(self._completed(report))
        else:
            self._held.append((report, context.get_current()))

    def answer(self, status_code: int | None) -> None:
        """Emit what was held, once for each incident, with the answer's status where it is known; it never raises."""
        if not self._answered:
            self._answered = True
            self.status_code = status_code
        held, self._held = self._held, []
        for report, seen_in in _told_once(held):
            token = context.attach(seen_in)
            try:
                emit_event(self._completed(report))
            finally:
                context.detach(token)

    def _completed(self, report: Report) -> Report:
        completed = dict(report)
        known = {
            "endpoint": self._scope.get("path"),
            "method": self._scope.get("method"),
            "status_code": self.status_code,
        }
        for name, value in known.items():
            if completed.get(name) is None:
                completed[name] = value
        return completed

    def listening(self, send: Send) -> Send:
        """Return a `send` that notes when the answer begins."""

        async def listen(message: Message) -> None:
            if not self._answered:
                kind = message["type"]
                if kind in ("http.response.start", "websocket.http.response.start"):
                    self.answer(message["status"])
                elif kind == "websocket.accept":
                    self.answer(101)
                elif kind == "websocket.close":
                    # ASGI: closing before accepting refuses the handshake with 403.
                    self.answer(403)
            await send(message)

        return listen


def _told_once(held: Sequence[_Held]) -> list[_Held]:
    try:
        return [(report, held[position][1]) for report, position in fold([report for report, _ in held])]
    except Exception:  # noqa: BLE001  a report's fields are a stranger's objects, and telling it twice beats losing it
        return list(held)


_current: ContextVar[FollowedRequest | None] = ContextVar("opentelemetry_guard_request", default=None)


def current() -> FollowedRequest | None:
    """Return the request that this task works for, None outside of one."""
    return _current.get()


async def follow(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call `app` and follow the request; inside of a request that is followed already, just call it."""
    if scope["type"] not in ("http", "websocket") or _SCOPE_KEY in scope:
        await app(scope, receive, send)
        return
    scope[_SCOPE_KEY] = True
    request = FollowedRequest(scope)
    token = _current.set(request)
    status_code: int | None = None
    try:
        await app(scope, receive, request.listening(send))
    except Exception:
        status_code = 500  # what the server makes of it
        raise
    finally:
        _current.reset(token)
        request.answer(status_code)


async def detached(work: Callable[[], Awaitable[object]]) -> None:
    """Do work that belongs to no request: neither its tasks nor their telemetry continue the current trace."""
    token = context.attach(Context())
    request_token = _current.set(None)
    try:
        await work()
    finally:
        _current.reset(request_token)
        context.detach(token)


def _is_measured(scope: Scope) -> bool:
    """Whether an HTTP instrumentation measures this request: it has marked the application or opened a server span."""
    if getattr(scope.get("app"), "_is_instrumented_by_opentelemetry", False):
        return True
    span = trace.get_current_span()
    made_by = getattr(span, "instrumentation_scope", None)
    return (
        getattr(span, "kind", None) is trace.SpanKind.SERVER
        and made_by is not None
        and str(made_by.name).startswith("opentelemetry.instrumentation.")
    )
