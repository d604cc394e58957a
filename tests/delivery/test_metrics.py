"""What the delivery tells about itself through OpenTelemetry, in a process of its own with its own global provider."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

from support.guard_server import guard_server

from opentelemetry_guard.delivery.metrics import DeliveryMetrics
from opentelemetry_guard.delivery.stats import DeliveryStats
from opentelemetry_guard.events.tally import TALLY

PROGRAM = """
    import json
    from opentelemetry.metrics import set_meter_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry_guard import Emitter, GuardLogExporter

    exporter = GuardLogExporter()
    reader = InMemoryMetricReader()
    set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    emitter = Emitter(logs)
    for number in range(3):
        emitter.emit_event(event_type="access_denied", metadata={"number": number})
    assert exporter.delivery.flush(20)
    print(reader.get_metrics_data().to_json())
"""


def figures(**settings: str) -> dict[str, list[dict[str, Any]]]:
    """Return the data points of every instrument after three delivered events."""
    with guard_server() as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM)],
            env={**os.environ, **server.environment, **settings},
            check=True,
            capture_output=True,
            timeout=60,
        )
    found: dict[str, list[dict[str, Any]]] = {}
    for resource in json.loads(done.stdout)["resource_metrics"]:
        for scope in resource["scope_metrics"]:
            for metric in scope["metrics"]:
                found.setdefault(metric["name"], []).extend(metric["data"]["data_points"])
    return found


def test_the_ledger_the_queue_the_breaker_and_the_requests_are_metrics() -> None:
    found = figures()
    rows = {
        point["attributes"]["guard.delivery.row.state"]: point["value"]
        for point in found["guard.delivery.rows"]
        if point["attributes"]["guard.delivery.row.kind"] == "events"
    }
    assert rows == {"accepted": 3, "delivered": 3, "queued": 0, "in_flight": 0, "dead_lettered": 0}
    assert [point["value"] for point in found["guard.delivery.queue.depth"]] == [0]
    assert [point["value"] for point in found["guard.delivery.queue.bytes"]] == [0]
    assert {point["value"] for point in found["guard.delivery.breaker.state"]} == {0}
    routes = {point["attributes"]["guard.delivery.route"] for point in found["guard.delivery.breaker.state"]}
    assert routes == {"events", "metrics", "status", "rules"}
    (duration,) = (
        point
        for point in found["guard.delivery.send.duration"]
        if point["attributes"]["guard.delivery.route"] == "events"
    )
    assert duration["count"] >= 1
    assert duration["attributes"].pop("guard.delivery.destination") == found["guard.delivery.queue.depth"][0][
        "attributes"
    ].get("guard.delivery.destination")
    assert duration["attributes"] == {"server.address": "127.0.0.1", "guard.delivery.route": "events"}


def test_the_figures_of_a_collection_are_of_one_reading_and_the_next_collection_reads_again() -> None:
    readings = iter([DeliveryStats({}, depth, 0, None, {}, TALLY.read()) for depth in range(1, 4)])
    metrics = DeliveryMetrics("http://guard.example", "a", lambda: next(readings))
    seen = [metrics.reading(figure) for figure in ("depth", "bytes", "depth", "bytes", "bytes")]
    assert [stats.depth for stats in seen if stats is not None] == [1, 1, 2, 2, 3]


def test_the_sdks_own_exporter_metrics_are_off_by_default() -> None:
    assert not [name for name in figures() if name.startswith("otel.sdk.exporter")]


def test_switched_on_each_exported_item_counts_once() -> None:
    found = figures(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED="true")
    assert sum(point["value"] for point in found["otel.sdk.exporter.log.exported"]) == 3
    assert sum(point["value"] for point in found["otel.sdk.exporter.log.inflight"]) == 0


def test_an_exporter_that_is_switched_off_counts_its_items_as_failed() -> None:
    program = textwrap.dedent(PROGRAM).replace("assert exporter.delivery.flush(20)", "")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
            "OTEL_EXPORTER_GUARD_TIMEOUT": "soon",
        },
        check=True,
        capture_output=True,
        timeout=60,
    )
    text = done.stdout.decode()
    assert '"error.type": "export_disabled"' in text
