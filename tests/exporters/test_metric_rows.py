"""OpenTelemetry metric data becomes the backend's metric rows: one per series and interval, with totals that add up."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.instrumentation._semconv import (
    OTEL_SEMCONV_STABILITY_OPT_IN,
    _OpenTelemetrySemanticConventionStability,
)
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData, NumberDataPoint, ResourceMetrics
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)

from opentelemetry_guard import semconv
from opentelemetry_guard.exporters.metric_rows import (
    CUMULATIVE_TEMPORALITY,
    INVALID_VALUE,
    PREFERRED_AGGREGATION,
    PREFERRED_TEMPORALITY,
    UNSUPPORTED_AGGREGATION,
    Mapped,
    MetricMapper,
)
from opentelemetry_guard.models import SecurityMetric

Row = dict[str, Any]

FASTAPI = "opentelemetry.instrumentation.fastapi"
USER = semconv.SCOPE_NAME
NOTHING = MetricsData([])
COUNTERS = {
    "request_count": semconv.GUARD_REQUEST_COUNT,
    "error_rate": semconv.GUARD_ERROR_RATE,
    "bandwidth_usage": semconv.GUARD_BANDWIDTH_USAGE,
}
HISTOGRAMS = {
    "response_time": semconv.GUARD_RESPONSE_TIME_METRIC,
    "threat_level": semconv.GUARD_THREAT_LEVEL,
    "block_rate": semconv.GUARD_BLOCK_RATE,
    "cache_hit_rate": semconv.GUARD_CACHE_HIT_RATE,
}


class Pipeline:
    """A real MeterProvider and reader with the exporter's preferences, and a mapper behind them."""

    def __init__(self, *views: View, max_rows: int = 2_000, delta: bool = True) -> None:
        self.reader = InMemoryMetricReader(PREFERRED_TEMPORALITY if delta else None, PREFERRED_AGGREGATION)
        self.provider = MeterProvider([self.reader], views=views, shutdown_on_exit=False)
        self.mapper = MetricMapper(max_rows)
        self.dropped: Mapping[str, int] = {}

    def add(self, scope: str, name: str, value: float, attributes: Mapping[str, Any] | None = None) -> None:
        self.provider.get_meter(scope).create_counter(name).add(value, attributes)

    def record(self, scope: str, name: str, value: float, attributes: Mapping[str, Any] | None = None) -> None:
        self.provider.get_meter(scope).create_histogram(name).record(value, attributes)

    def collect(self) -> list[Row]:
        return self.map(self.reader.get_metrics_data() or NOTHING)

    def map(self, data: MetricsData) -> list[Row]:
        mapped = self.mapper.rows(data)
        assert isinstance(mapped, Mapped)
        self.dropped = mapped.dropped
        for row in mapped.rows:
            assert list(row) == ["timestamp", "metric_type", "value", "endpoint", "tags"]
            assert isinstance(row["value"], float)
            received = SecurityMetric.model_validate_json(orjson.dumps(row), strict=True)
            assert received.model_dump(exclude={"timestamp"}) == {k: v for k, v in row.items() if k != "timestamp"}
        return mapped.rows


@pytest.fixture
def pipelines() -> Iterator[Callable[..., Pipeline]]:
    built: list[Pipeline] = []

    def build(*views: View, **settings: Any) -> Pipeline:
        built.append(Pipeline(*views, **settings))
        return built[-1]

    yield build
    for pipeline in built:
        pipeline.provider.shutdown()


@pytest.fixture
def pipeline(pipelines: Callable[..., Pipeline]) -> Pipeline:
    return pipelines()


def summary(rows: list[Row]) -> set[tuple[str, str | None, str | None, str | None, float]]:
    """Rows without what depends on the clock."""
    return {
        (
            row["metric_type"],
            row["endpoint"],
            row["tags"].get("method"),
            row["tags"].get("status_code"),
            float(row["tags"]["count"]) if row["metric_type"] == "response_time" else row["value"],
        )
        for row in rows
    }


