"""What an application's own tests see of the security events that its code emits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from support.backend import ROOT
from support.commands import environment
from support.rows import without_enrichment

from opentelemetry_guard import Emitter, emit_event, record_metric
from opentelemetry_guard.testing import Captured, capture_events


def test_events_and_metrics_are_captured_as_they_would_be_sent() -> None:
    with capture_events() as captured:
        emit_event(event_type="coupon_guessed", ip_address="192.0.2.7", metadata={"password": "hunter2", "tries": 3})
        record_metric(metric_type="threat_level", value=0.5, endpoint="/checkout", tags={"shop": "north"})
    (event,) = captured
    assert (event.event_type, event.ip_address) == ("coupon_guessed", "192.0.2.7")
    assert without_enrichment(event.metadata) == {"password": "[REDACTED]", "tries": 3}
    assert event.metadata["guard.threat_score"] == 55
    (metric,) = captured.metrics_of("threat_level")
    assert (metric.value, metric.endpoint, metric.tags) == (0.5, "/checkout", {"shop": "north"})


def test_an_event_has_the_trace_of_the_span_that_was_current() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with capture_events() as captured, tracer.start_as_current_span("request") as span:
        emit_event(event_type="ip_blocked")
    (event,) = captured
    assert event.metadata["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_nothing_is_captured_before_and_after() -> None:
    with capture_events() as captured:
        pass
    emit_event(event_type="ip_blocked")
    assert len(captured) == 0


def test_the_innermost_capture_has_it() -> None:
    with capture_events() as outer:
        emit_event(event_type="first")
        with capture_events() as inner:
            emit_event(event_type="second")
        emit_event(event_type="third")
    assert [event.event_type for event in outer] == ["first", "third"]
    assert [event.event_type for event in inner] == ["second"]


def test_what_can_not_be_an_event_is_not_captured() -> None:
    with capture_events() as captured:
        emit_event(reason="no type")
        record_metric(metric_type="cache_hit_rate", value=float("nan"))
    assert (captured.events, captured.metrics) == ([], [])


def test_other_threads_and_tasks_and_emitters_of_their_own_are_captured() -> None:
    async def in_a_task() -> None:
        emit_event(event_type="task")

    with capture_events() as captured:
        thread = threading.Thread(target=lambda: Emitter().emit_event(event_type="thread"))
        thread.start()
        thread.join()
        asyncio.run(in_a_task())
    assert {event.event_type for event in captured} == {"thread", "task"}


def test_no_global_provider_is_left_behind() -> None:
    before = (_logs.get_logger_provider(), metrics.get_meter_provider(), trace.get_tracer_provider())
    with capture_events():
        emit_event(event_type="ip_blocked")
        record_metric(metric_type="threat_level", value=1)
    assert (_logs.get_logger_provider(), metrics.get_meter_provider(), trace.get_tracer_provider()) == before


def test_the_fixture_captures_what_a_client_of_an_application_causes(security_events: Captured) -> None:
    app = FastAPI()

    @app.get("/admin")
    def admin() -> None:
        emit_event(event_type="access_denied", endpoint="/admin", status_code=403)
        raise HTTPException(403)

    assert TestClient(app).get("/admin").status_code == 403
    (event,) = security_events.of_type("access_denied")
    assert event.status_code == 403


SUITE = """
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from opentelemetry_guard.instrumentation import GuardInstrumentor

@pytest.fixture(scope="module")
def client():
    GuardInstrumentor().instrument()
    app = FastAPI()

    @app.get("/admin")
    def admin():
        raise HTTPException(403)

    yield TestClient(app)
    GuardInstrumentor().uninstrument()

def test_refused(client, security_events):
    client.get("/admin")
    assert [event.event_type for event in security_events] == ["access_denied"]

def test_nothing_of_the_test_before(client, security_events):
    assert len(security_events) == 0
"""


def test_a_stranger_with_an_instrumented_application_gets_the_fixture_by_installing(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(textwrap.dedent(SUITE))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
    assert not list(tmp_path.rglob("*.db"))


def test_the_plugin_loads_nothing_before_a_test_asks_for_it() -> None:
    code = (
        "import sys; import opentelemetry_guard.testing.pytest_plugin;"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.', 'pydantic'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "[]\n", ran.stderr
