"""Metrics of mounted applications: what the Guard exporter ships is each request once, under its whole route."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Response
from opentelemetry.instrumentation import asgi
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import Histogram, UpDownCounter
from opentelemetry.sdk.metrics._internal.aggregation import _ExponentialBucketHistogramAggregation
from opentelemetry.sdk.metrics._internal.metric_reader_storage import MetricReaderStorage
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from starlette.routing import Host, Mount, Router
from support.asgi import fetch, get
from support.guard_server import GuardServer, guard_server
from support.pipeline import Pipeline, pipeline

from opentelemetry_guard import GuardMetricExporter
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.instrumentation.http import measuring
from opentelemetry_guard.settings.instrumentation import GuardOptions

App = Callable[[Any, Any, Any], Any]

DURATION = "http.server.request.duration"
ERROR = '{"detail":"Internal Server Error"}'
"""What FastAPI answers to an HTTPException."""


class Measured:
    """Applications that are instrumented, and what of their metrics arrives at the backend and at another pipeline."""

    def __init__(self, made: Pipeline, server: GuardServer, other: InMemoryMetricReader) -> None:
        self.made = made
        self._server = server
        self._other = other

    def app(self, *, instrumented: bool = True, **settings: Any) -> FastAPI:
        app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False}, **settings)

        @app.post("/items/{n}")
        @app.get("/items/{n}")
        async def item(n: int) -> Response:
            if n == 500:
                raise HTTPException(500)
            return Response(b"x" * 10)

        if instrumented:
            FastAPIInstrumentor.instrument_app(app, meter_provider=self.made.meters)
        return app

    def around(self, app: App) -> App:
        return OpenTelemetryMiddleware(app, meter_provider=self.made.meters)

    def rows(self, metric_type: str) -> dict[str | None, float]:
        """Return the sum of a type's rows by endpoint: counts of `response_time`, values of others."""
        self.made.meters.force_flush()
        self.made.meters.shutdown()
        sums: Counter[str | None] = Counter()
        for row in self._server.metrics:
            if row["metric_type"] == metric_type:
                spread = metric_type in ("response_time", "block_rate")
                sums[row["endpoint"]] += int(row["tags"]["count"]) if spread else row["value"]
        return dict(sums)

    def measured_elsewhere(self) -> int:
        """Return how many requests another pipeline's metrics count."""
        data = json.loads(self._other.get_metrics_data().to_json())  # type: ignore[union-attr]
        return sum(
            point["count"]
            for resource in data["resource_metrics"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
            if metric["name"] in ("http.server.duration", "http.server.request.duration")
            for point in metric["data"]["data_points"]
        )


@pytest.fixture(params=["", "http", "http/dup"], ids=["old", "stable", "both"])
def measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", request.param)
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    other = InMemoryMetricReader()
    with guard_server() as server:
        reader = PeriodicExportingMetricReader(GuardMetricExporter(**server.settings), export_interval_millis=3_600_000)
        with pipeline(readers=[reader, other]) as made:
            fastapi_apps.install(GuardOptions(behavior=False), made.emitter)
            try:
                yield Measured(made, server, other)
            finally:
                fastapi_apps.uninstall()
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)


def mounted(m: Measured) -> tuple[App, str, str]:
    app = m.app()
    app.mount("/v1", m.app())
    return app, "/v1/items/7", "/v1/items/{n}"


def nested_thrice(m: Measured) -> tuple[App, str, str]:
    app, first, second = m.app(), m.app(), m.app()
    second.mount("/c", m.app())
    first.mount("/b", second)
    app.mount("/a/{tenant}", first)
    return app, "/a/acme/b/c/items/7", "/a/{tenant}/b/c/items/{n}"


def router_mount(m: Measured) -> tuple[App, str, str]:
    app = m.app()
    app.routes.append(Mount("/r", app=Router(routes=[Mount("/s", app=m.app())])))
    return app, "/r/s/items/7", "/r/s/items/{n}"


def included(m: Measured) -> tuple[App, str, str]:
    router = APIRouter(prefix="/users")
    router.add_api_route("/{user}", lambda user: user)
    app, inner = m.app(), m.app()
    inner.include_router(router, prefix="/v2")
    app.mount("/sub", inner)
    return app, "/sub/v2/users/ann", "/sub/v2/users/{user}"


def by_host(m: Measured) -> tuple[App, str, str]:
    app = m.app()
    app.router.routes.insert(0, Host("shop.example", app=m.app()))
    return app, "/items/7", "/items/{n}"


def inner_alone(m: Measured) -> tuple[App, str, str]:
    app = m.app(instrumented=False)
    app.mount("/v1", m.app())
    return app, "/v1/items/7", "/v1/items/{n}"