def of_type(rows: list[Row], metric_type: str) -> list[Row]:
    return [row for row in rows if row["metric_type"] == metric_type]


# What user code records


@pytest.mark.parametrize(("metric_type", "instrument"), COUNTERS.items())
def test_a_counter_becomes_a_row_with_the_sum_of_its_interval(
    pipeline: Pipeline, metric_type: str, instrument: str
) -> None:
    attributes = {"http.route": "/users/{id}", "guard.tag.region": "eu", "not.ours": "x"}
    pipeline.add(USER, instrument, 3, attributes)
    pipeline.add(USER, instrument, 4.5, attributes)
    (row,) = pipeline.collect()
    assert (row["metric_type"], row["value"], row["endpoint"]) == (metric_type, 7.5, "/users/{id}")
    assert row["tags"] == {"region": "eu"}
    pipeline.add(USER, instrument, 1, attributes)
    assert [row["value"] for row in pipeline.collect()] == [1.0]


@pytest.mark.parametrize(("metric_type", "instrument"), HISTOGRAMS.items())
def test_a_histogram_becomes_a_row_with_its_mean_and_statistics(
    pipeline: Pipeline, metric_type: str, instrument: str
) -> None:
    for value in (0.1, 0.2, 0.6):
        pipeline.record(USER, instrument, value, {"guard.tag.cache": "sessions"})
    (row,) = pipeline.collect()
    assert (row["metric_type"], row["endpoint"]) == (metric_type, None)
    assert row["value"] == pytest.approx(0.3)
    tags = row["tags"]
    assert set(tags) == {"cache", "count", "sum", "min", "max", "p50", "p95", "p99"}
    assert (tags["cache"], tags["count"], tags["min"], tags["max"]) == ("sessions", "3", "0.1", "0.6")
    assert float(tags["sum"]) == pytest.approx(0.9)
    assert [float(tags[name]) for name in ("p50", "p95", "p99")] == pytest.approx([0.2, 0.6, 0.6], rel=0.02)


def test_explicit_buckets_are_understood_as_well(pipelines: Callable[..., Pipeline]) -> None:
    aggregation = ExplicitBucketHistogramAggregation((0.1, 0.2, 0.4))
    pipeline = pipelines(View(instrument_name=semconv.GUARD_RESPONSE_TIME_METRIC, aggregation=aggregation))
    for value in (0.15, 0.15, 0.3):
        pipeline.record(USER, semconv.GUARD_RESPONSE_TIME_METRIC, value)
    (row,) = pipeline.collect()
    assert row["value"] == pytest.approx(0.2)
    assert 0.15 <= float(row["tags"]["p50"]) <= 0.2
    assert float(row["tags"]["p99"]) <= 0.3


def test_extremes_that_the_sdk_does_not_keep_have_no_tag(pipelines: Callable[..., Pipeline]) -> None:
    aggregation = ExponentialBucketHistogramAggregation(record_min_max=False)
    pipeline = pipelines(View(instrument_name=semconv.GUARD_THREAT_LEVEL, aggregation=aggregation))
    pipeline.record(USER, semconv.GUARD_THREAT_LEVEL, 5)
    assert set(pipeline.collect()[0]["tags"]) == {"count", "sum", "p50", "p95", "p99"}


def test_a_tag_named_like_a_statistic_is_kept_beside_it(pipeline: Pipeline) -> None:
    attributes = {"guard.tag.count": "mine", "guard.tag.max": "mine too", "guard.tag.tag.count": "taken"}
    pipeline.record(USER, semconv.GUARD_BLOCK_RATE, 0.5, attributes)
    pipeline.add(USER, semconv.GUARD_REQUEST_COUNT, 1, {"guard.tag.count": "no collision here"})
    spread, total = sorted(pipeline.collect(), key=lambda row: row["metric_type"])
    assert (spread["tags"]["count"], spread["tags"]["max"]) == ("1", "0.5")
    assert (spread["tags"]["tag.count"], spread["tags"]["tag.tag.count"]) == ("taken", "mine")
    assert spread["tags"]["tag.max"] == "mine too"
    assert total["tags"] == {"count": "no collision here"}


