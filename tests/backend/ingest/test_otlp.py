"""What any OpenTelemetry pipeline may hand in: security events are stored, everything else is counted as rejected."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from support.backend import RunningBackend, running_backend

from opentelemetry_guard import SecurityEvent, emit_event
from opentelemetry_guard.backend.ingest.otlp import LOGS, PROTOBUF, TRACES, Form, read
from opentelemetry_guard.backend.refusal import Refusal

PROJECT = "test-project"
RESOURCE = Resource({"service.name": "shop", "service.version": "1.2", "deployment.environment.name": "test"})


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend() as running:
        yield running


def of(backend: RunningBackend, event_type: str) -> list[dict[str, Any]]:
    return backend.events(event_type)


def kind() -> str:
    """Return a type of events that no other test has."""
    return f"kind_{uuid4().hex}"


def send(backend: RunningBackend, signal: str, body: bytes, media: str = PROTOBUF, **headers: str) -> requests.Response:
    named = {"X-API-Key": backend.api_key, "Content-Type": media, **headers}
    sent = {name.replace("_", "-"): value for name, value in named.items() if value}
    return backend.http.post(f"{backend.url}/v1/{signal}", data=body, headers=sent, timeout=20)


def record(event_name: str | None, attributes: dict[str, Any], at: int = 1_767_323_045_000_000_000) -> Any:
    log = LogRecord(timestamp=at, event_name=event_name, attributes=attributes, body="told")
    return ReadableLogRecord(log, RESOURCE, InstrumentationScope("theirs"))


def encoded(*records: Any) -> bytes:
    body: bytes = encode_logs(records).SerializeToString()
    return body


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_events_of_our_emitter_come_through_the_sdks_own_exporter_as_they_were_given(
    backend: RunningBackend, header: str
) -> None:
    headers = {header: backend.api_key if header == "X-API-Key" else f"Bearer {backend.api_key}"}
    logs, traces = LoggerProvider(resource=RESOURCE), TracerProvider(resource=RESOURCE)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{backend.url}/v1/logs", headers=headers)))
    traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{backend.url}/v1/traces", headers=headers)))
    given = SecurityEvent(
        event_type=kind(),
        timestamp=datetime(2026, 1, 2, 3, 4, 5, 678901, timezone.utc),
        ip_address="192.0.2.1",
        action_taken="request_blocked",
        endpoint="/items/{id}",
        status_code=403,
        response_time=0.25,
        metadata={"nested": {"a": [1, None, True]}, "rule": "r"},
    )
    with traces.get_tracer("shop").start_as_current_span("GET /items/{id}") as span:
        emit_event(given, logger_provider=logs)
    logs.shutdown()
    traces.shutdown()
    # The log record and the span bear the same event.
    (stored,) = of(backend, given.event_type)
    sent = given.model_dump(mode="json")
    assert {name: stored[name] for name in sent if name != "metadata"} == {
        name: value for name, value in sent.items() if name != "metadata"
    }
    metadata = stored["metadata"]
    assert {name: metadata[name] for name in given.metadata} == given.metadata
    assert metadata["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert metadata["guard.service.name"] == "shop"


def test_an_event_of_a_span_alone_is_stored(backend: RunningBackend) -> None:
    event_type = kind()
    traces = TracerProvider(resource=RESOURCE)
    headers = {"X-API-Key": backend.api_key}
    traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{backend.url}/v1/traces", headers=headers)))
    with traces.get_tracer("theirs").start_as_current_span("GET /") as span:
        span.add_event("guard.security_event", {"guard.event_type": event_type, "client.address": "192.0.2.9"})
    traces.shutdown()
    (stored,) = of(backend, event_type)
    assert stored["ip_address"] == "192.0.2.9"
    assert stored["metadata"]["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_what_is_no_security_event_is_rejected_by_its_count_and_not_stored(backend: RunningBackend) -> None:
    event_type, before = kind(), sum(backend.summary()["events"].values())
    theirs = {"guard.event_type": event_type}
    body = encoded(record("guard.security_event", theirs), record(None, theirs), record("other", {"a": "hunter2"}))
    answer = send(backend, "logs", body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, PROTOBUF)
    partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_log_records == 2
    assert partial.error_message.startswith("2 of 3 log records bear no guard.security_event")
    assert "hunter2" not in partial.error_message
    assert len(of(backend, event_type)) == 1
    assert sum(backend.summary()["events"].values()) == before + 1


def test_a_span_without_a_security_event_is_rejected(backend: RunningBackend) -> None:
    spans = {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "GET /"}, {"events": [{"name": "exception"}]}]}]}]}
    answer = send(backend, "traces", json.dumps(spans).encode(), "application/json")
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "2"


def test_full_success_has_no_partial_success(backend: RunningBackend) -> None:
    answer = send(backend, "logs", encoded(record("guard.security_event", {"guard.event_type": kind()})))
    assert not ExportLogsServiceResponse.FromString(answer.content).HasField("partial_success")
    assert send(backend, "traces", b"").content == b""
    assert not ExportTraceServiceResponse.FromString(b"").HasField("partial_success")


def test_json_has_hexadecimal_ids_and_an_answer_in_json(backend: RunningBackend) -> None:
    event_type = kind()
    log = {
        "timeUnixNano": "1767323045000000000",
        "eventName": "guard.security_event",
        "traceId": "0123456789abcdef0123456789abcdef",
        "spanId": "0123456789ABCDEF",
        "aFieldOfTomorrow": 1,
        "attributes": [
            {"key": "guard.event_type", "value": {"stringValue": event_type}},
            {"key": "http.response.status_code", "value": {"intValue": "403"}},
        ],
    }
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}).encode()
    answer = send(backend, "logs", gzip.compress(body), "application/json; charset=utf-8", Content_Encoding="gzip")
    assert (answer.status_code, answer.json()) == (200, {})
    (stored,) = of(backend, event_type)
    assert (stored["status_code"], stored["timestamp"]) == (403, "2026-01-02T03:04:05Z")
    assert stored["metadata"]["trace_id"] == "0123456789abcdef0123456789abcdef"
    assert stored["metadata"]["span_id"] == "0123456789abcdef"


def test_an_event_whose_key_a_limit_has_cut_is_another_than_its_like_and_the_same_when_it_comes_again() -> None:
    cut = {"log.record.uid": "01a22", "guard.event_type": "x", "guard.truncated": {"log.record.uid": 36}}
    first, second = (encoded(record("guard.security_event", cut, at)) for at in (1_000_000_000, 2_000_000_000))
    keys = [read(LOGS, PROTOBUF, body).events[0].idempotency_key for body in (first, first, second)]
    assert keys[0] == keys[1] != keys[2]


def test_whatever_a_resource_has_a_sender_writes_nothing_into_the_backends_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = ExportLogsServiceRequest.FromString(encoded(record("guard.security_event", {"guard.event_type": "x"})))
    attributes = request.resource_logs[0].resource.attributes
    attributes.add()  # without a name
    for name in ("host.ip", "service.instance.id"):
        mixed = attributes.add(key=name).value.array_value.values
        mixed.add().int_value = 1
        mixed.add().string_value = "a"
        mixed.add()
    attributes.add(key="nothing")
    found = read(LOGS, PROTOBUF, request.SerializeToString())
    assert found.events[0].metadata["guard.service.name"] == "shop"
    assert "guard.service.instance.id" not in found.events[0].metadata
    assert caplog.messages == []


def test_an_event_without_a_key_that_comes_again_is_stored_once(backend: RunningBackend) -> None:
    event_type = kind()
    theirs = {"guard.event_type": event_type, "client.address": "192.0.2.4"}
    first, later = (record("guard.security_event", theirs, at) for at in (1_000_000_000, 2_000_000_000))
    for body in (encoded(first), encoded(first), encoded(later, first)):
        assert send(backend, "logs", body).status_code == 200
    stored = of(backend, event_type)
    assert len(stored) == 2
    added = {"guard.behavior.correlation_key", "guard.threat_score", "guard.service.name"}
    assert stored[0]["metadata"].keys() >= added


def test_events_outside_of_the_window_are_rejected() -> None:
    with running_backend(window_days="1") as backend:
        body = encoded(record("guard.security_event", {"guard.event_type": "old"}, 1_000_000_000))
        partial = ExportLogsServiceResponse.FromString(send(backend, "logs", body).content).partial_success
        assert partial.rejected_log_records == 1
        assert "window" in partial.error_message
        assert backend.events() == []


@pytest.mark.parametrize(
    ("status", "body", "media", "headers"),
    [
        (400, b"\xff\xff", PROTOBUF, {}),
        (400, b"{", "application/json", {}),
        (400, b"[]", "application/json", {}),
        (400, b'{"resourceLogs": 5}', "application/json", {}),
        (400, b'{"resourceLogs": [[]]}', "application/json", {}),
        (400, b'{"resourceLogs": [{"schemaUrl": "hunter2\\ud800"}]}', "application/json", {}),
        (400, b"x", PROTOBUF, {"Content_Encoding": "gzip"}),
        (401, b"", PROTOBUF, {"X_API_Key": "", "X-API-Key": ""}),
        (401, b"", PROTOBUF, {"X-API-Key": "", "Authorization": "Bearer hunter2"}),
        (401, b"", PROTOBUF, {"X-API-Key": "", "Authorization": "Basic dGVzdC1rZXk="}),
        (413, bytes(2 * 1024 * 1024 + 1), PROTOBUF, {}),
        (415, b"", "text/plain", {}),
        (415, b"", "", {}),
    ],
)
def test_a_refusal_is_a_status_with_a_message_that_repeats_nothing(
    backend: RunningBackend, status: int, body: bytes, media: str, headers: dict[str, str]
) -> None:
    answer = send(backend, "logs", body, media, **headers)
    assert answer.status_code == status
    if media == "application/json":
        message = answer.json()["message"]
    else:
        # Of the same form on the wire as a google.rpc.Status.
        message = ExportTracePartialSuccess.FromString(answer.content).error_message
    assert message
    assert "hunter2" not in message


def test_a_request_in_chunks_is_taken(backend: RunningBackend) -> None:
    event_type = kind()
    body = encoded(record("guard.security_event", {"guard.event_type": event_type}))
    headers = {"X-API-Key": backend.api_key, "Content-Type": PROTOBUF}
    answer = backend.http.post(f"{backend.url}/v1/logs", data=iter([body[:20], body[20:]]), headers=headers, timeout=20)
    assert answer.status_code == 200
    assert len(of(backend, event_type)) == 1


def test_the_contracts_own_calls_take_no_bearer(backend: RunningBackend) -> None:
    headers = {"Authorization": f"Bearer {backend.api_key}"}
    assert backend.http.get(f"{backend.url}/api/v1/rules", headers=headers, timeout=60).status_code == 401


def refused_with(form: Form, media: str, body: bytes) -> int | None:
    try:
        read(form, media, body)
    except Refusal as refusal:
        return refusal.status
    return None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_refusal(body: bytes) -> None:
    for form in (LOGS, TRACES):
        for media in (PROTOBUF, "application/json"):
            assert refused_with(form, media, body) in (400, None)
