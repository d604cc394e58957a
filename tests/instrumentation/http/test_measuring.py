"""Metrics of mounted applications: what the Guard exporter ships is each request once, under its whole route."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Response
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from starlette.routing import Host, Mount, Router
from support.asgi import fetch, get
from support.guard_server import GuardServer, guard_server
from support.pipeline import Pipeline, pipeline

from opentelemetry_guard import GuardMetricExporter
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.instrumentation.http import measuring
from opentelemetry_guard.settings.instrumentation import GuardOptions

App = Callable[[Any, Any, Any], Any]


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
    for _ in range(3):
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
    # What FastAPI answers to an HTTPException has 34 bytes.
    assert measured.rows("bandwidth_usage") == {route: 5 + 10 + len('{"detail":"Internal Server Error"}')}


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


class _Recorded:
    """An instrument that counts what is recorded with it."""

    def __init__(self, instrument: Any) -> None:
        self._instrument = instrument
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instrument, name)

    def record(self, *arguments: Any, **named: Any) -> None:
        self.count += 1
        self._instrument.record(*arguments, **named)


def test_what_only_the_guard_exporter_would_read_and_leave_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "")
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    recorded: list[_Recorded] = []
    heard = measuring._Heard.__init__

    def counting(self: Any, instrument: Any) -> None:
        recorded.append(_Recorded(instrument))
        heard(self, recorded[-1])

    monkeypatch.setattr(measuring._Heard, "__init__", counting)
    with guard_server() as server:
        reader = PeriodicExportingMetricReader(GuardMetricExporter(**server.settings), export_interval_millis=3_600_000)
        with pipeline(readers=[reader]) as made:
            fastapi_apps.install(GuardOptions(behavior=False), made.emitter)
            try:
                measured = Measured(made, server, InMemoryMetricReader())
                app = measured.app()
                for _ in range(2):
                    get(app, "/items/7")
                before = sum(instrument.count for instrument in recorded)
                assert before >= 2
                made.meters.force_flush()
                for _ in range(3):
                    get(app, "/items/7")
                assert sum(instrument.count for instrument in recorded) == before
                other = InMemoryMetricReader()
                made.meters.add_metric_reader(other)
                get(app, "/items/7")
                assert sum(instrument.count for instrument in recorded) > before
                measured._other = other
                assert measured.measured_elsewhere() == 1
                assert measured.rows("request_count") == {"/items/{n}": 6}
            finally:
                fastapi_apps.uninstall()


def _under_way(reader: InMemoryMetricReader) -> list[int]:
    data = reader.get_metrics_data()
    return [
        point.value  # type: ignore[union-attr]
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "http.server.active_requests"
        for point in metric.data.data_points
    ]


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
