"""What an application's instrumentation emitted, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import Sampler
from support.rows import row_of

from .pipeline import Pipeline, pipeline


@dataclass(frozen=True)
class Recording:
    """A pipeline and what went into it."""

    pipeline: Pipeline
    _logs: InMemoryLogRecordExporter
    _metrics: InMemoryMetricReader

    def events(self) -> list[dict[str, Any]]:
        """Return the rows of the events, oldest first."""
        return [row_of(record.log_record) for record in self._logs.get_finished_logs()]

    def types(self) -> list[str]:
        """Return the types of the events, oldest first."""
        return [event["event_type"] for event in self.events()]

    def trace_ids(self) -> list[int | None]:
        """Return the trace of each event, oldest first."""
        return [record.log_record.trace_id for record in self._logs.get_finished_logs()]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any, int]]:
        """Return the attributes, the sum and the count of each point of an instrument since the last call."""
        data = self._metrics.get_metrics_data()
        return [
            (
                dict(point.attributes or {}),
                getattr(point, "sum", getattr(point, "value", None)),
                getattr(point, "count", 1),
            )
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def block_rates(self) -> dict[str | None, tuple[int, int]]:
        """Return how many requests were blocked and how many there were, by route."""
        rates: dict[str | None, tuple[int, int]] = {}
        for attributes, count, _ in self.points("guard.requests"):
            blocked, whole = rates.get(attributes.get("http.route"), (0, 0))
            rates[attributes.get("http.route")] = (blocked + count * attributes["guard.blocked"], whole + count)
        return rates


@contextmanager
def recording(sampler: Sampler | None = None) -> Iterator[Recording]:
    """Record in memory what is emitted within the block."""
    logs, metrics = InMemoryLogRecordExporter(), InMemoryMetricReader()
    with pipeline(logs=[logs], readers=[metrics], sampler=sampler) as built:
        yield Recording(built, logs, metrics)
