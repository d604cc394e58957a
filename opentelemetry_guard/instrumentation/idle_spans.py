"""Spans without a security event are kept from the processors whose exporter looks for nothing else.

The SDK hands each finished span to each processor. One in front of a `GuardSpanExporter` would queue it, wake its
thread for it and have the exporter find that there is nothing in it: for every span of every request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from ..events.bearing import bears_nothing
from .patching import AnyFunction, Patches

_patches = Patches()


def install(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Spare the processors that a provider has by now, the global one by default, what they would do for nothing."""
    provider = tracer_provider or trace.get_tracer_provider()
    # The SDK has no public way to them; where it keeps them elsewhere one day, each span is looked at as before.
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    for processor in processors:
        exporter = getattr(processor, "span_exporter", None)
        # A class that was derived from ours may do more with a span.
        if vars(type(exporter)).get("reads_events_alone") and "on_end" not in vars(processor):
            _patches.wrap(processor, "on_end", _sifted)


def uninstall() -> None:
    """Give all spans to all processors again."""
    _patches.undo()


def _sifted(on_end: AnyFunction) -> Callable[[Any], None]:
    # The first one tells the exporter which service it works for.
    is_first = True

    def on_end_of_any(span: ReadableSpan) -> None:
        nonlocal is_first
        if is_first or not bears_nothing(span):
            is_first = False
            on_end(span)

    return on_end_of_any
