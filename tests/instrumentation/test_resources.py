"""One setting measures what the process uses and how late its event loop runs, and nothing of the whole machine."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import weakref
from collections.abc import Iterator
from importlib.metadata import requires

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from opentelemetry.instrumentation._semconv import (
    OTEL_SEMCONV_STABILITY_OPT_IN,
    _OpenTelemetrySemanticConventionStability,
)
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric
from packaging.requirements import Requirement

from opentelemetry_guard import semconv
from opentelemetry_guard.exporters.metric_rows import PREFERRED_AGGREGATION, PREFERRED_TEMPORALITY, MetricMapper
from opentelemetry_guard.instrumentation import resources
from opentelemetry_guard.process.usage import usage
from opentelemetry_guard.settings.instrumentation import GuardOptions

ON = GuardOptions(resource_metrics=True)

PROCESS_METRICS = {
    "process.cpu.time",
    "process.cpu.utilization",
    "process.memory.usage",
    "process.memory.virtual",
    "process.thread.count",
    "process.open_file_descriptor.count",
    "process.context_switches",
    "process.disk.io",
    "cpython.gc.collections",
    "cpython.gc.collected_objects",
    "cpython.gc.uncollectable_objects",
}


class Measured:
    """A meter provider and what it has measured; it collects as the Guard exporter asks."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader(PREFERRED_TEMPORALITY, PREFERRED_AGGREGATION)
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def metrics(self) -> dict[str, Metric]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}


@pytest.fixture
def measured() -> Iterator[Measured]:
    measured = Measured()
    yield measured
    resources.uninstall()
    measured.provider.shutdown()
    SystemMetricsInstrumentor._instance = None


def lag_of(measured: Measured) -> HistogramDataPoint | None:
    metric = measured.metrics().get(semconv.ASYNCIO_EVENTLOOP_LAG)
    return metric.data.data_points[0] if metric is not None else None


def test_nothing_is_measured_by_default(measured: Measured) -> None:
    resources.install(GuardOptions(), measured.provider)
    asyncio.run(_serve())
    assert measured.metrics() == {}
    assert SystemMetricsInstrumentor._instance is None


def test_the_process_is_measured_and_the_machine_is_not(measured: Measured) -> None:
    resources.install(ON, measured.provider)
    assert measured.metrics().keys() == PROCESS_METRICS
    assert all(metric.data.data_points for metric in measured.metrics().values())


