"""`OTEL_LOGS_EXPORTER=otlp,guard`: what a security engineer asks is answered by the attributes that OTLP carries.

The receiver is a server of OTLP/HTTP that decodes the protobuf; the program is zero-code, in a process of its own.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from support.commands import environment
from support.guard_server import GuardServer, guard_server

PROGRAM = """
from opentelemetry import trace
from opentelemetry_guard import emit_event

tracer = trace.get_tracer("shop")
SQL = {"rule_type": "sql_injection", "metadata": {"category": "injection"}}
with tracer.start_as_current_span("GET /search") as span:
    print(f"{span.get_span_context().trace_id:032x}", flush=True)
    emit_event(event_type="pattern_detected", ip_address="203.0.113.7", action_taken="logged", **SQL)
    emit_event(event_type="penetration_attempt", ip_address="203.0.113.7", country="NL", method="GET",
               endpoint="/search", status_code=403, user_agent="sqlmap/1.9", action_taken="request_blocked",
               reason="SQL injection", **SQL)
emit_event(event_type="access_denied", ip_address="203.0.113.7", country="NL", method="GET", endpoint="/admin",
           status_code=403, user_agent="sqlmap/1.9", action_taken="blocked")
emit_event(event_type="ip_blocked", ip_address="198.51.100.4", country="RU", method="GET", endpoint="/",
           status_code=403, action_taken="request_blocked", rule_type="ip_blacklist", pattern_matched="198.51.100.0/24")
emit_event(event_type="country_blocked", ip_address="198.51.100.9", country="RU", method="GET",
           endpoint="/items/{item}", status_code=403, action_taken="request_blocked", rule_type="country")
emit_event(event_type="rate_limited", ip_address="192.0.2.8", country="FR", method="POST", endpoint="/login",
           status_code=429, response_time=0.002, action_taken="request_blocked", rule_type="endpoint_rate_limit")
for number in range(3):
    emit_event(event_type="authentication_failed", ip_address="192.0.2.8", country="FR", method="POST",
               endpoint="/login", status_code=401, action_taken="logged", metadata={"user": "ada", "try": number})
emit_event(event_type="penetration_attempt", ip_address="203.0.113.99", method="GET", endpoint="/download",
           status_code=200, user_agent="curl/8", action_taken="logged_only", rule_type="path_traversal",
           metadata={"category": "traversal"})
"""


@dataclass(frozen=True)
class Record:
    """A log record as the receiver has it: attributes of one level, and the resource's."""

    body: str
    severity: str
    event_name: str
    trace_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)


