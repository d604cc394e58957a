"""The measurements of an HTTP instrumentation as the Guard exporter ships them: a request once, under its whole route.

An application that is mounted in another one is instrumented like that one,
so a request to it is measured by both, and neither knows the whole route.
What they measure stays as it is in every other pipeline. The instrumentation
of this package tells it here once more, and the exporter reads it in the
place of theirs.

Every request pays for this, so it is added up here and not on an instrument
of the SDK, which costs ten times as much; and those of many requests at once,
which costs half of what it does in between other work.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.util.types import AttributeValue

from ..semconv import METRIC_OVERFLOW

SCOPE = "opentelemetry_guard.http"
"""The name of the instrumentation scope of what is told here."""
MAX_SERIES = 2_000
"""Series of an instrument that one exporter's interval may have, as many as the SDK's; what is beyond is one more."""
FINEST_SCALE = 6
"""Scale of a distribution's buckets to begin with: each is 1.1 % wide."""
AT_ONCE = 100
"""Requests that are added up at once: tens of microseconds for one of them, and few enough to wait in memory."""
MAX_MET = 32
"""Different values of a series that are only counted before they are sorted into buckets."""
MAX_BUCKETS = 160
"""Buckets of a distribution; with more values that lie far apart they get wider."""

Attributes: TypeAlias = "tuple[tuple[str, ...], tuple[AttributeValue | None, ...]]"
"""Names of attributes, and as many values; None is one that a measurement doesn't have."""
Measurement: TypeAlias = "tuple[str, str, float]"
"""The instrument's name and unit, and the amount in it."""
Told: TypeAlias = "tuple[Attributes, Iterable[Measurement]]"
"""Measurements, and the attributes that rows are made of."""
Telling: TypeAlias = "Callable[[], Iterable[Told]]"
"""Returns what is told of a request, and raises nothing.

It is called when many requests are added up: between two of them a processor has forgotten this code, so that whatever
can wait until then costs less.
"""

_LARGEST = sys.float_info.max
"""An integer can be larger, and be added to no float then."""

_OVERFLOW: Attributes = ((METRIC_OVERFLOW,), (True,))


class _Spread:
    """The values of one series: count, sum, extremes, and the exponential buckets of OpenTelemetry's data model."""

    __slots__ = ("buckets", "count", "largest", "met", "scale", "smallest", "total", "width", "zeros")

    def __init__(self) -> None:
        # Many requests take as many milliseconds as others, and answer as many bytes: how often is all that is counted
        # at first.
        self.met: dict[float, int] = {}
        self.count = 0
        self.total = 0.0
        self.smallest = math.inf
        self.largest = -math.inf
        self.zeros = 0
        self.scale = FINEST_SCALE
        self.width = 2**FINEST_SCALE
        self.buckets: defaultdict[int, int] = defaultdict(int)

    def sort(self) -> None:
        """Sort the values that were met into buckets; what is no duration and no size is left out."""
        for value, times in self.met.items():
            if not 0.0 <= value <= _LARGEST:
                continue
            self.count += times
            self.total += float(value) * times
            self.smallest = min(self.smallest, value)
            self.largest = max(self.largest, value)
            if value == 0.0:
                self.zeros += times
                continue
            self.buckets[math.ceil(math.log2(value) * self.width) - 1] += times
            if len(self.buckets) > MAX_BUCKETS:
                self._widen()
        self.met.clear()

    def _widen(self) -> None:
        wider: defaultdict[int, int] = defaultdict(int)
        for index, count in self.buckets.items():
            wider[index >> 1] += count
        self.buckets, self.scale, self.width = wider, self.scale - 1, self.width / 2

    def point(self, attributes: Attributes, since: int, until: int) -> ExponentialHistogramDataPoint:
        """Return it as a data point of the interval between two Unix times in nanoseconds."""
        self.sort()
        offset = min(self.buckets, default=0)
        counts = [self.buckets.get(index, 0) for index in range(offset, max(self.buckets, default=-1) + 1)]
        return ExponentialHistogramDataPoint(
            attributes={name: value for name, value in zip(*attributes, strict=True) if value is not None},
            start_time_unix_nano=since,
            time_unix_nano=until,
            count=self.count,
            sum=self.total,
            scale=self.scale,
            zero_count=self.zeros,
            positive=Buckets(offset, counts),
            negative=Buckets(0, ()),
            flags=0,
            min=self.smallest,
            max=self.largest,
        )


_Series: TypeAlias = "dict[Attributes, dict[str, _Spread]]"
"""Attributes come first: they are compared once for all instruments, which costs more than comparing names."""


