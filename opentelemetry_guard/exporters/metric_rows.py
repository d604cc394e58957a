"""OpenTelemetry metric data -> the Guard backend's metric rows.

Three kinds of instrument make rows: this package's own, which carry what user
code records; the HTTP server metrics of the ASGI family of instrumentations
(opentelemetry-instrumentation-fastapi, -starlette, -asgi) in the stable and in
the old semantic convention; and guard-core's. The last three describe the
same requests, so a process uses one of them: the best one that it has seen.

A row stands for one series and one interval. Totals equal what was recorded:
series that differ in what a row does not carry are merged, and series beyond
the bound are folded into overflow rows, never left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from opentelemetry.sdk import metrics
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation
from opentelemetry.util.types import AttributeValue

from .. import privacy, semconv
from ..events import http_metrics
from ..events.codec import format_nanoseconds
from ..events.jsonsafe import JSON, describe, safe_text
from ..models import MetricType
from .distribution import Distribution, distribution

PREFERRED_TEMPORALITY: dict[type, AggregationTemporality] = {
    metrics.Counter: AggregationTemporality.DELTA,
    metrics.ObservableCounter: AggregationTemporality.DELTA,
    metrics.Histogram: AggregationTemporality.DELTA,
    metrics.UpDownCounter: AggregationTemporality.CUMULATIVE,
    metrics.ObservableUpDownCounter: AggregationTemporality.CUMULATIVE,
    metrics.ObservableGauge: AggregationTemporality.CUMULATIVE,
}
"""What the metric exporter asks for: the specification's delta preference. A row is about its interval alone."""

PREFERRED_AGGREGATION: dict[type, Aggregation] = {metrics.Histogram: ExponentialBucketHistogramAggregation()}
"""Exponential buckets for every histogram: fixed ones put a latency's p99 off by a third."""

MAX_ROWS = 2_000
"""Rows of one collection; the overflow rows come on top (one per metric type, direction and bucket layout)."""

CUMULATIVE_TEMPORALITY = "cumulative_temporality"
"""Reason: the point counts since the process began, and adding it up each interval would inflate the totals."""
INVALID_VALUE = "invalid_value"
"""Reason: a value or a sum is NaN, infinite or beyond what a float holds."""
UNSUPPORTED_AGGREGATION = "unsupported_aggregation"
"""Reason: a view aggregates one of our instruments so that what was recorded can't be told from it."""

MAX_METHOD_LENGTH = 32
"""Characters of the tag `method`: it comes from the client where an instrumentation passes every method."""
MAX_ROUTE_LENGTH = 512
"""Characters of an `endpoint` that comes from an instrumentation."""

_HEARD_SCOPES = frozenset(f"opentelemetry.instrumentation.{name}" for name in ("asgi", "fastapi", "starlette"))
"""Scopes of the middleware whose measurements `http_metrics` has, once for each request, where it is listened to."""

_TEMPLATE_TARGET_SCOPES = _HEARD_SCOPES | {http_metrics.SCOPE}
"""Scopes whose old metrics carry a route template in `http.target`; others may carry the raw path.

The template is as good as the instrumentation makes it: it lacks the prefix of an included router, and starts with the
path below which a sub-application is mounted as it was requested. The new convention has the mount alone, or lacks it;
where an application routes by host, its `http.route` is the requested path. What `http_metrics` has is the whole route.
"""

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_STATISTICS = frozenset({"count", "sum", "min", "max", *_QUANTILES})


class _Source(IntEnum):
    """Who measured. The request sources are in ascending order of preference."""

    USER = 0
    GUARD_CORE = 1
    OLD_HTTP = 2
    HTTP = 3


class _Reading(NamedTuple):
    """What an instrument means.

    `spread` tells whether a row has a mean and statistics instead of a total,
    `requests` whether each value is one request, `divisor` how many of the
    instrument's units make one of the row's.
    """

    source: _Source
    metric_type: MetricType
    spread: bool = False
    requests: bool = False
    divisor: float = 1.0
    direction: str | None = None


_USER_READINGS: Mapping[str, _Reading] = {
    semconv.GUARD_REQUEST_COUNT: _Reading(_Source.USER, "request_count"),
    semconv.GUARD_ERROR_RATE: _Reading(_Source.USER, "error_rate"),
    semconv.GUARD_BANDWIDTH_USAGE: _Reading(_Source.USER, "bandwidth_usage"),
    semconv.GUARD_RESPONSE_TIME_METRIC: _Reading(_Source.USER, "response_time", spread=True),
    semconv.GUARD_THREAT_LEVEL: _Reading(_Source.USER, "threat_level", spread=True),
    semconv.GUARD_BLOCK_RATE: _Reading(_Source.USER, "block_rate", spread=True),
    semconv.GUARD_CACHE_HIT_RATE: _Reading(_Source.USER, "cache_hit_rate", spread=True),
}

