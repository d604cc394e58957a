"""Histogram points merge without an error, and their quantiles stay within the bucket of the true value."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)

from opentelemetry_guard.exporters.distribution import Distribution, ExponentialBuckets, distribution

QUANTILES = (0.0, 0.25, 0.5, 0.95, 0.99, 1.0)

magnitudes = st.floats(1e-9, 1e9)
values = st.one_of(magnitudes, magnitudes.map(lambda value: -value), st.just(0.0))
samples = st.lists(values, min_size=1, max_size=60)


def recorded(
    *series: list[float], aggregation: Aggregation | None = None
) -> list[HistogramDataPoint | ExponentialHistogramDataPoint]:
    """The points that the SDK makes of each list of values, in the order of the lists.

    An up-down counter with a histogram's aggregation stands in for a histogram, which takes no negative values.
    """
    reader = InMemoryMetricReader(
        preferred_temporality={UpDownCounter: AggregationTemporality.DELTA},
        preferred_aggregation={UpDownCounter: aggregation or ExponentialBucketHistogramAggregation()},
    )
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrument = provider.get_meter("test").create_up_down_counter("values")
    for number, values in enumerate(series):
        for value in values:
            instrument.add(value, {"series": number})
    data = reader.get_metrics_data()
    provider.shutdown()
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return sorted(points, key=lambda point: point.attributes["series"])


def merged(*series: list[float], aggregation: Aggregation | None = None) -> Distribution:
    first, *others = (distribution(point) for point in recorded(*series, aggregation=aggregation))
    for other in others:
        first.merge(other)
    return first


def nearest_rank(values: list[float], q: float) -> float:
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]


def exponential(spread: Distribution) -> ExponentialBuckets:
    assert isinstance(spread.buckets, ExponentialBuckets)
    return spread.buckets


@settings(max_examples=60, deadline=None)
@given(st.lists(samples, min_size=1, max_size=5))
def test_merging_keeps_every_count_and_the_extremes(series: list[list[float]]) -> None:
    everything = [value for values in series for value in values]
    spread = merged(*series)
    buckets = exponential(spread)
    assert spread.count == len(everything)
    assert spread.sum == pytest.approx(math.fsum(everything), rel=1e-9, abs=1e-3)
    assert (spread.min, spread.max) == (min(everything), max(everything))
    assert buckets.zero_count == everything.count(0.0)
    assert sum(buckets.positive.values()) == sum(value > 0 for value in everything)
    assert sum(buckets.negative.values()) == sum(value < 0 for value in everything)


@settings(max_examples=60, deadline=None)
@given(st.lists(samples, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_merging_gives_the_same_buckets_in_any_order(series: list[list[float]], order: random.Random) -> None:
    points = recorded(*series)
    shuffled = list(points)
    order.shuffle(shuffled)
    one, other = (distribution(points[0]), distribution(shuffled[0]))
    for point in points[1:]:
        one.merge(distribution(point))
    for point in shuffled[1:]:
        other.merge(distribution(point))
    assert one.buckets == other.buckets


@settings(max_examples=60, deadline=None)
@given(st.lists(samples, min_size=1, max_size=4))
def test_a_quantile_lies_in_the_bucket_of_the_true_value(series: list[list[float]]) -> None:
    everything = [value for values in series for value in values]
    spread = merged(*series)
    base = 2.0 ** math.ldexp(1.0, -exponential(spread).scale) * (1 + 1e-9)
    for q in QUANTILES:
        truth, estimate = nearest_rank(everything, q), spread.quantile(q)
        assert estimate is not None
        assert math.copysign(1, truth) == math.copysign(1, estimate) or truth == estimate == 0
        assert abs(truth) / base <= abs(estimate) <= abs(truth) * base


@settings(max_examples=60, deadline=None)
@given(samples, st.sampled_from([(), (0.0,), (-1.0, 0.0, 1.0), (0.001, 1.0, 1000.0)]))
def test_quantiles_of_explicit_buckets_rise_between_the_extremes(
    values: list[float], bounds: tuple[float, ...]
) -> None:
    spread = merged(values, aggregation=ExplicitBucketHistogramAggregation(bounds))
    estimates = [spread.quantile(q) for q in QUANTILES]
    assert estimates == sorted(estimates)
    assert min(values) <= estimates[0] <= estimates[-1] == max(values)


def test_an_explicit_bucket_is_interpolated_linearly() -> None:
    values = [float(value) for value in range(1, 101)]
    spread = merged(values, aggregation=ExplicitBucketHistogramAggregation((50.0, 100.0)))
    assert spread.quantile(0.75) == pytest.approx(75.0)
    assert spread.quantile(0.25) == pytest.approx(25.5)


@pytest.mark.parametrize("seed", range(5))
def test_latency_quantiles_are_within_one_percent(seed: int) -> None:
    source = random.Random(seed)
    latencies = [source.lognormvariate(math.log(0.02), 0.5) for _ in range(5_000)]
    spread = merged(latencies)
    for q in (0.5, 0.95, 0.99):
        assert spread.quantile(q) == pytest.approx(nearest_rank(latencies, q), rel=0.01)


def test_four_decades_of_latency_are_within_nine_percent_at_worst() -> None:
    spread = merged([0.001, 10.0])
    buckets = exponential(spread)
    assert buckets.scale == 3
    assert 2.0 ** math.ldexp(1.0, -buckets.scale) - 1 < 0.091


def test_one_value_is_its_own_quantile() -> None:
    assert {merged([0.0123]).quantile(q) for q in QUANTILES} == {0.0123}


@pytest.mark.parametrize("value", [5e-324, 2.0**-1022, 1.7976931348623157e308])
def test_the_ends_of_the_range_of_floats_are_handled(value: float) -> None:
    spread = merged([value], [-value])
    assert spread.quantile(1.0) == value
    assert spread.quantile(0.0) == -value


@pytest.mark.parametrize(
    "aggregation",
    [
        ExponentialBucketHistogramAggregation(record_min_max=False),
        ExplicitBucketHistogramAggregation((0.1, 1.0, 10.0), record_min_max=False),
    ],
)
def test_extremes_that_were_not_recorded_are_unknown_and_quantiles_stay_finite(aggregation: Aggregation) -> None:
    spread = merged([0.05, 0.5, 5.0], [0.5, 50.0], aggregation=aggregation)
    assert spread.min is None
    assert spread.max is None
    assert all(0 < (spread.quantile(q) or 0) < 60 for q in QUANTILES)


def test_a_histogram_without_buckets_is_known_by_its_extremes() -> None:
    point = HistogramDataPoint({}, 0, 0, count=4, sum=10, bucket_counts=[], explicit_bounds=[], min=1, max=4)
    assert distribution(point).quantile(0.5) == 2.5


def test_the_divisor_applies_to_every_figure_after_merging() -> None:
    first, second = (distribution(point, 1000) for point in recorded([10, 20], [30]))
    first.merge(second)
    assert (first.count, first.sum, first.mean, first.min, first.max) == (3, 0.06, 0.02, 0.01, 0.03)
    assert first.quantile(1.0) == 0.03


def test_what_has_another_layout_is_refused_and_leaves_the_figures_alone() -> None:
    spread = merged([1.0])
    explicit = merged([1.0], aggregation=ExplicitBucketHistogramAggregation((1.0,)))
    others = [explicit, merged([1.0], aggregation=ExplicitBucketHistogramAggregation((2.0,)))]
    in_other_unit = distribution(recorded([1.0])[0], 1000)
    for one, other in [(spread, explicit), (explicit, spread), (others[0], others[1]), (spread, in_other_unit)]:
        assert one.layout != other.layout
        with pytest.raises(ValueError, match=r"merge"):
            one.merge(other)
        assert one.count == 1


def test_a_finer_scale_cannot_be_recovered() -> None:
    with pytest.raises(ValueError, match="allowed is at most 3"):
        ExponentialBuckets(3, 0, {}, {}).downscale(4)
