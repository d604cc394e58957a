"""The instruments on which metrics are recorded, and the bucket edges that our histograms advise.

The SDK's own edges, from 0 to 10,000, are for milliseconds. Advice counts where a reader has explicit buckets, as
Prometheus and OTLP have by default; the Guard exporter asks for exponential ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import semconv

if TYPE_CHECKING:
    from .models import MetricType

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Of durations in seconds. Source: OpenTelemetry semantic conventions, ``http.server.request.duration``."""

SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Of values from 0 to 1: fine at both ends, where a share of 1 % is news."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """How a metric type is measured: the instrument's name, its unit (UCUM), and whether it adds up or spreads.

    What spreads has `buckets`, the upper edges that readers with explicit buckets are advised to use.
    """

    name: str
    unit: str
    adds_up: bool
    description: str
    buckets: tuple[float, ...] | None = None


INSTRUMENTS: Mapping[MetricType, Instrument] = {
    "request_count": Instrument(semconv.GUARD_REQUEST_COUNT, "{request}", True, "Requests"),
    "error_rate": Instrument(semconv.GUARD_ERROR_RATE, "{request}", True, "Failed requests"),
    "bandwidth_usage": Instrument(semconv.GUARD_BANDWIDTH_USAGE, "By", True, "Bytes received and sent"),
    "response_time": Instrument(semconv.GUARD_RESPONSE_TIME_METRIC, "s", False, "Time to answer a request", SECONDS),
    "threat_level": Instrument(semconv.GUARD_THREAT_LEVEL, "1", False, "Threat level", SHARES),
    "block_rate": Instrument(semconv.GUARD_BLOCK_RATE, "1", False, "Share of requests that were blocked", SHARES),
    "cache_hit_rate": Instrument(
        semconv.GUARD_CACHE_HIT_RATE, "1", False, "Share of look-ups that hit the cache", SHARES
    ),
}
"""The instrument of each metric type of the contract."""


@dataclass(frozen=True, slots=True)
class OwnInstrument:
    """How this package tells of itself: the instrument's name and unit (UCUM), and by what its points are told apart.

    Each bears `semconv.DELIVERY_DESTINATION` besides, the hash of endpoint and project.
    """

    name: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()


OWN: Mapping[str, OwnInstrument] = {
    instrument.name: instrument
    for instrument in (
        OwnInstrument(
            semconv.DELIVERY_ROWS,
            "{row}",
            "Rows of the ledger, by kind and state",
            (semconv.SERVER_ADDRESS, semconv.DELIVERY_ROW_KIND, semconv.DELIVERY_ROW_STATE),
        ),
        OwnInstrument(
            semconv.DELIVERY_QUEUE_DEPTH,
            "{batch}",
            "Batches that wait or are in flight",
            (semconv.SERVER_ADDRESS,),
        ),
        OwnInstrument(semconv.DELIVERY_QUEUE_BYTES, "By", "Encoded bytes of those batches", (semconv.SERVER_ADDRESS,)),
        OwnInstrument(
            semconv.DELIVERY_QUEUE_OLDEST_AGE, "s", "Age of the oldest batch that waits", (semconv.SERVER_ADDRESS,)
        ),
        OwnInstrument(
            semconv.DELIVERY_BREAKER_STATE,
            "1",
            "Circuit breaker: 0 closed, 1 half-open, 2 open",
            (semconv.SERVER_ADDRESS, semconv.DELIVERY_ROUTE),
        ),
        OwnInstrument(
            semconv.DELIVERY_SEND_DURATION,
            "s",
            "Time of one request to the Guard backend",
            (semconv.SERVER_ADDRESS, semconv.DELIVERY_ROUTE, semconv.ERROR_TYPE),
        ),
        OwnInstrument(
            semconv.DELIVERY_RETRIES,
            "{batch}",
            "Batches that were put back to be sent again",
            (semconv.SERVER_ADDRESS, semconv.DELIVERY_ROUTE),
        ),
        OwnInstrument(
            semconv.RULES_REFUSED,
            "{document}",
            "Rules documents that were refused",
            (semconv.RULES_REFUSAL_REASON,),
        ),
    )
}
"""The instruments of the delivery and of the rules client, by name."""