def _flat(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        assert kind in ("string_value", "int_value", "double_value", "bool_value"), f"{pair.key} is a {kind}"
        found[pair.key] = getattr(pair.value, kind)
    return found


def _records(body: bytes) -> Iterator[Record]:
    for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                assert record.body.WhichOneof("value") == "string_value"
                yield Record(
                    record.body.string_value,
                    record.severity_text,
                    record.event_name,
                    record.trace_id.hex(),
                    _flat(record.attributes),
                    resource,
                )


@contextmanager
def receiver() -> Iterator[tuple[str, list[Record]]]:
    """Serve OTLP/HTTP on loopback; give its address, and the records that it has got."""
    got: list[Record] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/logs":
                got.extend(_records(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportLogsServiceResponse().SerializeToString())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Received:
    """What both sides have, and the trace that the program told."""

    records: list[Record]
    rows: list[Any]
    trace_id: str
    lines: list[Any]
    """What is in the event log."""

    def where(self, **wanted: Any) -> list[Record]:
        """Return the records with these attributes, whose dots are underscores twice here."""
        named = {name.replace("__", "."): value for name, value in wanted.items()}
        return [one for one in self.records if all(one[name] == value for name, value in named.items())]


def _run(home: Path, guard: GuardServer, otlp: str) -> str:
    program = home / "program.py"
    program.write_text(PROGRAM)
    variables = {
        "OTEL_LOGS_EXPORTER": "otlp,guard",
        "OTEL_TRACES_EXPORTER": "guard",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_GUARD_ENDPOINT": guard.settings["endpoint"],
        "OTEL_EXPORTER_GUARD_API_KEY": guard.api_key,
        "OTEL_EXPORTER_GUARD_QUEUE_URL": "memory://",
        "OTEL_EXPORTER_GUARD_EVENT_LOG": str(home / "logs" / "events.ndjson"),
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.2.3,deployment.environment.name=production",
    }
    command = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, str(program)]
    ended = subprocess.run(command, env=environment(home, **variables), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Received:
    with guard_server() as guard, receiver() as (otlp, records):
        home = tmp_path_factory.mktemp("home")
        trace_id = _run(home, guard, otlp)
        guard.wait_until(lambda: len(guard.events) == 10, "all events")
        lines = [json.loads(line) for line in (home / "logs" / "events.ndjson").read_bytes().splitlines()]
        return Received(list(records), list(guard.events), trace_id, lines)


def test_every_event_is_there_once_as_a_sentence_and_flat_values(received: Received) -> None:
    assert len(received.records) == len(received.rows) == 10
    assert {record.event_name for record in received.records} == {"guard.security_event"}
    assert "GET /search from 203.0.113.7 request_blocked: SQL injection" in {one.body for one in received.records}


def test_1_all_403s_of_one_address(received: Received) -> None:
    found = received.where(client__address="203.0.113.7", http__response__status_code=403)
    assert [one["url.path"] for one in found] == ["/search", "/admin"]


def test_2_all_events_of_a_rule_and_of_a_kind_of_threat(received: Received) -> None:
    found = received.where(security_rule__name="sql_injection")
    assert [one["guard.event_type"] for one in found] == ["pattern_detected", "penetration_attempt"]
    assert received.where(security_rule__category="injection") == found


def test_3_what_was_blocked_by_country(received: Received) -> None:
    stopped = [one for one in received.records if "blocked" in one["guard.action_taken"]]
    assert Counter(one["geo.country.iso_code"] for one in stopped) == {"NL": 2, "RU": 2, "FR": 1}


def test_4_the_events_of_a_trace(received: Received) -> None:
    found = [one for one in received.records if one.trace_id == received.trace_id]
    assert [one["guard.event_type"] for one in found] == ["pattern_detected", "penetration_attempt"]


def test_5_which_attacks_were_let_through(received: Received) -> None:
    found = [
        one for one in received.where(guard__event_type="penetration_attempt") if one["http.response.status_code"] < 400
    ]
    assert [(one["client.address"], one["url.path"]) for one in found] == [("203.0.113.99", "/download")]


def test_6_what_wants_to_be_looked_at_first(received: Received) -> None:
    ranked = sorted(received.records, key=lambda one: one["guard.threat_score"], reverse=True)
    assert [(one["client.address"], one["guard.threat_score"]) for one in ranked[:2]] == [
        ("203.0.113.99", 85),
        ("203.0.113.7", 83),
    ]


def test_7_whose_logins_fail_and_from_where(received: Received) -> None:
    found = received.where(guard__event_type="authentication_failed", enduser__id="ada")
    assert [one["client.address"] for one in found] == ["192.0.2.8"] * 3
    assert [one["guard.recent_event_count"] for one in found] == [2, 3, 4]


def test_8_what_belongs_together(received: Received) -> None:
    keys = Counter(one["guard.correlation_key"] for one in received.records)
    (attack,) = {one["guard.correlation_key"] for one in received.where(security_rule__name="sql_injection")}
    (logins,) = {one["guard.correlation_key"] for one in received.where(enduser__id="ada")}
    assert (keys[attack], keys[logins]) == (2, 3)
    assert attack != logins


def test_9_which_routes_and_which_tools(received: Received) -> None:
    assert [one["guard.event_type"] for one in received.where(http__route="/items/{item}")] == ["country_blocked"]
    assert {one["client.address"] for one in received.where(user_agent__original="sqlmap/1.9")} == {"203.0.113.7"}


def test_10_which_service_where(received: Received) -> None:
    for record in received.records:
        assert (record.resource["service.name"], record.resource["service.version"]) == ("shop", "1.2.3")
        assert record.resource["deployment.environment.name"] == "production"


def test_11_the_same_event_at_the_guard_backend(received: Received) -> None:
    known = {row["idempotency_key"]: row for row in received.rows}
    assert known.keys() == {one["log.record.uid"] for one in received.records}
    for record in received.records:
        row = known[record["log.record.uid"]]
        assert row["event_type"] == record["guard.event_type"]
        assert row["metadata"]["guard.threat_score"] == record["guard.threat_score"]


def test_12_how_severe_and_how_slow(received: Received) -> None:
    assert {one.severity for one in received.where(guard__event_type="penetration_attempt")} == {"ERROR"}
    assert [one["http.request.method"] for one in received.where(guard__response_time=0.002)] == ["POST"]


def test_the_event_log_has_what_the_guard_backend_has(received: Received) -> None:
    assert {line["idempotency_key"]: line for line in received.lines} == {
        row["idempotency_key"]: row for row in received.rows
    }
    assert len(received.lines) == 10
    assert {line["metadata"]["guard.service.name"] for line in received.lines} == {"shop"}