_GUARD_CORE_READINGS: Mapping[str, _Reading] = {
    semconv.GUARD_CORE_REQUEST_DURATION: _Reading(_Source.GUARD_CORE, "response_time", spread=True),
    semconv.GUARD_CORE_REQUEST_COUNT: _Reading(_Source.GUARD_CORE, "request_count"),
    semconv.GUARD_CORE_ERROR_COUNT: _Reading(_Source.GUARD_CORE, "error_rate"),
}

_HTTP_READINGS: Mapping[str, _Reading] = {
    semconv.HTTP_SERVER_REQUEST_DURATION: _Reading(_Source.HTTP, "response_time", spread=True, requests=True),
    semconv.HTTP_SERVER_REQUEST_BODY_SIZE: _Reading(_Source.HTTP, "bandwidth_usage", direction="request"),
    semconv.HTTP_SERVER_RESPONSE_BODY_SIZE: _Reading(_Source.HTTP, "bandwidth_usage", direction="response"),
    # The old convention measures in milliseconds.
    semconv.OLD_HTTP_SERVER_DURATION: _Reading(
        _Source.OLD_HTTP, "response_time", spread=True, requests=True, divisor=1000.0
    ),
    semconv.OLD_HTTP_SERVER_REQUEST_SIZE: _Reading(_Source.OLD_HTTP, "bandwidth_usage", direction="request"),
    semconv.OLD_HTTP_SERVER_RESPONSE_SIZE: _Reading(_Source.OLD_HTTP, "bandwidth_usage", direction="response"),
}


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a collection became: rows with the keys of a SecurityMetric, and how many points were refused by reason.

    Points that were merged before their sum proved invalid count as one.
    """

    rows: list[dict[str, JSON]]
    dropped: Mapping[str, int]


class MetricMapper:
    """Maps collections of one process to rows; it remembers which source of request metrics it has seen.

    A metric reader collects under its own lock, so calls don't overlap; the mapper has no lock.
    """

    def __init__(self, max_rows: int = MAX_ROWS, http: Callable[[], MetricsData | None] = lambda: None) -> None:
        """Build a mapper.

        Args:
            max_rows: rows of a collection at most, besides the overflow rows.
            http: returns what `http_metrics` was told since the last call.
        """
        self._max_rows = max_rows
        self._http = http
        self._heard: frozenset[str] = frozenset()
        self._request_source = _Source.USER

    def rows(self, metrics_data: MetricsData) -> Mapped:
        """Return one row per series that has values in `metrics_data`; it never raises for odd values."""
        found = self._once(list(_readable(metrics_data)))
        # The better source is known before the first row is made, so that it holds for this collection too.
        seen = (metric.reading.source for metric in found if metric.metric.data.data_points)
        self._request_source = max([self._request_source, *seen])
        wanted = (_Source.USER, self._request_source)
        table = _Table()
        # A stable sort: what user code records comes first, and is the last to be folded into an overflow row.
        for metric in sorted(found, key=lambda metric: metric.reading.source):
            if metric.reading.source in wanted:
                table.read(metric)
        rows = []
        for key, cell in _bounded(table.cells, self._max_rows).items():
            row = _row(key, cell)
            if row is None:
                table.dropped[INVALID_VALUE] += 1
            else:
                rows.append(row)
        return Mapped(rows, dict(table.dropped))

    def _once(self, found: list[_Measured]) -> list[_Measured]:
        """Put what was told of each request once in the place of what each application's middleware has measured.

        That is read only where such measurements come this way at all: they may be another pipeline's, or unwanted.
        """
        if not self._heard and all(metric.scope not in _HEARD_SCOPES for metric in found):
            return found
        told = self._http()
        if told is not None:
            heard = list(_readable(told))
            self._heard |= {metric.metric.name for metric in heard}
            found = [*found, *heard]
        return [
            metric for metric in found if metric.scope not in _HEARD_SCOPES or metric.metric.name not in self._heard
        ]


_HistogramPoint = HistogramDataPoint | ExponentialHistogramDataPoint


class _Measured(NamedTuple):
    """A metric that we can read."""

    reading: _Reading
    scope: str
    metric: Metric


def _readable(metrics_data: MetricsData) -> Iterator[_Measured]:
    for resource_metrics in metrics_data.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope.name
            readings = _readings(scope)
            for metric in scope_metrics.metrics:
                reading = readings.get(metric.name)
                if reading is not None:
                    yield _Measured(reading, scope, metric)


def _readings(scope: str) -> Mapping[str, _Reading]:
    if scope == semconv.SCOPE_NAME:
        return _USER_READINGS
    if scope == semconv.GUARD_CORE_SCOPE:
        return _GUARD_CORE_READINGS
    return _HTTP_READINGS


class _Labels(NamedTuple):
    """What tells the rows of one metric type apart; `tags` are sorted."""

    endpoint: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


_OVERFLOW = _Labels(None, ((semconv.METRIC_OVERFLOW, "true"),))
"""The labels of the SDK's overflow series (beyond its cardinality limit) and of ours."""


