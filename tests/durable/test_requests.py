"""Requests as batches: no row is lost or doubled by merging and splitting, whatever the limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common import _log_encoder
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from support.otlp_receiver import items

from opentelemetry_guard.delivery.body_limit import BodyLimit
from opentelemetry_guard.delivery.envelope import Envelope
from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.durable.forms import FORMS, count
from opentelemetry_guard.durable.requests import Requests
from opentelemetry_guard.queue.base import Batch, Kind

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
ACCEPTED = Outcome(Verdict.ACCEPTED, 200)

Shape = list[list[int]]
"""Rows in each scope of each resource."""
SHAPES = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=3), min_size=1, max_size=3)


SHAPED: dict[Kind, tuple[Any, str, str]] = {
    "spans": (ExportTraceServiceRequest, "resource_spans", "scope_spans"),
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs"),
    "points": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics"),
}
"""The request of each kind, and what its resources and scopes are called."""


def request(kind: Kind, shape: Shape, first: int = 0) -> Any:
    """Return a request of that shape, whose rows are numbered; points are three to a metric."""
    numbers = iter(range(first, 10_000))
    made, resources, scopes = SHAPED[kind]
    found = made()
    for of_resource in shape:
        resource = getattr(found, resources).add(schema_url="r")
        for rows in of_resource:
            scope = getattr(resource, scopes).add(schema_url="s")
            for index in range(rows):
                _number(_row(kind, scope, index), next(numbers))
    return found


def _row(kind: Kind, scope: Any, index: int) -> Any:
    """Add the row of that index to a scope."""
    if kind == "spans":
        return scope.spans.add(name="x" * 40)
    if kind == "logs":
        return scope.log_records.add(event_name="x" * 40)
    metric = scope.metrics[-1] if index % 3 else scope.metrics.add(name="m", unit="u")
    metric.sum.aggregation_temporality = DELTA
    return metric.sum.data_points.add()


def _number(item: Any, number: int) -> None:
    attribute = item.attributes.add(key="n")
    attribute.value.int_value = number


def numbers(requests: Requests, batches: list[Batch]) -> list[int]:
    return [number for batch in batches for number in items(batch.kind, requests.message(batch))]


@given(st.sampled_from(list(FORMS)), SHAPES, st.integers(60, 2000), st.sampled_from(["none", "gzip", "deflate"]))
def test_a_request_is_cut_under_the_limit_and_keeps_every_row(
    kind: Kind, shape: Shape, limit: int, compression: Any
) -> None:
    requests = Requests(compression, limit=BodyLimit(limit))
    message = request(kind, shape)
    rows = sum(map(sum, shape))
    batches = requests.encode(kind, message)
    assert sum(batch.rows for batch in batches) == rows == count(message, FORMS[kind].path)
    assert numbers(requests, batches) == list(range(rows))
    assert all(requests.size(batch) < limit or batch.rows <= 1 for batch in batches)


@given(st.sampled_from(list(FORMS)), SHAPES, SHAPES, st.integers(60, 4000), st.booleans())
def test_requests_are_joined_and_split_again_without_a_loss(
    kind: Kind, one: Shape, other: Shape, limit: int, sealed: bool
) -> None:
    envelope = Envelope("A" * 43) if sealed else None
    requests = Requests("gzip", envelope, BodyLimit(limit))
    first = sum(map(sum, one))
    batches = [*requests.encode(kind, request(kind, one)), *requests.encode(kind, request(kind, other, first))]
    pieces = [piece for batch in batches for piece in requests.pieces(batch)]
    joined = requests.join(kind, pieces, 12.5)
    everything = list(range(first + sum(map(sum, other))))
    assert numbers(requests, joined) == everything
    assert {batch.created_at for batch in joined} <= {12.5}
    for batch in joined:
        if batch.rows > 1:
            halves = requests.split(batch)
            assert len(halves) >= 2
            assert sum(half.rows for half in halves) == batch.rows
            assert numbers(requests, halves) == items(kind, requests.message(batch))


def test_a_half_keeps_the_resource_and_the_scope_around_its_rows() -> None:
    requests = Requests()
    (batch,) = requests.encode("points", request("points", [[6]]))
    for half in requests.split(batch):
        (resource,) = requests.message(half).resource_metrics  # type: ignore[attr-defined]
        (scope,) = resource.scope_metrics
        (metric,) = scope.metrics
        assert (resource.schema_url, scope.schema_url, metric.name, metric.unit) == ("r", "s", "m", "u")
        assert metric.sum.aggregation_temporality == DELTA


def sample(time: int, value: int, *, start: int = 1, route: str = "/", temporality: int = CUMULATIVE) -> Any:
    """Return a request with one point of a counter."""
    found: Any = ExportMetricsServiceRequest()
    metric = found.resource_metrics.add().scope_metrics.add().metrics.add(name="requests")
    metric.sum.aggregation_temporality = temporality
    point = metric.sum.data_points.add(time_unix_nano=time, start_time_unix_nano=start, as_int=value)
    point.attributes.add(key="route").value.string_value = route
    return found


def points(requests: Requests, batch: Batch) -> Iterator[int]:
    for resource in requests.message(batch).resource_metrics:  # type: ignore[attr-defined]
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from (point.as_int for point in metric.sum.data_points)


def test_the_newest_point_of_a_series_wins_where_several_are_sent_at_once() -> None:
    requests = Requests()
    batches = [requests.encode("points", sample(time, time))[0] for time in (5, 3, 4)]
    batches += requests.encode("points", sample(1, 9, route="/other"))
    (joined,) = requests.join("points", [piece for batch in batches for piece in requests.pieces(batch)], None)
    assert list(points(requests, joined)) == [5, 9]
    assert joined.rows == 4
    assert requests.receipt(joined, ACCEPTED, False).dropped == {"superseded": 2}


def test_a_point_that_is_older_than_a_delivered_one_is_superseded() -> None:
    requests = Requests()
    (newest,) = requests.encode("points", sample(5, 50))
    (older,) = requests.encode("points", sample(3, 30))
    assert requests.sift(older) is None  # until the newer one has arrived
    assert requests.receipt(newest, ACCEPTED, False).dropped == {}
    sifted = requests.sift(older)
    assert sifted is not None
    assert (sifted.batch, sifted.dropped) == (None, {"superseded": 1})


def test_what_is_left_of_a_batch_counts_what_it_lacks_when_it_is_delivered() -> None:
    requests = Requests()
    both = sample(3, 30)
    both.MergeFrom(sample(3, 31, route="/other"))
    (batch,) = requests.encode("points", both)
    requests.receipt(requests.encode("points", sample(5, 50))[0], ACCEPTED, False)
    sifted = requests.sift(batch)
    assert sifted is not None
    assert sifted.batch is not None
    assert (list(points(requests, sifted.batch)), sifted.batch.rows) == ([31], 2)
    assert requests.receipt(sifted.batch, ACCEPTED, False).dropped == {"superseded": 1}
    with pytest.raises(ValueError, match="single row"):
        requests.split(sifted.batch)


@pytest.mark.parametrize(
    "older",
    [
        pytest.param(sample(3, 30, start=2), id="a series that began anew"),
        pytest.param(sample(3, 30, temporality=DELTA), id="a difference"),
        pytest.param(sample(3, 30, route="/b"), id="another series"),
        pytest.param(sample(5, 50), id="the same point"),
    ],
)
def test_what_says_something_of_its_own_is_sent(older: Any) -> None:
    requests = Requests()
    requests.receipt(requests.encode("points", sample(5, 50))[0], ACCEPTED, False)
    assert requests.sift(requests.encode("points", older)[0]) is None


def test_every_point_is_sent_where_that_is_asked_for() -> None:
    requests = Requests(keep_all_points=True)
    batches = [requests.encode("points", sample(time, time))[0] for time in (5, 3)]
    requests.receipt(batches[0], ACCEPTED, False)
    assert requests.sift(batches[1]) is None
    (joined,) = requests.join("points", [piece for batch in batches for piece in requests.pieces(batch)], None)
    assert list(points(requests, joined)) == [5, 3]


def test_no_more_is_rejected_than_was_sent() -> None:
    requests = Requests()
    (batch,) = requests.encode("spans", request("spans", [[3]]))
    receipt = requests.receipt(batch, Outcome(Verdict.ACCEPTED, 200, rejected={"rejected_by_backend": 99}), False)
    assert receipt.dropped == {"rejected_by_backend": 3}


def test_the_encoder_of_logs_is_where_the_sdk_has_it() -> None:
    # The one name that is not public; OpenTelemetry's own exporters have it from there.
    assert callable(_log_encoder.encode_logs)
