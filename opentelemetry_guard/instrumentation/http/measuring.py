"""What opentelemetry-instrumentation-asgi measures of a request is told to the Guard exporter once.

Its middleware, which the instrumentations of FastAPI and Starlette use too,
may be in a request's way several times: once for each application that is
mounted in another one. All of them measure as before. The outermost one's
measurements, which see the whole request, are told with the route that the
request's events bear; `http_metrics` says to whom. From the first collection
on, the SDK keeps none of it for the reader of a Guard exporter, and asks only
the others (`sparing`). What nobody else reads is not recorded with its
instruments at all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from ... import semconv
from ...events import http_metrics
from ..patching import AnyFunction, Patches, unexpected
from . import following as request_following
from . import routes
from .following import Receive, Scope, Send
from .routes import Route
from .sparing import consumer_of, narrow, spare

_logger = logging.getLogger(__name__)

_EARS = "_opentelemetry_guard_ears"
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

_OLD = (semconv.OLD_HTTP_METHOD, semconv.OLD_HTTP_STATUS_CODE, semconv.ERROR_TYPE, semconv.OLD_HTTP_TARGET)
_STABLE = (semconv.HTTP_REQUEST_METHOD, semconv.HTTP_RESPONSE_STATUS_CODE, semconv.ERROR_TYPE, semconv.HTTP_ROUTE)
"""The attributes of which rows are made; others have as many values as clients like, such as the host."""

_STABLE_INSTRUMENTS = frozenset(
    {
        semconv.HTTP_SERVER_REQUEST_DURATION,
        semconv.HTTP_SERVER_REQUEST_BODY_SIZE,
        semconv.HTTP_SERVER_RESPONSE_BODY_SIZE,
    }
)


class _Measured(dict[str, tuple["_Heard", float, Mapping[str, AttributeValue]]]):
    """Of a request by an instrument's name: the instrument, and the amount and attributes that it has recorded last."""

    __slots__ = ("template", "uncounted")
    template: str | None
    """The route's, when the request has ended."""
    uncounted: int
    """Middlewares that have the request under way and have not counted it, since nobody reads their count."""

    def told(self) -> Sequence[http_metrics.Told]:
        """Return what is told of it, nothing where that fails."""
        told: list[http_metrics.Told] = []
        known: object = None
        try:
            for name, (heard, amount, attributes) in self.items():
                # The instruments of one convention are given the same attributes.
                if attributes is not known:
                    known, value = attributes, attributes.get
                    method, status, failure, _ = heard.kept
                    measurements: list[http_metrics.Measurement] = []
                    series = (heard.kept, (value(method), value(status), value(failure), self.template))
                    hash(series)  # what fails here harms no other request
                    told.append((series, measurements))
                measurements.append((name, heard.unit, amount))
        except Exception as error:  # noqa: BLE001  other releases of the instrumentation have other parts
            _unexpected(error)
            return ()
        return told


_patches = Patches()
_current: ContextVar[_Measured | None] = ContextVar("opentelemetry_guard_measured", default=None)


class _Heard:
    """An instrument that measures requests, of which is noted what is recorded with it for the request under way.

    `is_unread` tells whether nobody reads the instrument itself: recording with it is most of what a measurement costs.
    """

    def __init__(self, instrument: Any) -> None:
        self.instrument = instrument
        self.name: str = instrument.name
        self.unit: str = getattr(instrument, "unit", "")
        self.kept = _STABLE if self.name in _STABLE_INSTRUMENTS else _OLD
        self.is_unread = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.instrument, name)

    def record(
        self,
        amount: float,
        attributes: Mapping[str, AttributeValue] | None = None,
        context: Context | None = None,
    ) -> None:
        """Record, and note it."""
        measured = _current.get()
        if measured is not None:
            # The outermost middleware ends last, and what it says replaces the others'.
            measured[self.name] = (self, amount, attributes or {})
            if self.is_unread:
                return
        self.instrument.record(amount, attributes, context)


class _Counted:
    """The one that counts the requests under way, of which a Guard exporter makes nothing.

    A request that was not counted when it began is not counted when it ends, whoever has begun to read since then.
    """

    def __init__(self, instrument: Any) -> None:
        self.instrument = instrument
        self.is_unread = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.instrument, name)

    def add(
        self,
        amount: float,
        attributes: Mapping[str, AttributeValue] | None = None,
        context: Context | None = None,
    ) -> None:
        """Count, where anybody reads it."""
        measured = _current.get()
        if measured is not None:
            if amount > 0:
                if self.is_unread:
                    measured.uncounted += 1
                    return
            elif measured.uncounted:
                measured.uncounted -= 1
                return
        self.instrument.add(amount, attributes, context)


