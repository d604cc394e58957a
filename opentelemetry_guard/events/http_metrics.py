"""The measurements of an HTTP instrumentation as the Guard exporter ships them: a request once, under its whole route.

An application that is mounted in another one is instrumented like that one,
so a request to it is measured by both, and neither knows the whole route.
What they measure stays as it is in every other pipeline. The instrumentation
of this package tells it here once more, and the exporter reads it in the
place of theirs.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping

from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import AttributeValue

SCOPE = "opentelemetry_guard.http"
"""The name of the instrumentation scope of what is told here."""


class HttpMetrics:
    """What one exporter reads: told measurements, aggregated since the last reading.

    `_lock` guards the attributes and is held while instruments are made.
    """

    def __init__(
        self, temporality: Mapping[type, AggregationTemporality], aggregation: Mapping[type, Aggregation]
    ) -> None:
        """Listen from now on, for as long as somebody holds this object.

        Args:
            temporality: of the aggregation, as the exporter prefers it.
            aggregation: as the exporter prefers it.
        """
        self._temporality = dict(temporality)
        self._aggregation = dict(aggregation)
        self._reader: InMemoryMetricReader | None = None
        self._provider: MeterProvider | None = None
        self._instruments: dict[str, Histogram] = {}
        self._lock = threading.Lock()
        global _listening
        with _listening_lock:
            _listening = (*(known for known in _listening if known() is not None), weakref.ref(self))

    def record(self, name: str, unit: str, amount: float, attributes: Mapping[str, AttributeValue]) -> None:
        """Take one measurement of the instrument `name`."""
        instrument = self._instruments.get(name) or self._instrument(name, unit)
        instrument.record(amount, attributes)

    def _instrument(self, name: str, unit: str) -> Histogram:
        with self._lock:
            if self._provider is None:
                self._reader = InMemoryMetricReader(self._temporality, self._aggregation)
                self._provider = MeterProvider(
                    [self._reader],
                    resource=Resource.get_empty(),
                    exemplar_filter=AlwaysOffExemplarFilter(),  # no row has one, and they cost every request
                    shutdown_on_exit=False,
                )
            if name not in self._instruments:
                self._instruments[name] = self._provider.get_meter(SCOPE).create_histogram(name, unit)
            return self._instruments[name]

    def read(self) -> MetricsData | None:
        """Return what was told since the last call; None where there is nothing."""
        reader = self._reader
        return None if reader is None else reader.get_metrics_data()

    def _reset_lock(self) -> None:
        self._lock = threading.Lock()


_listening_lock = threading.Lock()
_listening: tuple[weakref.ref[HttpMetrics], ...] = ()  # replaced whole under the lock, so that readers need none


def is_heard() -> bool:
    """Whether an exporter has listened, so that telling is worth a request's time."""
    return bool(_listening)


def record(name: str, unit: str, amount: float, attributes: Mapping[str, AttributeValue]) -> None:
    """Tell every exporter of one measurement.

    Args:
        name: the instrument's name, as the HTTP instrumentation calls it.
        unit: the instrument's unit.
        amount: in that unit.
        attributes: those that a row is made of.
    """
    for listening in _listening:
        if (metrics := listening()) is not None:
            metrics.record(name, unit, amount, attributes)


def _after_fork_in_child() -> None:
    global _listening_lock
    _listening_lock = threading.Lock()
    for listening in _listening:
        if (metrics := listening()) is not None:
            metrics._reset_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
