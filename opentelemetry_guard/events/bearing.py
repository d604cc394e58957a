"""Which spans bear a security event: a look, since every span of every request pays for it."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan

from .. import semconv


def bears_nothing(span: ReadableSpan) -> bool:
    """Whether a span has no event and is none of guard-core's, as nearly all spans."""
    # The property makes a tuple of them.
    if getattr(span, "_events", True):
        return False
    scope = span.instrumentation_scope
    return scope is None or scope.name != semconv.GUARD_CORE_SCOPE