def test_tags_that_are_no_text_or_no_utf8_still_encode(pipeline: Pipeline) -> None:
    attributes = {"guard.tag.n": 3, "guard.tag.on": True, "guard.tag.bad": "\ud800", "http.route": "/\udfff"}
    pipeline.add(USER, semconv.GUARD_REQUEST_COUNT, 1, attributes)
    (row,) = pipeline.collect()
    assert (row["tags"]["n"], row["tags"]["on"]) == ("3", "True")


def test_what_has_no_contract_type_never_makes_a_row(pipeline: Pipeline) -> None:
    pipeline.add(USER, semconv.SECURITY_EVENTS_COUNTER, 1)
    pipeline.add(USER, "guard.delivery.retries", 1)
    pipeline.record(USER, semconv.HTTP_SERVER_REQUEST_DURATION, 1)
    pipeline.add("process", "process.cpu.time", 1)
    pipeline.add("somebody.else", semconv.GUARD_REQUEST_COUNT, 1)
    pipeline.provider.get_meter(FASTAPI).create_up_down_counter("http.server.active_requests").add(1)
    assert pipeline.collect() == []
    assert pipeline.dropped == {}


def test_an_empty_interval_makes_no_row(pipeline: Pipeline) -> None:
    assert pipeline.collect() == []
    pipeline.add(USER, semconv.GUARD_REQUEST_COUNT, 1)
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1)
    assert pipeline.collect() != []
    assert pipeline.collect() == []


def test_a_recorded_zero_is_a_value(pipeline: Pipeline) -> None:
    pipeline.add(USER, semconv.GUARD_ERROR_RATE, 0)
    pipeline.record(USER, semconv.GUARD_THREAT_LEVEL, 0)
    assert [row["value"] for row in pipeline.collect()] == [0.0, 0.0]


def test_the_timestamp_is_the_end_of_the_interval_in_utc_to_the_microsecond(pipeline: Pipeline) -> None:
    pipeline.add(USER, semconv.GUARD_REQUEST_COUNT, 1)
    data = pipeline.reader.get_metrics_data()
    assert data is not None
    point = next(_points(data))
    object.__setattr__(point, "time_unix_nano", 1_795_306_053_000_001_999)
    (row,) = pipeline.map(data)
    assert row["timestamp"] == "2026-11-22T00:07:33.000001Z"


# What is refused, by reason


def test_cumulative_points_are_refused_and_counted(pipelines: Callable[..., Pipeline]) -> None:
    pipeline = pipelines(delta=False)
    pipeline.add(USER, semconv.GUARD_REQUEST_COUNT, 1, {"http.route": "/a"})
    pipeline.add(USER, semconv.GUARD_REQUEST_COUNT, 1, {"http.route": "/b"})
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1)
    pipeline.add("process", "process.cpu.time", 1)
    assert pipeline.collect() == []
    assert pipeline.dropped == {CUMULATIVE_TEMPORALITY: 3}


@pytest.mark.parametrize("value", [1.5e308, 15 * 10**307], ids=["floats", "integers"])
def test_a_sum_beyond_the_range_of_floats_is_refused_and_counted(pipeline: Pipeline, value: float) -> None:
    for _ in range(2):
        pipeline.add(USER, semconv.GUARD_BANDWIDTH_USAGE, value, {"http.route": "/bad"})
        pipeline.record(USER, semconv.GUARD_THREAT_LEVEL, value, {"http.route": "/bad"})
    pipeline.add(USER, semconv.GUARD_BANDWIDTH_USAGE, 1, {"http.route": "/good"})
    assert [row["endpoint"] for row in pipeline.collect()] == ["/good"]
    assert pipeline.dropped == {INVALID_VALUE: 2}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_counted(pipeline: Pipeline, value: float) -> None:
    # The SDK takes no such measurement; a metric producer of another kind may.
    pipeline.add(USER, semconv.GUARD_BANDWIDTH_USAGE, 1)
    data = pipeline.reader.get_metrics_data()
    assert data is not None
    object.__setattr__(next(_points(data)), "value", value)
    assert pipeline.map(data) == []
    assert pipeline.dropped == {INVALID_VALUE: 1}


