"""One request on its way through an application: what is reported about it waits for its answer, who judges it hears.

Every followed request is one `FollowedRequest`, whoever began to follow it:
the application (`http.patches`) or the guard in it (`fastapi_guard.patches`). When its
answer begins, reports that were held are emitted, then the observers are
called, both in the trace context of that moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from opentelemetry import context, trace
from opentelemetry.context import Context

from ...emit import emit_event
from ...events import incident
from ...events.header_text import header_text
from ..patching import unexpected
from .reports import Report, fold
from .routes import begun

_logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Emit = Callable[[Report], None]

_Held = tuple[Report, Context, Emit]
"""A report, the trace context in which it was made, and who emits it."""

MAX_REPORTS = 100
"""Reports that one request may hold back; later ones are emitted at once."""

_SCOPE_KEY = "opentelemetry_guard.request"
"""Key of a request's scope: its `FollowedRequest`, and when that has ended its route."""


class ReportedLogin(NamedTuple):
    """What the application says of a login: how it ended, whose it was, and from where, None where it doesn't say."""

    success: bool
    user: str | None = None
    address: str | None = None


class FollowedRequest:
    """The reports about one request (or one WebSocket handshake) and what its scope and its answer tell.

    Attributes:
        scope: the ASGI scope, which changes on the request's way.
        path: as the client sent it, decoded once.
        method: the HTTP method; GET for a handshake, whose scope tells none.
        status_code: of the answer, None before it begins; 101 for an accepted handshake, 403 for a refused one.
        duration: seconds until the answer began.
        guarded: whether a guard is in the request's way.
        server_span: the span that was current when the following began.
        events: the rows of the security events that the request has produced so far.
        login: what the application has said of a login, None where it has said nothing.
        body: the kind and the beginning of the body, None where nobody notes it (`bodies`).
    """

    __slots__ = (
        "__weakref__",
        "_answered",
        "_app",
        "_began",
        "_held",
        "_is_measured",
        "_measures_itself",
        "_route",
        "_settled",
        "body",
        "duration",
        "events",
        "guarded",
        "login",
        "method",
        "path",
        "scope",
        "server_span",
        "status_code",
    )

    def __init__(self, scope: Scope, events: incident.Notes, *, guarded: bool, measured: bool) -> None:
        self.scope = scope
        self.path: str = scope.get("path", "")
        self.method: str = scope.get("method") or "GET"
        self.status_code: int | None = None
        self.duration = 0.0
        self.guarded = guarded
        self.server_span = trace.get_current_span()
        # Asked for with few requests, by what the scope says now.
        self._is_measured: bool | None = measured or None
        self._app = scope.get("app")
        self._measures_itself = scope.get("fastapi.telemetry") is not None
        self.events = events
        self.login: ReportedLogin | None = None
        self.body: tuple[str, bytes] | None = None
        self._route = begun(scope)
        self._began = time.perf_counter()
        self._held: list[_Held] | None = None
        self._answered = False
        self._settled: tuple[str | None] | None = None

    @property
    def route(self) -> str | None:
        """The template of the route that answers, or would if no middleware had answered before; None without one."""
        if not self._answered:
            return self._route.template()
        if self._settled is None:
            # Asking all routes is dear where none matches, and an answer that has begun comes from no other one.
            is_nowhere = self.status_code == 404 and self._route.is_unmatched()
            self._settled = (None if is_nowhere else self._route.template(),)
        return self._settled[0]

    @property
    def measured_by_http(self) -> bool:
        """Whether an HTTP instrumentation measures the request."""
        if self._is_measured is None:
            self._is_measured = _is_measured(self._app, self.server_span, self._measures_itself)
        return self._is_measured

    def ends(self) -> None:
        """Leave the scope, which would keep this alive, and this the scope, until the garbage collector comes."""
        if self._settled is not None:
            self.scope[_SCOPE_KEY] = self._settled

    def enters(self, scope: Scope, *, measured: bool) -> None:
        """Learn of an application on the request's way; the first one has the whole route.

        Args:
            scope: as it is there.
            measured: whether it is known that an HTTP instrumentation in it measures the request.
        """
        self._route.enters(scope)
        # A guard that is served around the application is asked before the HTTP instrumentation is.
        if not self.measured_by_http:
            itself = scope.get("fastapi.telemetry") is not None
            self._is_measured = measured or _is_measured(scope.get("app"), trace.get_current_span(), itself)

    def report(self, report: Report, emit: Emit = emit_event) -> None:
        """Take a report; it is emitted when the answer begins, in the trace context of this moment."""
        held = self._held
        if self._answered or (held is not None and len(held) >= MAX_REPORTS):
            emit(self._completed(report))
            return
        if held is None:
            held = self._held = []
        held.append((report, context.get_current(), emit))

    def answer(self, status_code: int | None) -> None:
        """Emit what was held, once for each incident, and tell the observers; it never raises.

        Args:
            status_code: of the answer; None where there was none.
        """
        begins = not self._answered
        if begins:
            self._answered = True
            self.status_code = status_code
            self.duration = time.perf_counter() - self._began
        if self._held:
            self._tell_held()
        if begins and status_code is not None:
            for observer in _observers:
                try:
                    observer(self)
                except Exception as error:  # noqa: BLE001  the client gets its answer, whatever we make of it
                    unexpected(_logger, "an answer could not be judged", error)

    def _tell_held(self) -> None:
        held, self._held = self._held, None
        for report, seen_in, emit in _told_once(held or ()):
            token = context.attach(seen_in)
            try:
                emit(self._completed(report))
            finally:
                context.detach(token)

    def _completed(self, report: Report) -> Report:
        completed = dict(report)
        # The path has as many values as clients like; the route is one of a few, and quotes nothing of the client's.
        if completed.get("endpoint") in (None, self.path):
            completed["endpoint"] = self.route or self.path
        for name, value in (
            ("method", self.method),
            ("status_code", self.status_code),
            ("user_agent", user_agent(self.scope)),
        ):
            if completed.get(name) is None:
                completed[name] = value
        return completed

    def listening(self, send: Send) -> Send:
        """Return a `send` that notes when the answer begins."""

        # No coroutine of its own: each would be entered and left once more for every message.
        def listen(message: Message) -> Awaitable[None]:
            if not self._answered:
                kind = message["type"]
                if kind in ("http.response.start", "websocket.http.response.start"):
                    self.answer(message["status"])
                elif kind == "websocket.accept":
                    self.answer(101)
                elif kind == "websocket.close":
                    # ASGI: closing before accepting refuses the handshake with 403.
                    self.answer(403)
            return send(message)

        return listen


