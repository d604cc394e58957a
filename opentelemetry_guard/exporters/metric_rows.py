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
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from opentelemetry.sdk import metrics
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation

from ..events.codec import format_nanoseconds
from ..events.http_metrics import HttpMetrics
from ..events.jsonsafe import JSON
from ..models import MetricType
from .distribution import Distribution, distribution, repeated
from .measured import HEARD_SCOPES, OVERFLOW, Labels, Measured, Source, failed, labels_of, readable

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

    def __init__(self, max_rows: int = MAX_ROWS, http: HttpMetrics | None = None) -> None:
        """Build a mapper.

        Args:
            max_rows: rows of a collection at most, besides the overflow rows.
            http: has what `http_metrics` is told.
        """
        self._max_rows = max_rows
        self._http = http or HttpMetrics()
        self._request_source = Source.USER

    def rows(self, metrics_data: MetricsData) -> Mapped:
        """Return one row per series that has values in `metrics_data`; it never raises for odd values."""
        found = self._once(list(readable(metrics_data)))
        # The better source is known before the first row is made, so that it holds for this collection too.
        seen = (metric.reading.source for metric in found if metric.metric.data.data_points)
        self._request_source = max([self._request_source, *seen])
        wanted = (Source.USER, self._request_source)
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

    def _once(self, found: list[Measured]) -> list[Measured]:
        """Put what was told of each request once in the place of what each application's middleware has measured.

        That is read only where such measurements come this way at all: they may be another pipeline's, or unwanted.
        """
        if not self._http.replaced and all(metric.scope not in HEARD_SCOPES for metric in found):
            return found
        told = self._http.read()
        if told is not None:
            heard = list(readable(told))
            self._http.replace({metric.metric.name for metric in heard})
            found = [*found, *heard]
        return [
            metric
            for metric in found
            if metric.scope not in HEARD_SCOPES or metric.metric.name not in self._http.replaced
        ]


_HistogramPoint = HistogramDataPoint | ExponentialHistogramDataPoint


class _Key(NamedTuple):
    """One row. Distributions of different bucket layouts can't be merged, so each makes its own row."""

    metric_type: MetricType
    labels: Labels
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

    def read(self, measured: Measured) -> None:
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

    def _read_number(self, measured: Measured, point: NumberDataPoint) -> None:
        share = measured.reading.share
        if share is not None:
            self._add_share(measured, point, is_part=bool((point.attributes or {}).get(share)))
        elif measured.reading.spread:
            self.dropped[UNSUPPORTED_AGGREGATION] += 1
        else:
            self._add_total(measured, point, point.value)

    def _read_histogram(self, measured: Measured, point: _HistogramPoint) -> None:
        reading = measured.reading
        if not reading.spread:
            self._add_total(measured, point, point.sum)
            return
        if _finite(point.sum) is None:
            self.dropped[INVALID_VALUE] += 1
            return
        attributes = point.attributes or {}
        labels = labels_of(measured, attributes)
        spread = distribution(point, reading.divisor)
        requests = float(point.count)
        _put(self.cells, _Key(reading.metric_type, labels, None, spread.layout), _Cell(point.time_unix_nano, spread))
        if reading.requests:
            _put(self.cells, _Key("request_count", labels), _Cell(point.time_unix_nano, requests))
            # The overflow series has neither attribute: how many of its requests failed is not known.
            if failed(reading.source, attributes):
                _put(self.cells, _Key("error_rate", labels), _Cell(point.time_unix_nano, requests))

    def _add_share(self, measured: Measured, point: NumberDataPoint, *, is_part: bool) -> None:
        """Add as many ones to a share as a counter counts, or zeros where they are no part of it."""
        if point.value <= 0:
            return
        spread = repeated(float(is_part), int(point.value))
        labels = labels_of(measured, point.attributes or {})
        _put(
            self.cells,
            _Key(measured.reading.metric_type, labels, None, spread.layout),
            _Cell(point.time_unix_nano, spread),
        )

    def _add_total(self, measured: Measured, point: NumberDataPoint | _HistogramPoint, value: float) -> None:
        total = _finite(value)
        if total is None:
            self.dropped[INVALID_VALUE] += 1
            return
        reading = measured.reading
        key = _Key(reading.metric_type, labels_of(measured, point.attributes or {}), reading.direction)
        _put(self.cells, key, _Cell(point.time_unix_nano, total))


def _bounded(cells: Mapping[_Key, _Cell], max_rows: int) -> dict[_Key, _Cell]:
    """Return at most `max_rows` of the rows and fold the others into overflow rows, so that totals stay.

    The rows of one endpoint and its tags stay or go together: an error rate without its request count misleads.
    """
    sizes = Counter(key.labels for key in cells)
    del sizes[OVERFLOW]
    kept, room = {OVERFLOW}, max_rows
    for labels, size in sizes.items():
        if size <= room:
            kept.add(labels)
            room -= size
    bounded: dict[_Key, _Cell] = {}
    for key, cell in cells.items():
        _put(bounded, key if key.labels in kept else key._replace(labels=OVERFLOW), cell)
    return bounded


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        # An integer beyond the range of floats.
        return None
    return number if math.isfinite(number) else None


def _row(key: _Key, cell: _Cell) -> dict[str, JSON] | None:
    """Return the row, or None when its value is not finite (merged sums can pass the range of floats)."""
    tags: dict[str, JSON] = dict(key.labels.tags)
    if key.direction is not None:
        tags["direction"] = key.direction
    amount = cell.amount
    if isinstance(amount, Distribution):
        value = amount.mean
        tags.update(amount.statistics())
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
