"""Keeps secrets out of the server spans of HTTP instrumentations, and of guard-core's own spans.

Those spans go to every exporter of the application, not only to ours: the
query string, the path, the user agent, captured headers and the messages of
exceptions are masked before any exporter sees them. Only what the spans hold
is changed; nothing is added or dropped, and only what is longer than anybody
reads is shortened: a client chooses most of it, and all of it is searched
while the request waits.

The OpenTelemetry SDK offers a span to processors when it starts and, with all
that was added since, when it ends (`SpanProcessor._on_ending`); after that it
goes to the exporters. A processor can't be taken away from a provider, so
one that was uninstalled does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanKind, Status
from opentelemetry.util.types import AnyValue

from .. import semconv
from ..settings.once import log_once

if TYPE_CHECKING:
    from . import Privacy

_logger = logging.getLogger(__name__)

MAX_TEXT = 8 * 1024
"""Bytes of one attribute that are looked at; what is longer is shortened to them."""
MAX_TRACE = 16 * 1024
"""The same of an exception's message and stack trace, of which the end matters most."""

_SCOPES = frozenset(
    {
        semconv.GUARD_CORE_SCOPE,
        "fastapi",
        *(f"opentelemetry.instrumentation.{name}" for name in ("asgi", "fastapi", "starlette")),
    }
)
"""Scopes of which all spans are masked, also those of a request's parts; of other scopes it is the server spans."""


_IDLE = tuple((each.on_start, each._on_ending) for each in (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor))
"""What the SDK's processors do with a span that begins and with one that is about to end: nothing."""


class _Asked(NamedTuple):
    """Whether somebody may look at spans that begin, under one privacy and with these processors."""

    privacy: Privacy
    processors: tuple[SpanProcessor, ...]
    is_seen: bool


class SpanPrivacy(SpanProcessor):
    """Masks the secrets in the spans of HTTP servers; while it is not active it does nothing.

    A span is masked when it ends, before anybody gets it. It is masked when it begins, too, where another processor may
    look at it then, and where addresses are hashed.
    """

    def __init__(self, provider: object = None) -> None:
        """Work for a provider of spans; without one, anybody may look at spans that begin."""
        self.active = True
        # What has the processors, in a tuple that is replaced when one comes; it doesn't refer to the provider.
        self._holder: Any = getattr(provider, "_active_span_processor", None)
        self._asked: _Asked | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Mask what a server's span starts with, where other processors would see it."""
        if self.active and span.kind is SpanKind.SERVER and self._is_seen() and not _is_known(span):
            _survive(span)

    def _on_ending(self, span: Span) -> None:
        # What `on_end` would mask would come too late for the processors before this one.
        if self.active and (span.kind is SpanKind.SERVER or _is_part(span)) and not _is_known(span):
            _survive(span)

    def _is_seen(self) -> bool:
        """Whether anybody may look at a span before it ends."""
        try:
            processors = self._holder._span_processors
            asked = self._asked
            if asked is None or asked.processors is not processors or asked.privacy is not _process._current:
                privacy = cleaners().texts
                is_seen = privacy.settings.address_key is not None or not all(map(_is_idle, processors))
                asked = self._asked = _Asked(_process._current, processors, is_seen)
            return asked.is_seen
        except Exception:  # noqa: BLE001  another release of the SDK, or another provider, keeps them differently
            return True


def _is_idle(processor: SpanProcessor) -> bool:
    """Whether a processor is known to do nothing with a span before it has ended."""
    if type(processor) is SpanPrivacy:
        return True
    cls, own = type(processor), vars(processor)
    return (cls.on_start, cls._on_ending) in _IDLE and "on_start" not in own and "_on_ending" not in own


# What is installed, by provider; a provider that is gone takes its processor along.
_installed: WeakKeyDictionary[trace.TracerProvider, SpanPrivacy] = WeakKeyDictionary()


def install(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Mask the spans of a provider, the global one by default, from now on; a second call changes nothing.

    A provider that is not the SDK's records nothing and is left alone.
    """
    provider = tracer_provider or trace.get_tracer_provider()
    present = _installed.get(provider)
    if present is not None:
        present.active = True
        return
    add = getattr(provider, "add_span_processor", None)
    if add is not None:
        made = _installed[provider] = SpanPrivacy(provider)
        add(made)


def uninstall() -> None:
    """Leave the spans of all providers as they are."""
    for processor in _installed.values():
        processor.active = False


def _is_part(span: ReadableSpan) -> bool:
    """Whether a span that is no server's tells of a part of its request."""
    scope = span.instrumentation_scope
    return scope is not None and scope.name in _SCOPES


def _is_known(span: Span) -> bool:
    """Whether all that a span holds has been seen and found harmless, as of nearly all: cleaning it changes nothing.

    There are four of a request, and two looks at each.
    """
    try:
        made = _made
        if made is None or _process._current is not made[0] or span._events or span._status.description:
            return False
        return made[1].texts.knows(span._name, span._attributes._dict)  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001  another release of the SDK holds them differently, of which `_survive` knows
        return False


def _mask(span: Span) -> None:
    # A span that ended refuses changes, but its exporters get these very objects; `_survive` knows what to do where
    # another release of the SDK holds them differently.
    clean, traces = cleaners()
    held: dict[str, AnyValue] = span._attributes._dict  # type: ignore[union-attr]
    _mask_attributes(clean, held)
    if (name := clean.path(span._name)) != span._name:
        span._name = name
    description = span._status.description
    if description and (masked := clean.message(description)) != description:
        span._status = Status(span._status.status_code, masked)
    if span._events:
        for event in span._events:
            if event.name != semconv.SECURITY_EVENT and event.attributes:
                _mask_attributes(traces, event.attributes._dict, quoting=True)  # type: ignore[attr-defined]


def _mask_attributes(clean: Privacy, held: dict[str, AnyValue], *, quoting: bool = False) -> None:
    if (route := held.get(semconv.HTTP_ROUTE)) is not None:
        held.update(clean.route_changes(held, route))
    if changes := clean.changes(held, quoting=quoting):
        held.update(changes)


class Cleaners(NamedTuple):
    """The privacy of the process with room for long texts: one for what clients choose, one for stack traces."""

    texts: Privacy
    traces: Privacy


# What `cleaners` made, and of which privacy; replaced whole.
_made: tuple[Privacy, Cleaners] | None = None
_current: Callable[[], Privacy] | None = None
_process: Any = None


def cleaners() -> Cleaners:
    """Return the privacy of the process with room for long attributes."""
    global _made, _current, _process
    if _current is None:
        from . import process  # here, since a process without requests is spared what it imports

        _current, _process = process.current, process
    current = _current()
    made = _made
    if made is None or made[0] is not current:
        made = _made = (current, Cleaners(current.with_limit(MAX_TEXT), current.with_limit(MAX_TRACE)))
    return made[1]


def _survive(span: Span) -> None:
    """Mask a span; where that fails, everything goes that might hold a secret."""
    try:
        _mask(span)
    except Exception as error:  # noqa: BLE001  a request must not fail for its telemetry's sake
        _empty(span)
        log_once(
            _logger,
            logging.ERROR,
            f"server spans can't be cleaned of secrets, so they lose their names and attributes; the first failed with "
            f"{type(error).__name__}",
            cause="uncleanable spans",
        )


def _empty(span: Span) -> None:
    ours = [event for event in span._events if event.name == semconv.SECURITY_EVENT]
    span._attributes = BoundedAttributes(immutable=span._end_time is not None)
    span._events = BoundedList.from_seq(max(len(ours), 1), ours)
    span._status = Status(span._status.status_code)
    span._name = span.kind.name
