"""What the code under test emits, without a pipeline, a queue or a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace

from .. import semconv
from ..events import diverted
from ..events.codec import complete
from ..models import SecurityEvent, SecurityMetric


class Captured:
    """What was emitted within a `capture_events`, in the order of its emission.

    Attributes:
        events: the events, masked as they would be sent, with the ids of the span that was current.
        metrics: the measurements, one for each `record_metric`.

    .. versionadded:: 1.0
    """

    def __init__(self) -> None:
        self.events: list[SecurityEvent] = []
        self.metrics: list[SecurityMetric] = []

    def __iter__(self) -> Iterator[SecurityEvent]:
        """Yield the events."""
        return iter(list(self.events))

    def __len__(self) -> int:
        """Return how many events there are."""
        return len(self.events)

    def __repr__(self) -> str:
        """Name the types of what was captured."""
        events = ", ".join(event.event_type for event in self.events)
        return f"<Captured events: {events or 'none'}; metrics: {len(self.metrics)}>"

    def of_type(self, event_type: str) -> list[SecurityEvent]:
        """Return the events of one type."""
        return [event for event in self.events if event.event_type == event_type]

    def metrics_of(self, metric_type: str) -> list[SecurityMetric]:
        """Return the measurements of one type."""
        return [metric for metric in self.metrics if metric.metric_type == metric_type]

    def clear(self) -> None:
        """Forget what was captured so far."""
        self.events.clear()
        self.metrics.clear()

    def event(self, row: Mapping[str, object]) -> None:
        """Take an event; emission calls this."""
        span = trace.get_current_span().get_span_context()
        self.events.append(SecurityEvent.model_validate(complete(dict(row), span.trace_id, span.span_id)))  # type: ignore[arg-type]

    def metric(self, metric_type: str, value: float, attributes: Mapping[str, str]) -> None:
        """Take a measurement; emission calls this."""
        tags = {
            name.removeprefix(semconv.GUARD_TAG_PREFIX): text
            for name, text in attributes.items()
            if name.startswith(semconv.GUARD_TAG_PREFIX)
        }
        endpoint = attributes.get(semconv.HTTP_ROUTE)
        fields = {"metric_type": metric_type, "value": value, "endpoint": endpoint, "tags": tags}
        self.metrics.append(SecurityMetric.model_validate(fields))


@contextmanager
def capture_events() -> Iterator[Captured]:
    """Capture what is emitted within the block, in all threads and tasks of the process.

    It goes nowhere else meanwhile: no provider, exporter, queue or network
    has a part in it, and none is left behind. Processors and masking work as
    always. Of blocks within each other the innermost captures.

    Example:
        >>> from opentelemetry_guard import emit_event
        >>> with capture_events() as captured:
        ...     emit_event(event_type="coupon_guessed", ip_address="192.0.2.7")
        >>> captured.events[0].ip_address
        '192.0.2.7'

    .. versionadded:: 1.0
    """
    captured = Captured()
    diverted.begin(captured)
    try:
        yield captured
    finally:
        diverted.end(captured)