def middleware_around(m: Measured) -> tuple[App, str, str]:
    app = m.app(instrumented=False)
    app.mount("/v1", m.app())
    return m.around(app), "/v1/items/7", "/v1/items/{n}"


def bare_router(m: Measured) -> tuple[App, str, str]:
    return m.around(Router(routes=[Mount("/v1", app=m.app())])), "/v1/items/7", "/v1/items/{n}"


def root_path(m: Measured) -> tuple[App, str, str]:
    app = m.app(root_path="/proxy")
    app.mount("/v1", m.app())
    return app, "/proxy/v1/items/7", "/v1/items/{n}"


def plain(m: Measured) -> tuple[App, str, str]:
    return m.app(), "/items/7", "/items/{n}"


@pytest.mark.parametrize(
    "nesting",
    [
        mounted,
        nested_thrice,
        router_mount,
        included,
        by_host,
        inner_alone,
        middleware_around,
        bare_router,
        root_path,
        plain,
    ],
    ids=lambda nesting: nesting.__name__,
)
def test_a_request_counts_once_under_the_route_of_its_block_rate(
    measured: Measured, nesting: Callable[[Measured], tuple[App, str, str]]
) -> None:
    app, path, route = nesting(measured)
    assert get(app, path) == 200
    measured.made.meters.force_flush()  # from here on the SDK keeps nothing of it for the Guard exporter
    for _ in range(2):
        assert get(app, path) == 200
    assert measured.rows("request_count") == {route: 3}
    assert measured.rows("response_time") == {route: 3}
    assert measured.rows("block_rate") == {route: 3}


def test_sizes_and_errors_count_once_too(measured: Measured) -> None:
    app, _, route = nested_thrice(measured)
    assert get(app, "/a/acme/b/c/items/7", method="POST", body=b"12345") == 200
    assert get(app, "/a/other/b/c/items/500") == 500
    assert measured.rows("request_count") == {route: 2}
    assert measured.rows("error_rate") == {route: 1}
    assert measured.rows("bandwidth_usage") == {route: 5 + 10 + len(ERROR)}


def test_requests_for_nothing_have_no_route(measured: Measured) -> None:
    app, _, _ = mounted(measured)
    assert [get(app, path) for path in ("/nothing", "/v1/nothing")] == [404, 404]
    assert measured.rows("request_count") == {None: 2}


def test_other_pipelines_measure_as_before(measured: Measured) -> None:
    app, path, _ = mounted(measured)
    get(app, path)
    with_us = measured.measured_elsewhere()
    fastapi_apps.uninstall()
    get(app, path)
    assert measured.measured_elsewhere() == 2 * with_us > 0
    assert with_us >= 2


def test_many_hosts_fold_nothing(measured: Measured) -> None:
    import asyncio

    app, _, _ = plain(measured)

    async def ask() -> None:
        for number in range(2_100):
            await fetch(app, "/items/7", headers={"host": f"h{number}.example"})

    asyncio.run(ask())
    assert measured.rows("request_count") == {"/items/{n}": 2_100}


def test_what_is_excluded_from_the_instrumentation_is_not_measured(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = measured.app(instrumented=False)
    FastAPIInstrumentor.instrument_app(app, meter_provider=measured.made.meters, excluded_urls="items/8")
    get(app, "/items/7")
    get(app, "/items/8")
    assert measured.rows("request_count") == {"/items/{n}": 1}


@pytest.fixture
def stable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    yield
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)


@contextmanager
def measuring_for(*others: InMemoryMetricReader, views: Sequence[View] = (), **options: Any) -> Iterator[Measured]:
    """Measure for a Guard exporter and for other readers."""
    with guard_server() as server:
        reader = PeriodicExportingMetricReader(GuardMetricExporter(**server.settings), export_interval_millis=3_600_000)
        with pipeline(readers=[reader, *others], views=views) as made:
            fastapi_apps.install(GuardOptions(behavior=False, **options), made.emitter)
            try:
                yield Measured(made, server, others[0] if others else InMemoryMetricReader())
            finally:
                fastapi_apps.uninstall()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the HTTP instruments with which the SDK is asked to record, once for each measurement."""
    names: list[str] = []
    for cls, method in ((Histogram, "record"), (UpDownCounter, "add")):
        monkeypatch.setattr(cls, method, _noted(getattr(cls, method), names))
    return names


def _noted(method: Callable[..., None], names: list[str]) -> Callable[..., None]:
    def noting(self: Any, *arguments: Any, **named: Any) -> None:
        if self.name.startswith("http.server."):
            names.append(self.name)
        method(self, *arguments, **named)

    return noting


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Values that the SDK sorts into exponential buckets, which only the Guard exporter asks for here."""
    values: list[float] = []
    aggregate = _ExponentialBucketHistogramAggregation.aggregate

    def noting(self: Any, measurement: Any, *more: Any) -> None:
        if measurement.instrument.name.startswith("http.server."):
            values.append(measurement.value)
        aggregate(self, measurement, *more)

    monkeypatch.setattr(_ExponentialBucketHistogramAggregation, "aggregate", noting)
    return values


