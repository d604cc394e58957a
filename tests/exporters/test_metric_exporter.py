"""The metric exporter: what was recorded arrives as rows whose totals match, and nothing is sent for nothing."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from support.guard_server import GuardServer, Json, guard_server
from support.pipeline import Pipeline, pipeline

from opentelemetry_guard import GuardMetricExporter
from opentelemetry_guard.models import SecurityMetric


def reader(server: GuardServer) -> PeriodicExportingMetricReader:
    """Return a reader that exports when it is flushed or shut down, and not before."""
    return PeriodicExportingMetricReader(GuardMetricExporter(**server.settings), export_interval_millis=3_600_000)


def rows(made: Pipeline, server: GuardServer, count: int) -> dict[str, Json]:
    """Flush, and return the newest `count` rows by type."""
    before = len(server.metrics)
    made.meters.force_flush()
    return {row["metric_type"]: row for row in server.wait_for_metrics(before + count)[before:]}


def test_metrics_of_every_type_arrive_as_one_row_for_each_series() -> None:
    with guard_server() as server, pipeline(readers=[reader(server)]) as made:
        for value in (1, 2, 3):
            for metric_type in (
                "request_count",
                "error_rate",
                "bandwidth_usage",
                "response_time",
                "threat_level",
                "block_rate",
                "cache_hit_rate",
            ):
                made.emitter.record_metric(metric_type=metric_type, value=value, endpoint="/a", tags={"k": "v"})
        told = rows(made, server, 7)
    assert {name: row["value"] for name, row in told.items()} == {
        "request_count": 6,
        "error_rate": 6,
        "bandwidth_usage": 6,
        "response_time": 2,
        "threat_level": 2,
        "block_rate": 2,
        "cache_hit_rate": 2,
    }
    assert {(row["endpoint"], row["tags"]["k"]) for row in told.values()} == {("/a", "v")}
    assert {"count", "sum", "min", "max", "p50", "p95", "p99"} <= told["response_time"]["tags"].keys()
    assert all(SecurityMetric.model_validate(row) for row in told.values())


def test_the_share_of_blocked_requests_is_one_row_for_each_route() -> None:
    with guard_server() as server, pipeline(readers=[reader(server)]) as made:
        for blocked in (True, False, False, False):
            made.emitter.count_request("/a", blocked=blocked)
        made.emitter.count_request(None, blocked=False)
        made.meters.force_flush()
        made.emitter.count_request("/a", blocked=True)
        made.meters.force_flush()
        made.meters.force_flush()
    told = [row for row in server.metrics if row["metric_type"] == "block_rate"]
    assert sorted((row["endpoint"] or "", row["value"]) for row in told) == [("", 0.0), ("/a", 0.25), ("/a", 1.0)]
    first = next(row["tags"] for row in told if row["value"] == 0.25)
    assert {name: float(value) for name, value in first.items() if not name.startswith("guard.")} == {
        "count": 4, "sum": 1.0, "min": 0.0, "max": 1.0, "p50": 0.0, "p95": pytest.approx(1), "p99": pytest.approx(1),
    }  # fmt: skip
    assert all(SecurityMetric.model_validate(row) for row in told)


def test_an_interval_counts_only_what_was_recorded_in_it_and_an_empty_one_is_not_sent() -> None:
    with guard_server() as server, pipeline(readers=[reader(server)]) as made:
        made.emitter.record_metric(metric_type="request_count", value=5)
        assert rows(made, server, 1)["request_count"]["value"] == 5
        made.meters.force_flush()
        made.emitter.record_metric(metric_type="request_count", value=2)
        assert rows(made, server, 1)["request_count"]["value"] == 2
        assert len(server.requests) == 2


def test_the_count_of_security_events_and_strangers_instruments_stay_here() -> None:
    with guard_server() as server, pipeline(readers=[reader(server)]) as made:
        made.emitter.emit_event(event_type="a")
        made.meters.get_meter("process").create_counter("process.cpu.time").add(5)
        made.meters.force_flush()
        assert server.requests == []


def test_what_is_left_is_delivered_by_the_shutdown() -> None:
    with guard_server() as server:
        with pipeline(readers=[reader(server)]) as made:
            made.emitter.record_metric(metric_type="threat_level", value=0.5)
        (row,) = server.metrics
    assert (row["metric_type"], row["value"], row["endpoint"]) == ("threat_level", 0.5, None)


def test_a_stranger_beside_it_sees_valid_otlp_of_the_same_measurements() -> None:
    stranger = InMemoryMetricReader()
    with guard_server() as server, pipeline(readers=[stranger, reader(server)]) as made:
        made.emitter.record_metric(metric_type="bandwidth_usage", value=2**63, tags={"raw": "\ud800"})
        rows(made, server, 1)
        data = stranger.get_metrics_data()
        assert data is not None
        assert encode_metrics(data).SerializeToString()


def test_the_sdks_names_for_time_limits_are_understood() -> None:
    with guard_server() as server:
        exporter = GuardMetricExporter(**server.settings)
        assert exporter.export(MetricsData([]), timeout_millis=10) is MetricExportResult.SUCCESS
        assert exporter.force_flush(1_000)
        exporter.shutdown(timeout=1_000)
        exporter.shutdown(timeout_millis=1_000)
