"""What opentelemetry-instrumentation-asgi measures of a request is told to the Guard exporter once.

Its middleware, which the instrumentations of FastAPI and Starlette use too,
may be in a request's way several times: once for each application that is
mounted in another one. All of them measure as before. The outermost one's
measurements, which see the whole request, are told with the route that the
request's events bear; `http_metrics` says to whom. What nobody but a Guard
exporter reads, and leaves, is not recorded with the SDK's instruments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from opentelemetry.util.types import AttributeValue

from ... import semconv
from ...events import http_metrics
from ..patching import AnyFunction, Patches, unexpected
from . import following as request_following
from . import routes
from .following import Receive, Scope, Send
from .routes import Route

_logger = logging.getLogger(__name__)

_LISTENED = "_opentelemetry_guard_listened"
"""Attribute of a middleware whose instruments are heard."""

_INSTRUMENTS = (
    "duration_histogram_old",
    "duration_histogram_new",
    "server_request_size_histogram",
    "server_request_body_size_histogram",
    "server_response_size_histogram",
    "server_response_body_size_histogram",
)
"""The attributes in which the middleware keeps its instruments; those of a convention that is off are None."""

_COUNTER = "active_requests_counter"
"""The attribute in which it keeps its count of the requests under way."""

_KEPT = (
    semconv.OLD_HTTP_METHOD,
    semconv.OLD_HTTP_STATUS_CODE,
    semconv.HTTP_REQUEST_METHOD,
    semconv.HTTP_RESPONSE_STATUS_CODE,
    semconv.ERROR_TYPE,
)
"""The attributes of which rows are made; others have as many values as clients like, such as the host."""

_STABLE_INSTRUMENTS = frozenset(
    {
        semconv.HTTP_SERVER_REQUEST_DURATION,
        semconv.HTTP_SERVER_REQUEST_BODY_SIZE,
        semconv.HTTP_SERVER_RESPONSE_BODY_SIZE,
    }
)


class _Measured(dict[str, tuple[str, float, Mapping[str, AttributeValue]]]):
    """Of a request by an instrument's name: its unit, and the amount and attributes that it has recorded last."""

    __slots__ = ("uncounted",)

    def __init__(self) -> None:
        self.uncounted = 0
        """Middlewares that have the request under way and have not counted it, since nobody reads their count."""


_patches = Patches()
_current: ContextVar[_Measured | None] = ContextVar("opentelemetry_guard_measured", default=None)


class _Listening:
    """An instrument of the middleware, as long as it is known who reads it."""

    def __init__(self, instrument: Any, is_unread: Callable[[str, Iterable[object]], bool]) -> None:
        self._instrument = instrument
        self._name = getattr(instrument, "name", None)  # one that records nothing has none
        self._unit = getattr(instrument, "unit", "")
        self._asked = is_unread
        self._known_readers: object = None
        self._known_replacements = 0
        self._unread = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instrument, name)

    def _is_unread(self) -> bool:
        """Whether nobody reads the instrument itself: recording with it is most of what a measurement costs."""
        readers = getattr(getattr(self._instrument, "_measurement_consumer", None), "_reader_storages", None)
        if readers is None:  # another release of the SDK keeps them differently
            return False
        # The SDK replaces the mapping when a reader comes or goes.
        if self._known_readers is not readers or self._known_replacements != http_metrics.replacements:
            self._known_readers, self._known_replacements = readers, http_metrics.replacements
            self._unread = self._asked(self._name or "", readers)
        return self._unread


class _Heard(_Listening):
    """One that measures requests, of which is noted what is recorded with it for the request under way."""

    def __init__(self, instrument: Any) -> None:
        super().__init__(instrument, http_metrics.is_enough)

    def record(
        self, amount: float, attributes: Mapping[str, AttributeValue] | None = None, *more: Any, **named: Any
    ) -> None:
        """Record, and note it."""
        measured = _current.get()
        if measured is None or self._name is None:
            self._instrument.record(amount, attributes, *more, **named)
            return
        # The outermost middleware ends last, and what it says replaces the others'.
        measured[self._name] = (self._unit, amount, attributes or {})
        if not self._is_unread():
            self._instrument.record(amount, attributes, *more, **named)


class _Counted(_Listening):
    """The one that counts the requests under way, of which a Guard exporter makes nothing.

    A request that was not counted when it began is not counted when it ends, whoever has begun to read since then.
    """

    def __init__(self, instrument: Any) -> None:
        super().__init__(instrument, lambda _, readers: http_metrics.reads_nothing_else(readers))

    def add(
        self, amount: float, attributes: Mapping[str, AttributeValue] | None = None, *more: Any, **named: Any
    ) -> None:
        """Count, where anybody reads it."""
        measured = _current.get()
        if measured is not None:
            if amount < 0 < measured.uncounted:
                measured.uncounted -= 1
                return
            if amount > 0 and self._is_unread():
                measured.uncounted += 1
                return
        self._instrument.add(amount, attributes, *more, **named)


def apply(module: Any) -> None:
    """Listen to the middleware of the instrumentation's module, from the next request on; it never raises."""
    _survive(_patches.wrap, module.OpenTelemetryMiddleware, "__call__", _listened)


def remove() -> None:
    """Undo `apply`; middlewares that live on measure as ever."""
    _patches.undo()


def _listened(call: AnyFunction) -> AnyFunction:
    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not http_metrics.is_heard():
            await call(self, scope, receive, send)
            return
        if not getattr(self, _LISTENED, False):
            _survive(_listen, self)
        if routes.is_begun(scope):
            await call(self, scope, receive, send)
            return
        route, measured = routes.begin(scope), _Measured()
        token = _current.set(measured)
        try:
            await call(self, scope, receive, send)
        finally:
            _current.reset(token)
            routes.end(scope)
            _survive(_tell, scope, route, measured)

    return __call__


def _listen(middleware: Any) -> None:
    setattr(middleware, _LISTENED, True)
    for name in _INSTRUMENTS:
        instrument = getattr(middleware, name, None)
        if instrument is not None and not isinstance(instrument, _Heard):
            setattr(middleware, name, _Heard(instrument))
    counter = getattr(middleware, _COUNTER, None)
    if counter is not None and not isinstance(counter, _Counted):
        setattr(middleware, _COUNTER, _Counted(counter))


def _tell(scope: Scope, route: Route, measured: _Measured) -> None:
    """Tell what was measured of a request, under its route."""
    if not measured:
        return
    followed = request_following.route_of(scope)
    template = route.template() if followed is None else followed[0]
    known: Mapping[str, AttributeValue] | None = None
    for name, (unit, amount, attributes) in measured.items():
        # The instruments of one convention are given the same attributes.
        if attributes is not known:
            known = attributes
            kept = tuple([(key, attributes[key]) for key in _KEPT if key in attributes])
            if template is not None:
                kept += ((semconv.HTTP_ROUTE if name in _STABLE_INSTRUMENTS else semconv.OLD_HTTP_TARGET, template),)
        http_metrics.record(name, unit, amount, kept)


def _survive(step: AnyFunction, *arguments: Any) -> None:
    """Do one step; the request, and what others measure of it, don't depend on it."""
    try:
        step(*arguments)
    except Exception as error:  # noqa: BLE001  other releases of the instrumentation have other parts
        unexpected(_logger, "what an HTTP instrumentation measures is delivered as it is, mounted ones twice", error)