def test_sums_that_pass_the_range_of_floats_when_merged_are_refused_and_counted(pipeline: Pipeline) -> None:
    for host in ("a", "b"):
        pipeline.record(FASTAPI, semconv.OLD_HTTP_SERVER_RESPONSE_SIZE, 1.5e308, {"http.server_name": host})
    assert pipeline.collect() == []
    assert pipeline.dropped == {INVALID_VALUE: 1}


def test_an_aggregation_that_hides_what_was_recorded_is_refused_and_counted(
    pipelines: Callable[..., Pipeline],
) -> None:
    pipeline = pipelines(
        View(instrument_name=semconv.GUARD_THREAT_LEVEL, aggregation=SumAggregation()),
        View(instrument_name=semconv.GUARD_BLOCK_RATE, aggregation=LastValueAggregation()),
    )
    pipeline.record(USER, semconv.GUARD_THREAT_LEVEL, 1)
    pipeline.record(USER, semconv.GUARD_BLOCK_RATE, 1)
    assert pipeline.collect() == []
    assert pipeline.dropped == {UNSUPPORTED_AGGREGATION: 2}


# Request metrics of the FastAPI instrumentation


@pytest.fixture(params=["", "http", "http/dup"], ids=["old", "new", "both"])
def convention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the three modes; the instrumentation reads the variable once a process, so its memory is cleared."""
    monkeypatch.setenv(OTEL_SEMCONV_STABILITY_OPT_IN, request.param)
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    return request.param


@pytest.fixture
def client(pipeline: Pipeline, convention: str) -> Iterator[TestClient]:
    app = FastAPI()

    @app.get("/users/{user_id}")
    def user(user_id: str) -> dict[str, str]:
        if user_id == "nobody":
            raise HTTPException(404)
        if user_id == "broken":
            raise RuntimeError(user_id)
        return {"id": user_id}

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    router = APIRouter()

    @router.get("/{item}")
    def item(item: str) -> str:
        return item

    app.include_router(router, prefix="/items")
    FastAPIInstrumentor.instrument_app(app, meter_provider=pipeline.provider)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    FastAPIInstrumentor.uninstrument_app(app)


def test_each_request_is_counted_once_under_its_route_method_and_status(client: TestClient, pipeline: Pipeline) -> None:
    for path in ("/users/1", "/users/2", "/users/nobody", "/users/broken", "/no/such/page?token=secret"):
        client.get(path)
    client.post("/users/1")
    rows = pipeline.collect()
    route = "/users/{user_id}"
    served = [
        (route, "GET", "200", 2.0),
        (route, "GET", "404", 1.0),
        (route, "GET", "500", 1.0),
        (route, "POST", "405", 1.0),
        (None, "GET", "404", 1.0),
    ]
    expected = {(metric_type, *one) for metric_type in ("response_time", "request_count") for one in served}
    expected |= {("error_rate", *one) for one in served if one[2] != "200"}
    assert summary([row for row in rows if row["metric_type"] != "bandwidth_usage"]) == expected
    assert "secret" not in str(rows)


def test_response_times_are_in_seconds_in_every_convention(client: TestClient, pipeline: Pipeline) -> None:
    client.get("/users/1")
    data = pipeline.reader.get_metrics_data()
    assert data is not None
    measured = {name: point.sum for name, point in _named_points(data) if "duration" in name}
    (row,) = of_type(pipeline.map(data), "response_time")
    if semconv.HTTP_SERVER_REQUEST_DURATION in measured:
        assert row["value"] == measured[semconv.HTTP_SERVER_REQUEST_DURATION]
    else:
        assert row["value"] == measured[semconv.OLD_HTTP_SERVER_DURATION] / 1000
    assert row["tags"]["sum"] == repr(row["value"])


def test_body_sizes_become_bandwidth_by_direction(client: TestClient, pipeline: Pipeline) -> None:
    client.post("/upload", content=b"x" * 700)
    client.post("/upload", content=b"x" * 300)
    bandwidth = {row["tags"]["direction"]: row for row in of_type(pipeline.collect(), "bandwidth_usage")}
    assert {direction: row["value"] for direction, row in bandwidth.items()} == {"request": 1000.0, "response": 6.0}
    assert bandwidth["request"]["tags"] == {"method": "POST", "status_code": "200", "direction": "request"}
    assert {row["endpoint"] for row in bandwidth.values()} == {"/upload"}


def test_the_host_header_neither_splits_rows_nor_shows(client: TestClient, pipeline: Pipeline) -> None:
    for number in range(50):
        client.get("/users/1", headers={"host": f"host-{number}.invalid"})
    rows = pipeline.collect()
    assert len(of_type(rows, "request_count")) == 1
    assert rows[0]["tags"]["count"] == "50"
    assert "invalid" not in str(rows)


def test_the_endpoint_of_an_included_router_is_a_template(
    client: TestClient, pipeline: Pipeline, convention: str
) -> None:
    client.get("/items/42")
    (row,) = of_type(pipeline.collect(), "request_count")
    assert row["endpoint"] is not None
    assert row["endpoint"].endswith("/{item}")
    assert convention == "" or row["endpoint"] == "/items/{item}"


def test_old_series_of_different_scales_are_merged(pipeline: Pipeline) -> None:
    common = {"http.target": "/a", "http.method": "GET", "http.status_code": 200}
    for milliseconds in (10, 11):
        pipeline.record(FASTAPI, semconv.OLD_HTTP_SERVER_DURATION, milliseconds, {**common, "http.host": "narrow"})
    for milliseconds in (0, 1, 60_000):
        pipeline.record(FASTAPI, semconv.OLD_HTTP_SERVER_DURATION, milliseconds, {**common, "http.host": "wide"})
    (row,) = of_type(pipeline.collect(), "response_time")
    assert (row["tags"]["count"], row["tags"]["sum"]) == ("5", "60.022")
    assert (row["tags"]["min"], row["tags"]["max"]) == ("0.0", "60.0")
    assert float(row["tags"]["p50"]) == pytest.approx(0.010, rel=0.2)


def test_a_request_without_a_status_failed_when_it_names_an_error(pipeline: Pipeline) -> None:
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1, {"error.type": "TimeoutError"})
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1, {"http.request.method": "GET"})
    assert summary(of_type(pipeline.collect(), "error_rate")) == {("error_rate", None, None, None, 1.0)}


def test_a_status_below_400_is_no_failure_whatever_its_error_type(pipeline: Pipeline) -> None:
    attributes = {"http.response.status_code": 399, "error.type": "odd"}
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1, attributes)
    assert of_type(pipeline.collect(), "error_rate") == []


def test_a_long_method_is_cut(pipeline: Pipeline) -> None:
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1, {"http.request.method": "A" * 5000})
    assert pipeline.collect()[0]["tags"]["method"] == "A" * 32


def test_an_old_target_of_another_instrumentation_may_be_a_raw_path_and_is_not_sent(pipeline: Pipeline) -> None:
    attributes = {"http.target": "/reset?token=secret", "http.method": "GET"}
    pipeline.record("opentelemetry.instrumentation.wsgi", semconv.OLD_HTTP_SERVER_DURATION, 5, attributes)
    rows = pipeline.collect()
    assert {row["endpoint"] for row in rows} == {None}
    assert "secret" not in str(rows)


# One source of request metrics


def test_the_old_convention_is_ignored_once_the_new_one_was_seen(pipeline: Pipeline) -> None:
    pipeline.record(FASTAPI, semconv.OLD_HTTP_SERVER_DURATION, 5)
    assert of_type(pipeline.collect(), "request_count") != []
    pipeline.record(FASTAPI, semconv.OLD_HTTP_SERVER_DURATION, 5)
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 0.005)
    assert [row["value"] for row in of_type(pipeline.collect(), "request_count")] == [1.0]
    pipeline.record(FASTAPI, semconv.OLD_HTTP_SERVER_DURATION, 5)
    assert pipeline.collect() == []
    assert pipeline.dropped == {}


def _guard_core_request(pipeline: Pipeline) -> None:
    tags = {"endpoint": "/users/42?token=secret", "method": "GET"}
    pipeline.record(semconv.GUARD_CORE_SCOPE, "guard.request.duration", 0.25, {**tags, "status": "403"})
    pipeline.add(semconv.GUARD_CORE_SCOPE, "guard.request.count", 1, tags)
    pipeline.add(semconv.GUARD_CORE_SCOPE, "guard.error.count", 1, {**tags, "status": "403"})


def test_guard_cores_metrics_stand_in_where_no_http_server_metric_was_seen(pipeline: Pipeline) -> None:
    _guard_core_request(pipeline)
    rows = pipeline.collect()
    assert summary(rows) == {
        ("response_time", None, "GET", "403", 1.0),
        ("request_count", None, "GET", None, 1.0),
        ("error_rate", None, "GET", "403", 1.0),
    }
    assert of_type(rows, "response_time")[0]["value"] == 0.25
    assert "42" not in str([row["tags"] for row in rows])


@pytest.mark.parametrize("instrument", [semconv.OLD_HTTP_SERVER_DURATION, semconv.HTTP_SERVER_REQUEST_DURATION])
def test_guard_cores_metrics_are_ignored_once_an_http_server_metric_was_seen(
    pipeline: Pipeline, instrument: str
) -> None:
    _guard_core_request(pipeline)
    pipeline.record(FASTAPI, instrument, 1)
    assert [row["value"] for row in of_type(pipeline.collect(), "request_count")] == [1.0]
    _guard_core_request(pipeline)
    assert pipeline.collect() == []


def test_what_user_code_records_is_delivered_beside_every_source(pipeline: Pipeline) -> None:
    pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1)
    pipeline.record(USER, semconv.GUARD_RESPONSE_TIME_METRIC, 7, {"http.route": "/mine"})
    assert ("response_time", "/mine", None, None, 1.0) in summary(pipeline.collect())


# Bounded cardinality


def test_the_sdks_overflow_series_keeps_its_mark_and_its_totals(pipeline: Pipeline) -> None:
    # As the SDK does it from its cardinality limit on: measurements of further attribute sets bear this one attribute.
    for number in range(10):
        series = {"http.route": f"/{number}"} if number < 2 else {"otel.metric.overflow": True}
        pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, 1, series)
    counts = of_type(pipeline.collect(), "request_count")
    assert sum(row["value"] for row in counts) == 10
    (overflow,) = (row for row in counts if row["endpoint"] is None)
    assert overflow["tags"] == {"otel.metric.overflow": "true"}


def test_series_beyond_the_bound_are_folded_into_one_overflow_row_per_type(
    pipelines: Callable[..., Pipeline],
) -> None:
    pipeline = pipelines(max_rows=10)
    for number in range(20):
        attributes = {"http.route": f"/{number}", "http.response.status_code": 500}
        pipeline.record(FASTAPI, semconv.HTTP_SERVER_REQUEST_DURATION, number + 1, attributes)
        pipeline.record(FASTAPI, semconv.HTTP_SERVER_RESPONSE_BODY_SIZE, 100, attributes)
    pipeline.add(USER, semconv.GUARD_REQUEST_COUNT, 5, {"http.route": "/mine"})
    rows = pipeline.collect()
    folded = [row for row in rows if row["tags"].get("otel.metric.overflow") == "true"]
    assert {row["metric_type"] for row in folded} == {"response_time", "request_count", "error_rate", "bandwidth_usage"}
    assert len(folded) == 4
    assert len(rows) - len(folded) <= 10
    assert {row["endpoint"] for row in folded} == {None}
    assert [row["tags"]["direction"] for row in of_type(folded, "bandwidth_usage")] == ["response"]
    assert "/mine" in {row["endpoint"] for row in rows}
    kinds = [{row["metric_type"] for row in rows if row["endpoint"] == f"/{number}"} for number in range(20)]
    assert {len(kind) for kind in kinds} == {0, 4}


routes = st.sampled_from(["/a", "/b", "/c/{id}", "/d"])
measurements = st.lists(
    st.tuples(
        st.sampled_from([*COUNTERS.values(), *HISTOGRAMS.values(), semconv.HTTP_SERVER_REQUEST_DURATION]),
        st.floats(0, 1e6) | st.integers(0, 10**6),
        routes,
        st.sampled_from([200, 302, 404, 500]),
        st.sampled_from(["eu", "us"]),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(measurements, st.integers(0, 12))
def test_totals_over_all_rows_equal_what_was_recorded(
    measurements: list[tuple[str, float, str, int, str]], max_rows: int
) -> None:
    pipeline = Pipeline(max_rows=max_rows)
    count: dict[str, int] = defaultdict(int)
    total: dict[str, float] = defaultdict(float)
    types = {name: metric_type for metric_type, name in {**COUNTERS, **HISTOGRAMS}.items()}
    for instrument, value, route, status, tag in measurements:
        if instrument in COUNTERS.values():
            pipeline.add(USER, instrument, value, {"http.route": route, "guard.tag.region": tag})
            total[types[instrument]] += value
        elif instrument in HISTOGRAMS.values():
            pipeline.record(USER, instrument, value, {"http.route": route, "guard.tag.region": tag})
            count[types[instrument]] += 1
            total[types[instrument]] += value
        else:
            attributes = {"http.route": route, "http.response.status_code": status, "url.scheme": tag}
            pipeline.record(FASTAPI, instrument, value, attributes)
            count["response_time"] += 1
            total["response_time"] += value
            total["request_count"] += 1
            total["error_rate"] += status >= 400
    rows = pipeline.collect()
    pipeline.provider.shutdown()
    overflow = [row for row in rows if "otel.metric.overflow" in row["tags"]]
    assert len(rows) - len(overflow) <= max_rows
    assert len(overflow) == len({row["metric_type"] for row in overflow})
    assert pipeline.dropped == {}
    for metric_type in HISTOGRAMS:
        mine = of_type(rows, metric_type)
        assert sum(int(row["tags"]["count"]) for row in mine) == count[metric_type]
        assert sum(float(row["tags"]["sum"]) for row in mine) == pytest.approx(total[metric_type])
    for metric_type in COUNTERS:
        assert sum(row["value"] for row in of_type(rows, metric_type)) == pytest.approx(total[metric_type])
    for row in rows:
        if row["metric_type"] in HISTOGRAMS:
            tags = {name: float(row["tags"][name]) for name in ("count", "sum", "min", "max", "p50", "p95", "p99")}
            assert row["value"] == pytest.approx(tags["sum"] / tags["count"])
            assert tags["min"] <= tags["p50"] <= tags["p95"] <= tags["p99"] <= tags["max"]


def _named_points(data: MetricsData) -> Iterator[tuple[str, Any]]:
    resource_metrics: ResourceMetrics
    for resource_metrics in data.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                for point in metric.data.data_points:
                    yield metric.name, point


def _points(data: MetricsData) -> Iterator[NumberDataPoint]:
    for _, point in _named_points(data):
        yield point