@pytest.mark.usefixtures("stable")
def test_what_only_the_guard_exporter_would_read_and_leave_is_not_recorded(recorded: list[str]) -> None:
    with measuring_for() as measured:
        app = measured.app()
        for _ in range(2):
            get(app, "/items/7")
        assert recorded
        measured.made.meters.force_flush()
        get(app, "/items/7")
        recorded.clear()
        for _ in range(2):
            get(app, "/items/7")
        assert recorded == []
        other = InMemoryMetricReader()
        measured.made.meters.add_metric_reader(other)
        get(app, "/items/7")
        assert "http.server.request.duration" in recorded
        assert "http.server.active_requests" in recorded
        measured._other = other
        assert measured.measured_elsewhere() == 1
        assert measured.rows("request_count") == {"/items/{n}": 6}


@pytest.mark.usefixtures("stable")
def test_what_another_reader_reads_is_not_kept_a_second_time_for_the_guard_exporter(kept: list[float]) -> None:
    other = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
    with measuring_for(other) as measured:
        app = measured.app()
        for _ in range(2):
            get(app, "/items/7", method="POST", body=b"123")
            measured.made.meters.force_flush()
        assert kept
        other.get_metrics_data()
        kept.clear()
        for number in (7, 8, 500):
            get(app, f"/items/{number}", method="POST" if number == 7 else "GET", body=b"123" if number == 7 else b"")
        assert kept == []
        points = _points(other, "http.server.request.duration")
        assert measured.rows("request_count") == {"/items/{n}": 2 + 3}
        figures = ("count", "sum", "min", "max")
        spreads = [
            [float(row["tags"][name]) for name in figures]
            for row in measured._server.metrics
            if row["metric_type"] == "response_time"
        ]
        assert len(points) == 3
        assert all([float(getattr(point, name)) for name in figures] in spreads for point in points)
        assert measured.rows("bandwidth_usage") == {"/items/{n}": 3 * (3 + 10) + 10 + len(ERROR)}


@pytest.mark.usefixtures("stable")
@pytest.mark.parametrize("is_installed", [True, False], ids=["installed", "uninstalled"])
def test_readers_that_come_and_go_read_what_is_measured_meanwhile(*, is_installed: bool) -> None:
    first, late = InMemoryMetricReader(), InMemoryMetricReader()
    with measuring_for(first) as measured:
        app = measured.app()

        @app.get("/late")
        async def come() -> None:
            measured.made.meters.add_metric_reader(late)

        for _ in range(2):
            get(app, "/items/7")
            measured.made.meters.force_flush()
        get(app, "/items/7")
        if not is_installed:
            fastapi_apps.uninstall()
        get(app, "/late")
        get(app, "/items/7")
        assert {point.attributes["http.route"]: point.count for point in _points(late, DURATION)} == {
            "/late": 1,
            "/items/{n}": 1,
        }
        measured.made.meters.remove_metric_reader(first)
        get(app, "/items/7")
        assert sum(point.count for point in _points(late, DURATION)) == 3
        if is_installed:
            assert measured.rows("request_count") == {"/items/{n}": 5, "/late": 1}


@pytest.mark.usefixtures("stable")
def test_the_reader_of_the_guard_exporter_is_not_asked_again_what_it_keeps_of_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    consume = MetricReaderStorage.consume_measurement

    def noting(self: Any, measurement: Any, *more: Any) -> None:
        if measurement.instrument.name.startswith("http.server."):
            asked.append(measurement.instrument.name)
        consume(self, measurement, *more)

    monkeypatch.setattr(MetricReaderStorage, "consume_measurement", noting)
    other = InMemoryMetricReader()
    with measuring_for(other) as measured:
        app = measured.app()
        get(app, "/items/7")
        measured.made.meters.force_flush()
        assert asked
        get(app, "/items/7")
        asked.clear()
        for _ in range(2):
            get(app, "/items/7")
        assert asked == []
        assert measured.measured_elsewhere() == 4
        assert measured.rows("request_count") == {"/items/{n}": 4}