def user_agent(scope: Scope) -> str | None:
    """Return what the client calls itself, None where it doesn't."""
    for name, value in scope.get("headers") or ():
        if name == b"user-agent":
            return header_text(value)
    return None


def _told_once(held: Sequence[_Held]) -> list[_Held]:
    try:
        return [(report, *held[position][1:]) for report, position in fold([report for report, *_ in held])]
    except Exception:  # noqa: BLE001  a report's fields are a stranger's objects, and telling it twice beats losing it
        return list(held)


Observer = Callable[[FollowedRequest], None]

_observers: tuple[Observer, ...] = ()  # replaced whole, so that a request iterates over one state
Hearing = Callable[[FollowedRequest, Receive], Receive]

_hearing: Hearing | None = None
_current: ContextVar[FollowedRequest | None] = ContextVar("opentelemetry_guard_request", default=None)


def hear(hearing: Hearing | None) -> None:
    """Let `hearing` put a `receive` in the place of each followed request's from now on; None leaves them."""
    global _hearing
    _hearing = hearing


def observe(observer: Observer) -> None:
    """Call `observer` with every followed request whose answer begins, from now on."""
    global _observers
    _observers = (*_observers, observer)


def ignore(observer: Observer) -> None:
    """Call `observer` no more."""
    global _observers
    _observers = tuple(known for known in _observers if known is not observer)


