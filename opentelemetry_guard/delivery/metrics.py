"""The delivery's own metrics, ``guard.delivery.*``, on the global MeterProvider.

They are for whoever watches the service: they never go to the Guard backend
as rows. The instruments are made through the API, which hands them on to an
SDK that is set later. They are made once for a process and tell destinations
apart by ``server.address`` and ``guard.delivery.destination``.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from urllib.parse import urlsplit

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation, get_meter

from .. import semconv
from ..instruments import OWN, SECONDS
from ..queue.base import Ledger
from ..version import __version__
from .breaker import BreakerState
from .outcome import Outcome, Verdict
from .stats import DeliveryStats

Attributes = dict[str, str | int]

SHARED_SECONDS = 1.0
"""Seconds for which a reading is that of a collection at most."""

_BREAKER_VALUE = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class DeliveryMetrics:
    """What one delivery has to tell; the instruments keep it weakly, because they can't be taken back."""

    def __init__(self, endpoint: str, destination: str, read: Callable[[], DeliveryStats | None]) -> None:
        """Begin to observe.

        Args:
            endpoint: the destination's base URL.
            destination: the hash that tells its projects apart.
            read: returns the current reading, None where there is nothing to tell.
        """
        self.attributes = _attributes(endpoint, destination)
        self._read = read
        # One reading, when it was made (monotonic), and which figures of it were told; replaced as a whole.
        self._reading: tuple[DeliveryStats | None, float, set[object]] = (None, float("-inf"), set())
        self._send_duration, self._retries = _instruments()
        _observed.add(self)

    def follow(self, endpoint: str, destination: str) -> None:
        """Observe for another destination from now on."""
        self.attributes = _attributes(endpoint, destination)

    def reading(self, figure: object) -> DeliveryStats | None:
        """Return what there is to tell of one figure, None where there is nothing.

        A collection asks for each figure once, so those of one collection are of one reading.
        """
        stats, read_at, told = self._reading
        now = time.monotonic()
        if figure in told or now - read_at > SHARED_SECONDS:
            stats, told = self._read(), set()
            self._reading = (stats, now, told)
        told.add(figure)
        return stats

    def observe(self, route: str, seconds: float, outcome: Outcome) -> None:
        """Count one request that took `seconds`."""
        attributes = {**self.attributes, semconv.DELIVERY_ROUTE: route}
        if outcome.verdict in (Verdict.RETRY, Verdict.PARTIAL):
            self._retries.add(1, attributes)
        if outcome.verdict is not Verdict.ACCEPTED:
            attributes[semconv.ERROR_TYPE] = str(outcome.status or ("timeout" if outcome.timed_out else "connection"))
        self._send_duration.record(seconds, attributes)


def _attributes(endpoint: str, destination: str) -> Attributes:
    return {
        semconv.SERVER_ADDRESS: urlsplit(endpoint).hostname or "",
        semconv.DELIVERY_DESTINATION: destination,
    }


_observed: weakref.WeakSet[DeliveryMetrics] = weakref.WeakSet()


@cache
def _instruments() -> tuple[Histogram, Counter]:
    """Make all instruments of the process, and return the two that are not observed."""
    meter = get_meter(semconv.SCOPE_NAME, __version__)
    for create, name, figures in (
        (meter.create_observable_up_down_counter, semconv.DELIVERY_QUEUE_DEPTH, _depth),
        (meter.create_observable_up_down_counter, semconv.DELIVERY_QUEUE_BYTES, _bytes),
        (meter.create_observable_gauge, semconv.DELIVERY_QUEUE_OLDEST_AGE, _oldest_age),
        (meter.create_observable_up_down_counter, semconv.DELIVERY_ROWS, _rows),
        (meter.create_observable_gauge, semconv.DELIVERY_BREAKER_STATE, _breakers),
    ):
        create(name, [_observe(figures)], OWN[name].unit, OWN[name].description)
    duration, retries = OWN[semconv.DELIVERY_SEND_DURATION], OWN[semconv.DELIVERY_RETRIES]
    return (
        meter.create_histogram(
            duration.name, duration.unit, duration.description, explicit_bucket_boundaries_advisory=SECONDS
        ),
        meter.create_counter(retries.name, retries.unit, retries.description),
    )


Figures = Iterable[tuple[int | float, Attributes]]


def _observe(figures: Callable[[DeliveryStats], Figures]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Return the callback of an instrument that tells `figures` of every delivery."""

    def callback(options: CallbackOptions) -> Iterator[Observation]:
        for delivery in list(_observed):
            if (stats := delivery.reading(figures)) is not None:
                for value, attributes in figures(stats):
                    yield Observation(value, {**delivery.attributes, **attributes})

    return callback


def _depth(stats: DeliveryStats) -> Figures:
    yield stats.depth, {}


def _bytes(stats: DeliveryStats) -> Figures:
    yield stats.bytes, {}


def _oldest_age(stats: DeliveryStats) -> Figures:
    yield (0.0 if stats.oldest is None else max(0.0, time.time() - stats.oldest)), {}


def _rows(stats: DeliveryStats) -> Figures:
    for kind, ledger in stats.ledger.items():
        for state, rows in _states(ledger):
            yield rows, {semconv.DELIVERY_ROW_KIND: kind, semconv.DELIVERY_ROW_STATE: state}


def _states(ledger: Ledger) -> Iterator[tuple[str, int]]:
    yield "accepted", ledger.accepted
    yield "delivered", ledger.delivered
    yield "queued", ledger.queued
    yield "in_flight", ledger.in_flight
    yield "dead_lettered", ledger.dead_lettered
    for reason, rows in ledger.dropped.items():
        yield f"dropped:{reason}", rows


def _breakers(stats: DeliveryStats) -> Figures:
    for route, route_stats in stats.routes.items():
        yield _BREAKER_VALUE[route_stats.breaker], {semconv.DELIVERY_ROUTE: route}