@pytest.mark.usefixtures("stable")
@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside"])
def test_views_count_for_other_readers_and_keep_no_request_from_the_guard_exporter(*, is_alone: bool) -> None:
    other = InMemoryMetricReader()
    views = [
        View(instrument_name="http.server.active_requests", aggregation=DropAggregation()),
        View(instrument_name="http.server.request.duration", attribute_keys={"http.route"}),
        View(instrument_name="http.server.response.body.size", aggregation=ExplicitBucketHistogramAggregation([1, 9])),
    ]
    with measuring_for(*([] if is_alone else [other]), views=views, http_events=False) as measured:
        app = measured.app()
        for requests in (1, 2, 3):
            for _ in range(requests):
                get(app, "/items/7")
            measured.made.meters.force_flush()
        if not is_alone:
            [duration] = _points(other, "http.server.request.duration")
            assert (duration.count, duration.attributes) == (6, {"http.route": "/items/{n}"})
            [size] = _points(other, "http.server.response.body.size")
            assert (size.explicit_bounds, list(size.bucket_counts)) == ((1, 9), [0, 0, 6])
        assert measured.rows("request_count") == {"/items/{n}": 6}
        assert measured.rows("bandwidth_usage") == {"/items/{n}": 60}
        assert {row["tags"]["status_code"] for row in measured._server.metrics} == {"200"}


@pytest.mark.usefixtures("stable")
def test_what_is_dropped_by_a_view_stays_dropped() -> None:
    views = [View(instrument_name="http.server.*", aggregation=DropAggregation())]
    with measuring_for(InMemoryMetricReader(), views=views) as measured:
        app = measured.app()
        for _ in range(2):
            get(app, "/items/7")
            measured.made.meters.force_flush()
        assert measured.rows("request_count") == {}


@pytest.mark.usefixtures("stable")
def test_what_an_application_measures_itself_counts_once_beside_what_is_measured_for_it(kept: list[float]) -> None:
    with measuring_for(InMemoryMetricReader()) as measured:
        app = measured.app()
        own = measured.made.meters.get_meter("shop").create_histogram("http.server.request.duration", "s")
        for _ in range(3):
            get(app, "/items/7")
            own.record(0.25, {"http.route": "/own", "http.response.status_code": 200})
            measured.made.meters.force_flush()
        assert measured.rows("request_count") == {"/items/{n}": 3, "/own": 3}
        assert kept.count(0.25) == 3


@pytest.mark.usefixtures("stable")
def test_a_release_that_keeps_measurements_elsewhere_costs_more_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def moved(storage: Any, instrument: Any) -> None:
        raise AttributeError("_instrument_view_instrument_matches")

    monkeypatch.setattr(measuring, "spare", moved)
    other = InMemoryMetricReader()
    with measuring_for(other) as measured:
        app = measured.app()
        app.mount("/v1", measured.app())
        for _ in range(3):
            assert get(app, "/v1/items/7") == 200
            measured.made.meters.force_flush()
        assert measured.measured_elsewhere() == 6
        assert measured.rows("request_count") == {"/v1/items/{n}": 3}
    assert len([record for record in caplog.records if "please report this" in record.message]) <= 1


@pytest.mark.usefixtures("stable")
def test_a_request_that_can_not_be_told_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = asgi._parse_duration_attrs

    def odd(attributes: Any, *more: Any) -> Any:
        parsed = parse(attributes, *more)
        return {**parsed, "error.type": ["odd"]} if parsed.get("http.response.status_code") == 500 else parsed

    monkeypatch.setattr(asgi, "_parse_duration_attrs", odd)
    with measuring_for(InMemoryMetricReader()) as measured:
        app = measured.app()
        for _ in range(2):
            assert [get(app, f"/items/{number}") for number in (7, 500, 8)] == [200, 500, 200]
            measured.made.meters.force_flush()
        assert measured.rows("request_count") == {"/items/{n}": 4}


def _points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


def _under_way(reader: InMemoryMetricReader) -> list[int]:
    return [point.value for point in _points(reader, "http.server.active_requests")]


def test_requests_under_way_are_counted_for_others_and_a_reader_that_comes_late_finds_no_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "")
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    other, seen = InMemoryMetricReader(), []
    with guard_server() as server:
        reader = PeriodicExportingMetricReader(GuardMetricExporter(**server.settings), export_interval_millis=3_600_000)
        with pipeline(readers=[reader]) as made:
            fastapi_apps.install(GuardOptions(behavior=False), made.emitter)
            try:
                measured = Measured(made, server, other)
                app = measured.app()

                @app.get("/late")
                async def late() -> None:
                    made.meters.add_metric_reader(other)

                @app.get("/look")
                async def look() -> None:
                    seen.append(_under_way(other))

                app.mount("/inner", measured.app())
                get(app, "/items/7")
                made.meters.force_flush()
                get(app, "/inner/items/7")
                get(app, "/late")
                assert _under_way(other) in ([], [0])
                get(app, "/look")
                assert seen == [[1]]
                get(app, "/inner/items/7")
                assert set(_under_way(other)) == {0}
            finally:
                fastapi_apps.uninstall()