def test_metrics_that_the_operator_excluded_are_not_measured(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS", "process.memory.*, cpython.*")
    resources.install(ON, measured.provider)
    expected = {name for name in PROCESS_METRICS if not name.startswith(("process.memory", "cpython"))}
    assert measured.metrics().keys() == expected


def test_the_guard_exporter_passes_over_them_without_counting_a_drop(measured: Measured) -> None:
    resources.install(ON, measured.provider)
    _record_lag(measured)
    data = measured.reader.get_metrics_data()
    assert data is not None
    mapped = MetricMapper().rows(data)
    assert mapped.rows == []
    assert mapped.dropped == {}


def test_a_second_install_changes_nothing_and_a_new_one_follows_an_uninstall(
    measured: Measured, caplog: pytest.LogCaptureFixture
) -> None:
    resources.install(ON, measured.provider)
    resources.install(ON, measured.provider)
    resources.uninstall()
    resources.uninstall()
    resources.install(ON, measured.provider)
    assert caplog.records == []
    assert measured.metrics().keys() == PROCESS_METRICS


@pytest.mark.parametrize("theirs_first", [True, False])
def test_where_the_system_metrics_instrumentation_measures_it_measures_alone_and_nobody_complains(
    measured: Measured, caplog: pytest.LogCaptureFixture, theirs_first: bool
) -> None:
    own = SystemMetricsInstrumentor(config={"process.thread.count": None})
    if theirs_first:
        own.instrument(meter_provider=measured.provider)
    resources.install(ON, measured.provider)
    if not theirs_first:
        own.instrument(meter_provider=measured.provider)
    assert measured.metrics().keys() == {"process.thread.count"}
    resources.uninstall()
    assert own.is_instrumented_by_opentelemetry
    assert caplog.records == []
    own.uninstrument()


def test_the_extra_brings_no_instrumentation_that_would_be_loaded_by_itself() -> None:
    needed = [Requirement(text) for text in requires("opentelemetry-guard") or []]
    extra = [each.name for each in needed if each.marker and each.marker.evaluate({"extra": "resources"})]
    assert "psutil" in extra
    assert "opentelemetry-instrumentation-system-metrics" not in extra


def test_the_status_tells_what_the_process_uses_while_it_is_measured(measured: Measured) -> None:
    assert usage() == {}
    resources.install(ON, measured.provider)
    _record_lag(measured)
    found = usage()
    assert found.keys() == {"cpu", "memory", "loop_lag"}
    assert found["memory"] > 1_000_000
    assert found["loop_lag"] == pytest.approx(0.1)
    resources.uninstall()
    assert usage() == {}


def test_a_missing_package_is_said_once_with_the_extra_and_the_loop_is_measured_all_the_same(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    for _ in range(2):
        resources.install(ON, measured.provider)
        resources.uninstall()
    resources.install(ON, measured.provider)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "pip install 'opentelemetry-guard[resources]'" in record.getMessage()
    _record_lag(measured)
    assert lag_of(measured) is not None


async def _serve() -> None:
    resources.watch_loop()
    resources.watch_loop()


def _record_lag(measured: Measured) -> None:
    """Let a loop run late by a tenth of a second, in the time of the loop."""
    loop = _Loop()
    assert resources._lag is not None
    resources._lag.watch(loop)
    loop.advance(1.1)
    loop.close()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is set by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 100.0

    def time(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds
        self.run_until_complete(asyncio.sleep(0))

    def timers(self) -> int:
        return len(self._scheduled)  # type: ignore[attr-defined]


@pytest.fixture
def loop() -> Iterator[_Loop]:
    loop = _Loop()
    yield loop
    loop.close()


def test_the_lag_is_how_late_the_loop_ran_in_seconds(measured: Measured, loop: _Loop) -> None:
    resources.install(ON, measured.provider)
    loop.run_until_complete(_serve())
    assert loop.timers() == 1
    for seconds in (1.0, 1.25, 3.0):
        loop.advance(seconds)
    point = lag_of(measured)
    assert point is not None
    assert (point.count, point.min, point.max) == (3, 0.0, 2.0)
    assert point.sum == pytest.approx(2.25)
    assert loop.timers() == 1


def test_the_timer_keeps_no_requests_context_alive(measured: Measured, loop: _Loop) -> None:
    class Request:
        pass

    variable: contextvars.ContextVar[Request | None] = contextvars.ContextVar("request", default=None)

    async def serve() -> weakref.ref[Request]:
        request = Request()
        variable.set(request)
        await _serve()
        return weakref.ref(request)

    resources.install(ON, measured.provider)
    request = loop.run_until_complete(serve())
    gc.collect()
    assert request() is None
    assert loop.timers() == 1


def test_a_closed_loop_is_forgotten(measured: Measured) -> None:
    resources.install(ON, measured.provider)
    loop = _Loop()
    loop.run_until_complete(_serve())
    loop.close()
    assert loop.timers() == 0
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None


def test_no_timer_outlives_an_uninstall(measured: Measured, loop: _Loop) -> None:
    resources.install(ON, measured.provider)
    loop.run_until_complete(_serve())
    resources.uninstall()
    loop.advance(5.0)
    assert loop.timers() == 0
    assert lag_of(measured) is None
    loop.run_until_complete(_serve())
    assert loop.timers() == 0


def test_each_loop_is_measured(measured: Measured, loop: _Loop) -> None:
    resources.install(ON, measured.provider)
    other = _Loop()
    for one in (loop, other):
        one.run_until_complete(_serve())
        one.advance(1.0)
    other.close()
    point = lag_of(measured)
    assert point is not None
    assert point.count == 2


@pytest.mark.parametrize("convention", ["", "http"], ids=["old", "new"])
def test_body_sizes_of_a_fastapi_application_become_bandwidth(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, convention: str
) -> None:
    monkeypatch.setenv(OTEL_SEMCONV_STABILITY_OPT_IN, convention)
    # The instrumentation reads the variable once a process.
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> str:
        return (await request.body()).decode()

    FastAPIInstrumentor.instrument_app(app, meter_provider=measured.provider)
    TestClient(app).post("/echo", content=b"x" * 500)
    data = measured.reader.get_metrics_data()
    assert data is not None
    usage = {
        row["tags"]["direction"]: row["value"]  # type: ignore[index,call-overload]
        for row in MetricMapper().rows(data).rows
        if row["metric_type"] == "bandwidth_usage"
    }
    assert usage == {"request": 500.0, "response": 502.0}
