"""The durable exporter of metrics."""

from __future__ import annotations

import logging
import os
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION,
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
)
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation

from ..queue.base import DeliveryQueue
from ..settings.once import log_once
from .connection import DurableExporter

_logger = logging.getLogger(__name__)

_DELTA: dict[str, tuple[type, ...]] = {
    "cumulative": (),
    "delta": (Counter, Histogram, ObservableCounter),
    "lowmemory": (Counter, Histogram),
}
"""Instruments whose points are differences, by preference (OpenTelemetry specification, "OTLP Metrics Exporter")."""
_EXPONENTIAL = "base2_exponential_bucket_histogram"


class DurableMetricExporter(DurableExporter, MetricExporter):
    """Delivers metrics to an OTLP/HTTP receiver as `DurableSpanExporter` does spans.

    Of a cumulative series only the newest point is sent after an outage, unless `keep_all_points` says otherwise.

    .. versionadded:: 1.0
    """

    _kind = "points"

    def __init__(
        self,
        *,
        queue: DeliveryQueue | None = None,
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Aggregation] | None = None,
        **settings: object,
    ) -> None:
        """Make an exporter, with what `DurableSpanExporter` takes, and what all exporters of metrics take.

        Raises:
            ValueError: a setting has a value that it can't have.
            TypeError: there is no such setting.
        """
        MetricExporter.__init__(
            self,
            preferred_temporality={**_temporality(), **(preferred_temporality or {})},
            preferred_aggregation={**_aggregation(), **(preferred_aggregation or {})},
        )
        self._connect(queue, settings)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Write the points ahead to the queue, and return."""
        points = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        done = not points or self._submit(points, lambda: encode_metrics(metrics_data))
        return MetricExportResult.SUCCESS if done else MetricExportResult.FAILURE


def _temporality() -> dict[type, AggregationTemporality]:
    word = os.environ.get(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, "").strip().lower() or "cumulative"
    if word not in _DELTA:
        name = OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
        log_once(_logger, logging.WARNING, f"{name} is none of {', '.join(_DELTA)}: cumulative is used")
    return dict.fromkeys(_DELTA.get(word, ()), AggregationTemporality.DELTA)


def _aggregation() -> dict[type, Aggregation]:
    word = os.environ.get(OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION, "").strip().lower()
    return {Histogram: ExponentialBucketHistogramAggregation()} if word == _EXPONENTIAL else {}
