"""What is told of requests: counts and sums are exact, quantiles as narrow as their buckets, and memory has a bound."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import AggregationTemporality, ExponentialHistogramDataPoint

from opentelemetry_guard.events import http_metrics
from opentelemetry_guard.events.http_metrics import AT_ONCE, MAX_BUCKETS, MAX_MET, MAX_SERIES, HttpMetrics, Telling
from opentelemetry_guard.exporters.distribution import distribution

DURATION = "http.server.request.duration"


def telling(name: str, unit: str, amount: float, route: str = "/items/{n}") -> Telling:
    return lambda: [((("http.route",), (route,)), [(name, unit, amount)])]


def points(metrics: HttpMetrics) -> Iterator[ExponentialHistogramDataPoint]:
    data = metrics.read()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                assert metric.data.aggregation_temporality is AggregationTemporality.DELTA
                yield from metric.data.data_points


@given(st.lists(st.floats(0, 1e9) | st.sampled_from([0.0, 1.0, 2.0, 0.5, 1024.0]), min_size=1, max_size=300))
def test_what_is_told_is_what_was_measured(values: list[float]) -> None:
    metrics = HttpMetrics()
    for value in values:
        metrics.record(telling(DURATION, "s", value))
    [point] = points(metrics)
    told = distribution(point)
    assert (told.count, told.min, told.max) == (len(values), min(values), max(values))
    assert told.mean == pytest.approx(fmean(values))
    assert sum(point.positive.bucket_counts) + point.zero_count == len(values)
    base = 2 ** (2**-point.scale)
    for q in (0.5, 0.95, 0.99):
        true = sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
        estimate = told.quantile(q)
        assert estimate is not None
        assert true / base * (1 - 1e-9) <= estimate <= true * base * (1 + 1e-9)


def test_values_far_apart_have_wider_buckets_and_no_more_of_them() -> None:
    metrics = HttpMetrics()
    for number in range(20_000):
        metrics.record(telling(DURATION, "s", 1.001**number))
    [point] = points(metrics)
    assert point.count == 20_000
    assert sum(1 for count in point.positive.bucket_counts if count) <= MAX_BUCKETS


def test_what_was_read_is_not_told_again() -> None:
    metrics = HttpMetrics()
    metrics.record(telling(DURATION, "s", 1.0))
    assert len(list(points(metrics))) == 1
    assert metrics.read() is None


def test_what_is_no_duration_is_left_out() -> None:
    metrics = HttpMetrics()
    for value in (math.nan, math.inf, -1.0, 10**400, 1.0):
        metrics.record(telling(DURATION, "s", value))
    assert [(point.count, point.sum) for point in points(metrics)] == [(1, 1.0)]


def test_values_that_are_met_again_count_as_often_and_sum_up_beyond_what_a_float_holds() -> None:
    metrics = HttpMetrics()
    for value in (3, 3.0, 0, 3, 0.0, 2**1000, *range(MAX_MET)):
        metrics.record(telling(DURATION, "s", value))
    for _ in range(20):
        metrics.record(telling("size", "By", 17 * 10**307))
    duration, size = points(metrics)
    assert (duration.count, duration.zero_count, duration.max) == (6 + MAX_MET, 3, 2.0**1000)
    assert sum(duration.positive.bucket_counts) == 3 + MAX_MET
    assert (size.count, size.sum, sum(size.positive.bucket_counts)) == (20, math.inf, 20)


def test_series_beyond_the_bound_are_one() -> None:
    metrics = HttpMetrics()
    for number in range(MAX_SERIES + 50):
        metrics.record(telling(DURATION, "s", 1.0, f"/{number}"))
    found = list(points(metrics))
    assert len(found) == MAX_SERIES + 1
    assert [point.count for point in found if point.attributes == {"otel.metric.overflow": True}] == [50]


def test_every_listener_hears_each_measurement() -> None:
    one, other = HttpMetrics(), HttpMetrics()
    http_metrics.record(telling(DURATION, "s", 1.0))
    assert [point.count for metrics in (one, other) for point in points(metrics)] == [1, 1]


def test_what_many_threads_tell_while_it_is_read_counts_once() -> None:
    metrics, requests = HttpMetrics(), 40 * AT_ONCE + 1

    def tell() -> None:
        for _ in range(requests):
            metrics.record(telling(DURATION, "s", 1.0))

    threads = [threading.Thread(target=tell) for _ in range(3)]
    for thread in threads:
        thread.start()
    counted = 0
    while any(thread.is_alive() for thread in threads):
        counted += sum(point.count for point in points(metrics))
    counted += sum(point.count for point in points(metrics))
    assert counted == 3 * requests


def test_what_is_told_waits_for_little_more_before_it_is_added_up() -> None:
    metrics, told = HttpMetrics(), telling(DURATION, "s", 1.0)
    kept = sys.getrefcount(told)
    for _ in range(10 * AT_ONCE):
        metrics.record(told)
    assert sys.getrefcount(told) - kept < AT_ONCE


def test_a_forked_child_has_nothing_of_what_its_parent_was_told() -> None:
    metrics = HttpMetrics()
    metrics.record(telling(DURATION, "s", 1.0))
    metrics._after_fork()
    assert metrics.read() is None