class _Key(NamedTuple):
    """One row. Distributions of different bucket layouts can't be merged, so each makes its own row."""

    metric_type: MetricType
    labels: _Labels
    direction: str | None = None
    layout: Hashable = None


@dataclass(slots=True)
class _Cell:
    """A row in the making: a total or a distribution, and the end of the interval in Unix nanoseconds."""

    time: int
    amount: float | Distribution

    def merge(self, other: _Cell) -> None:
        self.time = max(self.time, other.time)
        if isinstance(self.amount, Distribution) and isinstance(other.amount, Distribution):
            self.amount.merge(other.amount)
        elif isinstance(self.amount, float) and isinstance(other.amount, float):
            self.amount += other.amount
        else:
            raise TypeError("a total and a distribution can't be merged: their keys differ in layout")


def _put(cells: dict[_Key, _Cell], key: _Key, cell: _Cell) -> None:
    present = cells.get(key)
    if present is None:
        cells[key] = cell
    else:
        present.merge(cell)


@dataclass(slots=True)
class _Table:
    """The rows of one collection in the making, and what was refused."""

    cells: dict[_Key, _Cell] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def read(self, measured: _Measured) -> None:
        """Add the points of one metric."""
        data = measured.metric.data
        if isinstance(data, Gauge):
            self.dropped[UNSUPPORTED_AGGREGATION] += len(data.data_points)
        elif data.aggregation_temporality is not AggregationTemporality.DELTA:
            self.dropped[CUMULATIVE_TEMPORALITY] += len(data.data_points)
        else:
            for point in data.data_points:
                if isinstance(point, NumberDataPoint):
                    self._read_number(measured, point)
                elif point.count:
                    self._read_histogram(measured, point)

    def _read_number(self, measured: _Measured, point: NumberDataPoint) -> None:
        if measured.reading.spread:
            self.dropped[UNSUPPORTED_AGGREGATION] += 1
        else:
            self._add_total(measured, point, point.value)

    def _read_histogram(self, measured: _Measured, point: _HistogramPoint) -> None:
        reading = measured.reading
        if not reading.spread:
            self._add_total(measured, point, point.sum)
            return
        if _finite(point.sum) is None:
            self.dropped[INVALID_VALUE] += 1
            return
        attributes = point.attributes or {}
        labels = _labels(measured, attributes)
        spread = distribution(point, reading.divisor)
        requests = float(point.count)
        _put(self.cells, _Key(reading.metric_type, labels, None, spread.layout), _Cell(point.time_unix_nano, spread))
        if reading.requests:
            _put(self.cells, _Key("request_count", labels), _Cell(point.time_unix_nano, requests))
            # The overflow series has neither attribute: how many of its requests failed is not known.
            if _failed(reading.source, attributes):
                _put(self.cells, _Key("error_rate", labels), _Cell(point.time_unix_nano, requests))

    def _add_total(self, measured: _Measured, point: NumberDataPoint | _HistogramPoint, value: float) -> None:
        total = _finite(value)
        if total is None:
            self.dropped[INVALID_VALUE] += 1
            return
        reading = measured.reading
        key = _Key(reading.metric_type, _labels(measured, point.attributes or {}), reading.direction)
        _put(self.cells, key, _Cell(point.time_unix_nano, total))


def _bounded(cells: Mapping[_Key, _Cell], max_rows: int) -> dict[_Key, _Cell]:
    """Return at most `max_rows` of the rows and fold the others into overflow rows, so that totals stay.

    The rows of one endpoint and its tags stay or go together: an error rate without its request count misleads.
    """
    sizes = Counter(key.labels for key in cells)
    del sizes[_OVERFLOW]
    kept, room = {_OVERFLOW}, max_rows
    for labels, size in sizes.items():
        if size <= room:
            kept.add(labels)
            room -= size
    bounded: dict[_Key, _Cell] = {}
    for key, cell in cells.items():
        _put(bounded, key if key.labels in kept else key._replace(labels=_OVERFLOW), cell)
    return bounded


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        # An integer beyond the range of floats.
        return None
    return number if math.isfinite(number) else None