class HttpMetrics:
    """What one exporter reads: told measurements, added up since the last reading.

    `replaced` are the names of the instruments in whose place the exporter has read; it stays with that. `_lock`
    guards the attributes and is held for additions; `_waiting` are measurements that are not added up yet, to which
    any thread appends.
    """

    def __init__(self) -> None:
        """Listen from now on, for as long as somebody holds this object."""
        self.replaced: frozenset[str] = frozenset()
        self._units: dict[str, str] = {}
        self._waiting: deque[Telling] = deque()
        self._series: _Series = {}
        self._since = time.time_ns()
        self._lock = threading.Lock()
        global _listening
        with _listening_lock:
            _listening = (*(known for known in _listening if known() is not None), weakref.ref(self))

    def replace(self, names: Iterable[str]) -> None:
        """Note that what is told here was read in the place of what these instruments have recorded."""
        global replacements
        if not self.replaced.issuperset(names):
            self.replaced |= frozenset(names)
            replacements += 1

    def record(self, telling: Telling) -> None:
        """Take what tells of a request."""
        self._waiting.append(telling)
        if len(self._waiting) >= AT_ONCE:
            with self._lock:
                self._add_up()

    def _add_up(self) -> None:
        take, known = self._waiting.popleft, self._series.get
        for _ in range(len(self._waiting)):
            for attributes, measurements in take()():
                spreads = known(attributes) or self._begun(attributes)
                for name, unit, amount in measurements:
                    spread = spreads.get(name) or self._begun_of(spreads, name, unit)
                    met = spread.met
                    met[amount] = met.get(amount, 0) + 1
                    if len(met) > MAX_MET:
                        spread.sort()

    def _begun(self, attributes: Attributes) -> dict[str, _Spread]:
        if len(self._series) >= MAX_SERIES and attributes not in self._series:
            attributes = _OVERFLOW
        return self._series.setdefault(attributes, {})

    def _begun_of(self, spreads: dict[str, _Spread], name: str, unit: str) -> _Spread:
        self._units[name] = unit
        return spreads.setdefault(name, _Spread())

    def read(self) -> MetricsData | None:
        """Return what was told since the last call; None where there is nothing."""
        with self._lock:
            self._add_up()
            told, self._series = self._series, {}
            since, self._since = self._since, time.time_ns()
            until = self._since
        points: defaultdict[str, list[ExponentialHistogramDataPoint]] = defaultdict(list)
        for attributes, spreads in told.items():
            for name, spread in spreads.items():
                points[name].append(spread.point(attributes, since, until))
        if not points:
            return None
        metrics = [
            Metric(name, None, self._units[name], ExponentialHistogram(of_name, AggregationTemporality.DELTA))
            for name, of_name in points.items()
        ]
        return MetricsData(
            [ResourceMetrics(Resource.get_empty(), [ScopeMetrics(InstrumentationScope(SCOPE), metrics, "")], "")]
        )

    def _after_fork(self) -> None:
        # What the parent had when it forked is the parent's to ship.
        self._lock = threading.Lock()
        self._waiting, self._series = deque(), {}


replacements = 0
"""How often an exporter's `replaced` has changed: `is_replaced` gives the same answer until then."""

_listening_lock = threading.Lock()
_listening: tuple[weakref.ref[HttpMetrics], ...] = ()  # replaced whole under the lock, so that readers need none


def is_heard() -> bool:
    """Whether an exporter has listened, so that telling is worth a request's time."""
    return bool(_listening)


def is_replaced(reader: object, name: str) -> bool:
    """Whether a metric reader has what is told here in the place of what an instrument records.

    Args:
        reader: of the instrument's provider; one that exports to a Guard exporter has this module's `HttpMetrics` as
            its ``_exporter.http``.
        name: of the instrument.
    """
    http = _read_by(reader)
    return http is not None and name in http.replaced


def reads_nothing_else(reader: object) -> bool:
    """Whether a metric reader reads nothing that the HTTP instrumentation measures but what is told here."""
    http = _read_by(reader)
    return http is not None and bool(http.replaced)


def _read_by(reader: object) -> HttpMetrics | None:
    http = getattr(getattr(reader, "_exporter", None), "http", None)
    return http if isinstance(http, HttpMetrics) else None


def record(telling: Telling) -> None:
    """Tell every exporter of a request.

    Each calls `telling` once, when it adds up: in the thread that tells of the last of `AT_ONCE` requests, or that
    reads.
    """
    for listening in _listening:
        if (metrics := listening()) is not None:
            metrics.record(telling)


def _after_fork_in_child() -> None:
    global _listening_lock
    _listening_lock = threading.Lock()
    for listening in _listening:
        if (metrics := listening()) is not None:
            metrics._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
