"""Each event says whose it is: the service, release, environment and instance of its Resource."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from support.guard_server import GuardServer, guard_server
from support.otlp import hop
from support.rows import decoded
from support.strategies import events

from opentelemetry_guard import Emitter, SecurityEvent
from opentelemetry_guard.delivery import registry
from opentelemetry_guard.events import codec
from opentelemetry_guard.events.enrichment import RESOURCE_KEYS
from opentelemetry_guard.events.origin import origin_of
from opentelemetry_guard.events.record import EventAttributes
from opentelemetry_guard.exporters.event_rows import rows_of_records
from opentelemetry_guard.exporters.log import GuardLogExporter
from opentelemetry_guard.exporters.metric import GuardMetricExporter
from opentelemetry_guard.exporters.span import GuardSpanExporter

SHOP = Resource(
    {
        "service.name": "shop",
        "service.version": "1.2.3",
        "service.instance.id": "pod-7",
        "deployment.environment.name": "production",
        "deployment.environment": "old name",
        "host.name": "not told",
    }
)
TOLD = {
    "guard.service.name": "shop",
    "guard.service.version": "1.2.3",
    "guard.service.instance.id": "pod-7",
    "guard.deployment.environment": "production",
}


@contextmanager
def emitter(server: GuardServer, resource: Resource) -> Iterator[Emitter]:
    logs, spans = (provider(resource=resource, shutdown_on_exit=False) for provider in (LoggerProvider, TracerProvider))
    logs.add_log_record_processor(SimpleLogRecordProcessor(GuardLogExporter(**server.settings)))
    spans.add_span_processor(SimpleSpanProcessor(GuardSpanExporter(**server.settings)))
    yield Emitter(logs, spans)
    logs.shutdown()
    spans.shutdown()


def service_of(event: Any) -> dict[str, Any]:
    return {key: value for key, value in event["metadata"].items() if key in TOLD}


def test_the_backend_is_told_of_the_service() -> None:
    with guard_server() as server:
        with emitter(server, SHOP) as made:
            made.emit_event(event_type="ip_blocked", metadata={"own": 1})
            made.emit_event(event_type="ip_blocked")
        assert [service_of(event) for event in server.events] == [TOLD, TOLD]
        assert [event["metadata"]["own"] for event in server.events if "own" in event["metadata"]] == [1]


def test_a_metric_row_tells_it_in_its_tags() -> None:
    with guard_server() as server:
        meters = MeterProvider(
            [PeriodicExportingMetricReader(GuardMetricExporter(**server.settings), math.inf)],
            resource=SHOP,
            shutdown_on_exit=False,
        )
        Emitter(meter_provider=meters).record_metric(metric_type="bandwidth_usage", value=1, tags={"own": "x"})
        meters.force_flush()
        meters.shutdown()
        (row,) = server.metrics
    assert {key: value for key, value in row["tags"].items() if key in (*TOLD, "own")} == {**TOLD, "own": "x"}


def test_a_span_event_tells_it_too() -> None:
    with guard_server() as server:
        spans = TracerProvider(resource=SHOP, shutdown_on_exit=False)
        spans.add_span_processor(SimpleSpanProcessor(GuardSpanExporter(**server.settings)))
        Emitter(tracer_provider=spans).emit_event(event_type="ip_blocked")
        spans.shutdown()
        assert [service_of(event) for event in server.events] == [TOLD]


def test_a_service_that_nobody_has_named_is_not_told() -> None:
    with guard_server() as server:
        with emitter(server, Resource.create({"deployment.environment": "staging"})) as made:
            made.emit_event(event_type="ip_blocked")
        (found,) = (service_of(event) for event in server.events)
        assert found["guard.deployment.environment"] == "staging"
        assert "guard.service.name" not in found


@pytest.mark.parametrize(("written", "told"), [("till", "till"), ("guard-core", "shop")])
def test_what_guard_core_has_written_stays_unless_it_is_its_default(written: str, told: str) -> None:
    with guard_server() as server:
        with emitter(server, SHOP) as made:
            made.emit_event(event_type="ip_blocked", metadata={"guard.service.name": written})
        assert [service_of(event) for event in server.events] == [{**TOLD, "guard.service.name": told}]


@given(
    events,
    st.dictionaries(st.sampled_from(["service.name", "service.version", "service.instance.id"]), st.text()),
    st.dictionaries(st.sampled_from(sorted(RESOURCE_KEYS.values())), st.text() | st.just("guard-core"), max_size=2),
    st.sampled_from([(0, 0), (0xAB, 0xCD)]),
)
def test_an_encoded_row_and_a_plain_one_say_the_same(
    event: SecurityEvent, attributes: dict[str, str], named: dict[str, str], trace: tuple[int, int]
) -> None:
    origin = origin_of(Resource(attributes))
    row, _ = codec.to_row(event.model_copy(update={"metadata": {**event.metadata, **named}}))
    carried = EventAttributes(row, codec.encoded(row), True, None, None).carried(*trace, origin)
    if carried is None:
        assert codec.has_trace(row)
    else:
        assert carried.decoded() == origin.put_into(codec.complete(row, *trace))


def test_a_record_from_a_collector_has_its_own_services_name() -> None:
    kept = InMemoryLogRecordExporter()
    logs = LoggerProvider(resource=SHOP, shutdown_on_exit=False)
    logs.add_log_record_processor(SimpleLogRecordProcessor(kept))
    Emitter(logs).emit_event(event_type="ip_blocked")
    (row,) = decoded(rows_of_records(hop(kept.get_finished_logs())))
    assert service_of(row) == TOLD


def test_a_status_report_says_whose_delivery_it_is() -> None:
    with guard_server() as server, emitter(server, SHOP) as made:
        made.emit_event(event_type="ip_blocked")
        (delivery,) = registry.everyone()
        assert delivery.status().service == {
            "name": "shop",
            "version": "1.2.3",
            "instance": "pod-7",
            "environment": "production",
        }


def test_the_first_report_knows_what_the_environment_says_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "till")
    with guard_server() as server:
        exporter = GuardLogExporter(**server.settings)
        assert exporter.delivery is not None
        assert exporter.delivery.status().service == {"name": "till"}
        exporter.shutdown()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"service.version": 2}, {"guard.service.version": "2"}),
        (
            {"service.name": "shop", "service.version": 1.5},
            {"guard.service.name": "shop", "guard.service.version": "1.5"},
        ),
        ({"service.name": "unknown_service"}, {}),
        ({"service.name": "unknown_service:uvicorn"}, {}),
        ({"service.name": "unknown_services"}, {"guard.service.name": "unknown_services"}),
        ({"service.name": True, "service.version": ["1"], "service.instance.id": ""}, {}),
        ({"deployment.environment.name": "", "deployment.environment": "old"}, {"guard.deployment.environment": "old"}),
    ],
)
def test_what_a_resource_says_in_its_own_way(given: dict[str, Any], told: dict[str, str]) -> None:
    assert origin_of(Resource(given)).values == told
