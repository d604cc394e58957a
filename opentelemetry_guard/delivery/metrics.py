"""The delivery's own metrics, ``guard.delivery.*``, on the global MeterProvider.

They are for whoever watches the service: they never go to the Guard backend
as rows. The instruments are made through the API, which hands them on to an
SDK that is set later.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation, get_meter

from .. import semconv
from ..queue.base import Ledger, QueueUnavailable
from ..version import __version__
from .breaker import BreakerState
from .outcome import Outcome, Verdict

if TYPE_CHECKING:
    from .delivery import Delivery, DeliveryStats

_BREAKER_VALUE = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class DeliveryMetrics:
    """The instruments of one delivery, which is held weakly: an instrument can't be taken back."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = weakref.ref(delivery)
        meter = get_meter(semconv.SCOPE_NAME, __version__)
        self._send_duration: Histogram = meter.create_histogram(
            semconv.DELIVERY_SEND_DURATION, "s", "Time of one request to the Guard backend"
        )
        self._retries = meter.create_counter(
            semconv.DELIVERY_RETRIES, "{batch}", "Batches that were put back to be sent again"
        )
        self._make_observables(meter)

    def observe(self, route: str, seconds: float, outcome: Outcome) -> None:
        """Count one request that took `seconds`."""
        attributes: dict[str, str | int] = {semconv.DELIVERY_ROUTE: route}
        if outcome.verdict is not Verdict.ACCEPTED:
            attributes[semconv.ERROR_TYPE] = str(outcome.status or ("timeout" if outcome.timed_out else "connection"))
        self._send_duration.record(seconds, attributes)
        if outcome.verdict in (Verdict.RETRY, Verdict.PARTIAL):
            self._retries.add(1, {semconv.DELIVERY_ROUTE: route})

    def _make_observables(self, meter: Meter) -> None:
        meter.create_observable_up_down_counter(
            semconv.DELIVERY_QUEUE_DEPTH, [self._depth], "{batch}", "Batches that wait or are in flight"
        )
        meter.create_observable_up_down_counter(
            semconv.DELIVERY_QUEUE_BYTES, [self._bytes], "By", "Encoded bytes of the batches that wait or are in flight"
        )
        meter.create_observable_gauge(
            semconv.DELIVERY_QUEUE_OLDEST_AGE, [self._oldest_age], "s", "Age of the oldest batch that waits"
        )
        meter.create_observable_up_down_counter(
            semconv.DELIVERY_ROWS, [self._rows], "{row}", "Rows of the ledger, by kind and state"
        )
        meter.create_observable_gauge(
            semconv.DELIVERY_BREAKER_STATE, [self._breakers], "1", "Circuit breaker: 0 closed, 1 half-open, 2 open"
        )

    def _stats(self) -> DeliveryStats | None:
        delivery = self._delivery()
        try:
            return None if delivery is None else delivery.stats()
        except QueueUnavailable:
            return None  # there is no figure now; the delivery itself says what is wrong with its queue

    def _depth(self, options: CallbackOptions) -> Iterable[Observation]:
        if stats := self._stats():
            yield Observation(stats.depth)

    def _bytes(self, options: CallbackOptions) -> Iterable[Observation]:
        if stats := self._stats():
            yield Observation(stats.bytes)

    def _oldest_age(self, options: CallbackOptions) -> Iterable[Observation]:
        if stats := self._stats():
            yield Observation(max(0.0, time.time() - stats.oldest) if stats.oldest is not None else 0.0)

    def _rows(self, options: CallbackOptions) -> Iterable[Observation]:
        if stats := self._stats():
            for kind, ledger in stats.ledger.items():
                for state, rows in _states(ledger):
                    yield Observation(rows, {semconv.DELIVERY_ROW_KIND: kind, semconv.DELIVERY_ROW_STATE: state})

    def _breakers(self, options: CallbackOptions) -> Iterable[Observation]:
        if stats := self._stats():
            for route, route_stats in stats.routes.items():
                yield Observation(_BREAKER_VALUE[route_stats.breaker], {semconv.DELIVERY_ROUTE: route})


def _states(ledger: Ledger) -> Iterator[tuple[str, int]]:
    yield "accepted", ledger.accepted
    yield "delivered", ledger.delivered
    yield "queued", ledger.queued
    yield "in_flight", ledger.in_flight
    yield "dead_lettered", ledger.dead_lettered
    for reason, rows in ledger.dropped.items():
        yield f"dropped:{reason}", rows
