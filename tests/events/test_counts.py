"""Counts that a collection reads: exact under threads and forks, one table for a provider, bounded."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from opentelemetry_guard.events.counts import MAX_SERIES, Counts, counts


def observed(table: Counts) -> dict[Any, int | float]:
    return {tuple((found.attributes or {}).items()): found.value for found in table.observe(CallbackOptions())}


def as_they_are(attributes: Any) -> Any:
    return attributes


def test_threads_lose_no_count() -> None:
    table = Counts(as_they_are)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(lambda: [table.add((("route", "/a"),)) for _ in range(5_000)])
    assert observed(table) == {(("route", "/a"),): 20_000}


def test_series_beyond_the_bound_are_one() -> None:
    table = Counts(as_they_are)
    for number in range(MAX_SERIES + 7):
        table.add((("route", f"/{number}"),))
    assert observed(table)[(("otel.metric.overflow", True),)] == 7


def test_what_is_the_same_without_its_secret_is_one_series() -> None:
    table = Counts(lambda attributes: (("route", "masked"),))
    table.add((("route", "/a"),))
    table.add((("route", "/b"),))
    assert observed(table) == {(("route", "masked"),): 2}


def test_a_provider_has_one_table_of_a_name_whoever_asks() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for _ in range(2):
        counts(provider, "requests", "{request}", "", as_they_are).add((("route", "/a"),))
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert [point.value for point in metric.data.data_points] == [2]  # type: ignore[union-attr]
    provider.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_counts_although_its_parent_was_counting_when_it_forked() -> None:
    provider = MeterProvider(shutdown_on_exit=False)
    table = counts(provider, "requests", "{request}", "", as_they_are)
    with table._lock:
        pass
    with ThreadPoolExecutor(1) as pool:
        pool.submit(table._lock.acquire).result()  # held by another thread, which the child lacks
        child = os.fork()
        if child == 0:
            table.add((("route", "/a"),))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        pool.submit(table._lock.release).result()


def points(reader: InMemoryMetricReader) -> list[int | float]:
    """Collect, and return the values of the one counter."""
    data = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
    return [point.value for metric in metrics for point in metric.data.data_points]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("temporality", "expected"),
    [(AggregationTemporality.DELTA, [[3], [2]]), (AggregationTemporality.CUMULATIVE, [[3], [5]])],
    ids=["delta", "cumulative"],
)
def test_a_reader_gets_what_was_counted_in_its_temporality(
    temporality: AggregationTemporality, expected: list[list[int]]
) -> None:
    reader = InMemoryMetricReader({ObservableCounter: temporality})
    provider = MeterProvider([reader], shutdown_on_exit=False)
    table = counts(provider, "requests", "{request}", "", as_they_are)
    told = []
    for number in (3, 2):
        for _ in range(number):
            table.add((("route", "/a"),))
        told.append(points(reader))
    assert told == expected
    provider.shutdown()


def test_what_was_counted_last_is_told_at_the_shutdown() -> None:
    exporter = InMemoryMetricExporter()
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 3_600_000)], shutdown_on_exit=False)
    counts(provider, "requests", "{request}", "", as_they_are).add((("route", "/a"),))
    provider.shutdown()
    assert exporter.values == [1]


class InMemoryMetricExporter(MetricExporter):
    """Keeps the values that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[int | float] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self.values += [point.value for point in metric.data.data_points]  # type: ignore[union-attr]
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_tells_what_it_counts_and_its_parent_the_rest() -> None:
    reader = InMemoryMetricReader({ObservableCounter: AggregationTemporality.DELTA})
    provider = MeterProvider([reader], shutdown_on_exit=False)
    table = counts(provider, "requests", "{request}", "", as_they_are)
    table.add((("route", "/a"),))
    assert points(reader) == [1]
    for _ in range(2):
        table.add((("route", "/a"),))
    child = os.fork()
    if child == 0:
        table.add((("route", "/a"),))
        os._exit(int(points(reader)[0]) + 10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    assert points(reader) == [2]
    provider.shutdown()