class _Ears:
    """One middleware's instruments, and who reads them as far as is known.

    They are outdated when a reader has come or gone, for which the SDK replaces its consumer's mapping of readers, or
    when a reader has replaced something.
    """

    def __init__(self, middleware: Any) -> None:
        self._heard: list[_Heard] = []
        for name in _INSTRUMENTS:
            instrument = getattr(middleware, name, None)
            if hasattr(instrument, "name"):  # one that records nothing has none
                self._heard.append(_Heard(instrument))
                setattr(middleware, name, self._heard[-1])
        # They are of one meter. What records nothing, and another release of the SDK, has no consumer.
        consumers = [consumer_of(heard.instrument) for heard in self._heard]
        self.consumer: Any = next((each for each in consumers if hasattr(each, "_reader_storages")), _NoConsumer)
        self.readers: Mapping[object, Any] = {}
        self.replacements = -1

    def listen(self, middleware: Any) -> None:
        """Spare the readers that are told what they would read, and note what nobody else reads."""
        self.readers, self.replacements = self.consumer._reader_storages, http_metrics.replacements
        for heard in self._heard:
            told = [http_metrics.is_replaced(reader, heard.name) for reader in self.readers]
            heard.is_unread = self._spared(heard.instrument, told)
        counter = getattr(middleware, _COUNTER, None)
        if counter is not None:
            is_counted = isinstance(counter, _Counted)
            told = [http_metrics.reads_nothing_else(reader) for reader in self.readers]
            is_unread = self._spared(counter.instrument if is_counted else counter, told)
            if is_unread and not is_counted:
                counter = _Counted(counter)
                setattr(middleware, _COUNTER, counter)
            if isinstance(counter, _Counted):
                counter.is_unread = is_unread

    def _spared(self, instrument: Any, told: Sequence[bool]) -> bool:
        """Spare some of the readers an instrument, and return whether these are all."""
        others = []
        for storage, is_told in zip(self.readers.values(), told, strict=True):
            if is_told:
                spare(storage, instrument)
            else:
                others.append(storage)
        if any(told):
            narrow(instrument, self.readers, others)
        return any(told) and all(told)


class _NoConsumer:
    """Who has no readers, in the place of the SDK's consumer of measurements."""

    _reader_storages: Mapping[object, Any] = MappingProxyType({})


def apply(module: Any) -> None:
    """Listen to the middleware of the instrumentation's module, from the next request on; it never raises."""
    _survive(_patches.wrap, module.OpenTelemetryMiddleware, "__call__", _listened)


def remove() -> None:
    """Undo `apply`; middlewares that live on measure as ever."""
    _patches.undo()


def _listened(call: AnyFunction) -> AnyFunction:
    async def __call__(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        ears: _Ears | None = getattr(self, _EARS, None)
        if scope["type"] != "http" or (ears is None and not http_metrics.is_heard()):
            await call(self, scope, receive, send)
            return
        # Each call less is felt: between two requests, the processor's caches have forgotten this code.
        if (
            ears is None
            or ears.readers is not ears.consumer._reader_storages
            or ears.replacements != http_metrics.replacements
        ):
            _survive(_listen, self)
        route = routes.begin(scope)
        if route is None:
            await call(self, scope, receive, send)
            return
        measured = _Measured()
        measured.uncounted = 0
        token = _current.set(measured)
        try:
            await call(self, scope, receive, send)
        finally:
            _current.reset(token)
            routes.end(scope)
            if measured:
                _tell(scope, route, measured)

    return __call__


def _listen(middleware: Any) -> None:
    ears: _Ears | None = getattr(middleware, _EARS, None)
    if ears is None:
        ears = _Ears(middleware)
        setattr(middleware, _EARS, ears)
    ears.listen(middleware)


def _tell(scope: Scope, route: Route, measured: _Measured) -> None:
    """Tell what was measured of a request, under its route."""
    try:
        followed = request_following.route_of(scope)
        measured.template = route.template() if followed is None else followed[0]
        http_metrics.record(measured.told)
    except Exception as error:  # noqa: BLE001  other releases of the instrumentation have other parts
        _unexpected(error)


def _survive(step: AnyFunction, *arguments: Any) -> None:
    """Do one step; the request, and what others measure of it, don't depend on it."""
    try:
        step(*arguments)
    except Exception as error:  # noqa: BLE001  other releases of the instrumentation have other parts
        _unexpected(error)


def _unexpected(error: Exception) -> None:
    unexpected(_logger, "what an HTTP instrumentation measures is delivered as it is, mounted ones twice", error)