def _labels(measured: _Measured, attributes: Mapping[str, AttributeValue]) -> _Labels:
    if attributes.get(semconv.METRIC_OVERFLOW) is True:
        return _OVERFLOW
    source = measured.reading.source
    if source is _Source.USER:
        return _user_labels(attributes, measured.reading.spread)
    return _request_labels(source, measured.scope, attributes)


def _user_labels(attributes: Mapping[str, AttributeValue], spread: bool) -> _Labels:
    route = attributes.get(semconv.HTTP_ROUTE)
    clean = privacy.current()
    given: dict[str, JSON] = {
        safe_text(name[len(semconv.GUARD_TAG_PREFIX) :]): describe(value)
        for name, value in attributes.items()
        if name.startswith(semconv.GUARD_TAG_PREFIX)
    }
    tags = {name: str(value) for name, value in clean.tags(given).items()}
    if spread:
        for name in sorted(_STATISTICS & tags.keys()):
            free = f"tag.{name}"
            while free in tags:
                free = f"tag.{free}"
            tags[free] = tags.pop(name)
    return _Labels(None if route is None else clean.path(describe(route)), tuple(sorted(tags.items())))


def _request_labels(source: _Source, scope: str, attributes: Mapping[str, AttributeValue]) -> _Labels:
    route: AttributeValue | None = None
    if source is _Source.HTTP:
        route = attributes.get(semconv.HTTP_ROUTE)
        method = attributes.get(semconv.HTTP_REQUEST_METHOD)
    elif source is _Source.OLD_HTTP:
        if scope in _TEMPLATE_TARGET_SCOPES:
            route = attributes.get(semconv.OLD_HTTP_TARGET)
        method = attributes.get(semconv.OLD_HTTP_METHOD)
    else:
        # guard-core's endpoint is the raw path: it is unbounded, chosen by the client, and may hold personal data.
        method = attributes.get(semconv.GUARD_CORE_METHOD)
    tags = []
    if method:
        tags.append(("method", describe(method)[:MAX_METHOD_LENGTH]))
    status = _status(source, attributes)
    if status is not None:
        tags.append(("status_code", str(status)))
    # Where an application routes by host, the route is the path that the client chose.
    endpoint = privacy.current().path(describe(route))[:MAX_ROUTE_LENGTH] if route else None
    return _Labels(endpoint, tuple(tags))


_STATUS_ATTRIBUTES = {
    _Source.HTTP: semconv.HTTP_RESPONSE_STATUS_CODE,
    _Source.OLD_HTTP: semconv.OLD_HTTP_STATUS_CODE,
    _Source.GUARD_CORE: semconv.GUARD_CORE_STATUS,
}


def _status(source: _Source, attributes: Mapping[str, AttributeValue]) -> int | None:
    status = attributes.get(_STATUS_ATTRIBUTES[source])
    if isinstance(status, int):
        return int(status)
    # guard-core's tags are text.
    is_code = isinstance(status, str) and status.isascii() and status.isdigit() and len(status) == 3
    return int(str(status)) if is_code else None


def _failed(source: _Source, attributes: Mapping[str, AttributeValue]) -> bool:
    """Tell whether a request failed: its status is 400 or above, or it has none but an `error.type`."""
    status = _status(source, attributes)
    return semconv.ERROR_TYPE in attributes if status is None else status >= 400


def _row(key: _Key, cell: _Cell) -> dict[str, JSON] | None:
    """Return the row, or None when its value is not finite (merged sums can pass the range of floats)."""
    tags: dict[str, JSON] = dict(key.labels.tags)
    if key.direction is not None:
        tags["direction"] = key.direction
    amount = cell.amount
    if isinstance(amount, Distribution):
        value = amount.mean
        tags.update(_statistics(amount))
    else:
        value = amount
    if not math.isfinite(value):
        return None
    return {
        "timestamp": format_nanoseconds(cell.time),
        "metric_type": key.metric_type,
        "value": value,
        "endpoint": key.labels.endpoint,
        "tags": tags,
    }


def _statistics(spread: Distribution) -> dict[str, str]:
    """Return the tags of a distribution; a figure that the SDK was told not to keep has none."""
    figures = {"sum": spread.sum, "min": spread.min, "max": spread.max}
    figures.update((name, spread.quantile(q)) for name, q in _QUANTILES.items())
    return {
        "count": str(spread.count),
        **{name: repr(figure) for name, figure in figures.items() if figure is not None},
    }