def current() -> FollowedRequest | None:
    """Return the request that this task works for, None outside of one."""
    return _current.get()


def followed(scope: Mapping[str, object]) -> FollowedRequest | None:
    """Return the request of an ASGI scope, None where nobody follows it or it has ended."""
    request = scope.get(_SCOPE_KEY)
    return request if isinstance(request, FollowedRequest) else None


def route_of(scope: Mapping[str, object]) -> tuple[str | None] | None:
    """Return the template of the route of an ASGI scope's request, None where nobody follows it."""
    known: FollowedRequest | tuple[str | None] | None = scope.get(_SCOPE_KEY)  # type: ignore[assignment]
    return (known.route,) if isinstance(known, FollowedRequest) else known


async def follow(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, guarded: bool = True, measured: bool = False
) -> None:
    """Call `app` and follow the request; inside of a request that is followed already, just call it.

    Args:
        app: what answers the request.
        scope: of the request; a connection of another type is not followed.
        receive: as ASGI has it.
        send: as ASGI has it.
        guarded: whether `app` is a guard's.
        measured: whether it is known that an HTTP instrumentation inside of `app` measures the request.
    """
    if scope["type"] not in ("http", "websocket"):
        await app(scope, receive, send)
        return
    if _SCOPE_KEY in scope:
        outer = _current.get()
        if outer is not None:
            outer.guarded |= guarded
            outer.enters(scope, measured=measured)
        await app(scope, receive, send)
        return
    events, events_token = incident.begin_of(scope)  # who is around us may count them, too
    request = scope[_SCOPE_KEY] = FollowedRequest(scope, events, guarded=guarded, measured=measured)
    if _hearing is not None:
        receive = _hearing(request, receive)
    token = _current.set(request)
    status_code: int | None = None
    try:
        await app(scope, receive, request.listening(send))
    except Exception:
        status_code = 500  # what the server makes of it
        raise
    finally:
        request.answer(status_code)
        request.ends()
        _current.reset(token)
        if events_token is not None:
            incident.end(events_token)


async def detached(work: Callable[[], Awaitable[object]]) -> None:
    """Do work that belongs to no request: neither its tasks nor their telemetry continue the current trace."""
    token = context.attach(Context())
    request_token = _current.set(None)
    try:
        await work()
    finally:
        _current.reset(request_token)
        context.detach(token)


def _is_measured(app: object, span: trace.Span, itself: bool) -> bool:
    """Whether an HTTP instrumentation measures a request: it has marked the application, or opened a server span.

    Args:
        app: that the request has reached.
        span: that was current then.
        itself: whether FastAPI's own telemetry is at work.
    """
    try:
        return _shows_measurement(app, span, itself)
    except Exception as error:  # noqa: BLE001  applications and spans are of anybody's classes
        what = "whether an HTTP instrumentation measures a request could not be told"
        unexpected(_logger, what, error, logging.DEBUG)
        return False


def _shows_measurement(app: object, span: trace.Span, itself: bool) -> bool:
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        return True
    if itself and _measures(app):
        return True
    kind = getattr(span, "kind", None)
    if kind is None:
        # A span that isn't recorded tells nothing but its place: one of this process's own, when a request has only
        # begun, is the server's.
        place = span.get_span_context()
        return place.is_valid and not place.is_remote
    made_by = getattr(span, "instrumentation_scope", None)
    return (
        kind is trace.SpanKind.SERVER
        and made_by is not None
        and str(made_by.name).startswith("opentelemetry.instrumentation.")
    )


def _measures(app: object) -> bool:
    """Whether FastAPI's own telemetry, which is at work, has its metrics on; it has unless they were switched off."""
    settings = getattr(app, "_telemetry", None)
    return not isinstance(settings, Mapping) or bool(settings.get("metrics", True))
