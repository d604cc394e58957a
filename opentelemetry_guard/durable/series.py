"""Series of cumulative points: the newest one says all that the older ones say, and receivers refuse those after it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from hashlib import blake2b
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from .forms import metrics_of

REMEMBERED_SERIES = 100_000
"""Series of which the newest delivered point's time is remembered, about 20 MB; older points of others are sent."""

Newest = Mapping[bytes, int]
"""The time of the newest point by series, in Unix nanoseconds."""


class Delivered:
    """The newest points that were delivered. Only the thread that sends uses it."""

    def __init__(self) -> None:
        self.newest: OrderedDict[bytes, int] = OrderedDict()

    def learn(self, message: Any) -> None:
        """Note the points of a request that was accepted."""
        note(message, self.newest)
        while len(self.newest) > REMEMBERED_SERIES:
            self.newest.popitem(last=False)


def note(message: Any, newest: MutableMapping[bytes, int]) -> None:
    """Note the newest point of each series in a request."""
    for place, _, data in _cumulative(message):
        for point in data.data_points:
            series = _series(place, point)
            newest[series] = max(point.time_unix_nano, newest.get(series, 0))


def strip(message: Any, newest: Newest) -> bool:
    """Remove from a request what is older than the newest point of its series; return whether anything was."""
    removed = False
    for place, metric, data in _cumulative(message):
        kept = [point for point in data.data_points if point.time_unix_nano >= newest.get(_series(place, point), 0)]
        if len(kept) < len(data.data_points):
            removed = True
            # The list that is kept belongs to the field that is emptied.
            copies = [type(point).FromString(point.SerializeToString()) for point in kept]
            del data.data_points[:]
            data.data_points.extend(copies)
            if not copies:
                metric.ClearField(metric.WhichOneof("data"))
    if removed:
        _tidy(message)
    return removed


def _tidy(message: Any) -> None:
    """Remove metrics without points, and scopes and resources without metrics."""
    for resource in message.resource_metrics:
        for scope in resource.scope_metrics:
            _keep(scope.metrics, lambda metric: metric.WhichOneof("data"))
        _keep(resource.scope_metrics, lambda scope: scope.metrics)
    _keep(message.resource_metrics, lambda resource: resource.scope_metrics)


def _keep(items: Any, wanted: Any) -> None:
    for index in reversed(range(len(items))):
        if not wanted(items[index]):
            del items[index]


def _cumulative(message: Any) -> Iterator[tuple[bytes, Any, Any]]:
    """Yield the cumulative metrics of a request: what tells their series apart, the metric and its data."""
    for place, metric in metrics_of(message):
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind) if kind else None
        # Gauges and summaries have no temporality: each of their points says something of its own.
        if getattr(data, "aggregation_temporality", None) == AGGREGATION_TEMPORALITY_CUMULATIVE:
            yield place + f"\0{metric.name}\0{metric.unit}\0{kind}\0".encode(), metric, data


def _series(place: bytes, point: Any) -> bytes:
    """Return the name of a point's series; one that begins anew (a restart) is another."""
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in point.attributes)
    start = str(point.start_time_unix_nano).encode()
    return blake2b(b"\0".join((place, start, *attributes)), digest_size=16).digest()
