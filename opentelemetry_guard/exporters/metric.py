"""The exporter of metrics."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation

from ..queue.base import DeliveryQueue
from ..tally import TALLY
from .connection import Connection
from .metric_rows import PREFERRED_AGGREGATION, PREFERRED_TEMPORALITY, MetricMapper


class GuardMetricExporter(MetricExporter):
    """Delivers security metrics and HTTP server metrics to a Guard backend.

    The SDK aggregates; what is sent is one row per series and interval.
    Deltas and exponential histograms are asked for, so that intervals add up
    and quantiles are right.
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
            **settings: the attributes of `opentelemetry_guard.config.GuardConfig`; what is not given comes from the
                environment (``OTEL_EXPORTER_GUARD_*``).

        Raises:
            ValueError: a setting has a value that it can't have.
            TypeError: there is no such setting.
        """
        super().__init__(
            preferred_temporality={**PREFERRED_TEMPORALITY, **(preferred_temporality or {})},
            preferred_aggregation={**PREFERRED_AGGREGATION, **(preferred_aggregation or {})},
        )
        self._mapper = MetricMapper()
        self._connection = Connection("metrics", queue, settings)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Write the security and request metrics of `metrics_data` ahead to the queue, and return."""
        mapped = self._mapper.rows(metrics_data)
        for reason, points in mapped.dropped.items():
            TALLY.drop("metrics", reason, points)
        if not mapped.rows or self._connection.submit("metrics", mapped.rows):
            return MetricExportResult.SUCCESS
        return MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what can be sent within `timeout_millis` milliseconds; return whether nothing is left to send."""
        return self._connection.flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Flush, and leave the rest in the queue for the next start.

        The SDK's readers name their time limit `timeout` (milliseconds too).
        """
        self._connection.shutdown(min(timeout_millis, kwargs.get("timeout", timeout_millis)))
