"""The exporter of metrics."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from functools import cache
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation

from ..events.http_metrics import HttpMetrics
from ..events.origin import origin_of
from ..events.tally import TALLY
from ..queue.base import DeliveryQueue
from .connection import Connection, GuardExporter
from .metric_rows import PREFERRED_AGGREGATION, PREFERRED_TEMPORALITY, MetricMapper

_logger = logging.getLogger(__name__)


class GuardMetricExporter(GuardExporter, MetricExporter):
    """Delivers security metrics and HTTP server metrics to a Guard backend.

    The SDK aggregates; what is sent is one row per series and interval.
    Deltas and exponential histograms are asked for, so that intervals add up
    and quantiles are right.

    .. versionadded:: 1.0
    """

    def __init__(
        self,
        *,
        queue: DeliveryQueue | None = None,
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Aggregation] | None = None,
        **settings: object,
    ) -> None:
        """Make an exporter; the sender's thread starts, nothing else is opened before the first metric.

        Args:
            queue: a store of your own instead of the one that `queue_url` names.
            preferred_temporality: replaces single entries of our preference; cumulative points are refused and counted.
            preferred_aggregation: replaces single entries of our preference.
            **settings: the attributes of `opentelemetry_guard.settings.delivery.GuardConfig`; what is not
                given comes from the environment (``OTEL_EXPORTER_GUARD_*``).

        Raises:
            ValueError: a setting has a value that it can't have.
            TypeError: there is no such setting.
        """
        preferred_temporality = {**PREFERRED_TEMPORALITY, **(preferred_temporality or {})}
        preferred_aggregation = {**PREFERRED_AGGREGATION, **(preferred_aggregation or {})}
        super().__init__(preferred_temporality=preferred_temporality, preferred_aggregation=preferred_aggregation)
        self.http = HttpMetrics()
        self._mapper = MetricMapper(http=self.http)
        self._connection = Connection("metrics", queue, settings)
        _exporters.add(self)
        _register_fork_hook()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Write the security and request metrics of `metrics_data` ahead to the queue, and return."""
        mapped = self._mapper.rows(metrics_data)
        if metrics_data.resource_metrics:
            # A reader's provider has one Resource.
            resource = metrics_data.resource_metrics[0].resource
            self._connection.belong_to(resource)
            origin_of(resource).put_into_tags(mapped.rows)
        for reason, points in mapped.dropped.items():
            TALLY.drop("metrics", reason, points)
        if not mapped.rows or self._connection.submit("metrics", mapped.rows):
            return MetricExportResult.SUCCESS
        return MetricExportResult.FAILURE


_exporters: weakref.WeakSet[GuardMetricExporter] = weakref.WeakSet()


_held: list[Any] = []  # the SDK's locks that are held over a fork

COLLECTING_SECONDS = 2.0
"""Seconds that a fork waits for a collection by another thread, which writes ahead to the queue at most."""


def _collect_before_fork() -> None:
    """Collect what was recorded before a fork, since parent and child would both export it otherwise.

    Collecting writes ahead to the queue and waits for no network. The SDK has
    no public way from an exporter to the reader that it belongs to.

    No collection begins then until the fork is over: the child would inherit
    the lock of one by another thread, and nobody there could ever record with
    a further instrument or collect (in 1.45 the SDK does not make it anew).
    """
    readers = [
        reader
        for reader in list(getattr(MeterProvider, "_all_metric_readers", ()))
        if getattr(reader, "_exporter", None) in _exporters
    ]
    for reader in readers:
        try:
            reader.collect()
        except Exception:
            _logger.exception("metrics could not be collected before a fork: the child may count them again")
    locks = {id(lock): lock for reader in readers if (lock := _lock_of(reader)) is not None}
    _held.extend(lock for lock in locks.values() if lock.acquire(timeout=COLLECTING_SECONDS))


def _lock_of(reader: object) -> Any:
    """Return the lock that a reader's collections hold, None where the SDK has another one."""
    lock = getattr(getattr(getattr(reader, "_collect", None), "__self__", None), "_lock", None)
    return lock if isinstance(lock, type(threading.Lock())) else None


def _after_fork() -> None:
    while _held:
        _held.pop().release()


@cache
def _register_fork_hook() -> None:
    """Register the hook once, after the store's: hooks run last one first, and the store's closes the store."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_collect_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
