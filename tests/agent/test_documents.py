"""Each code block of the documents, under a real uvicorn and in a script, against a real backend."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from agent.serving import run_script, served
from support.application import ZERO_CODE, running_application
from support.backend import RunningBackend, running_backend
from support.redis import RedisServer, eventually

from opentelemetry_guard.models import DynamicRules

PROJECT, KEY = "your-project-id", "your-api-key"

NAMES = {
    "": (
        "AgentConfig AgentHandlerProtocol AgentStatus BufferFullError BufferProtocol DynamicRules EventBatch Guard "
        "GuardAgentError GuardAgentHandler RedisHandlerProtocol SecurityEvent SecurityMetric TransportProtocol "
        "__version__ get_current_timestamp guard_agent"
    ),
    ".client": "GuardAgentHandler guard_agent",
    ".models": "AgentConfig AgentStatus DynamicRules EventBatch SecurityEvent SecurityMetric",
    ".protocols": "AgentHandlerProtocol BufferProtocol RedisHandlerProtocol TransportProtocol",
    ".redis_handler": "RedisHandler",
    ".utils": "get_current_timestamp",
}
"""The names that the documents import, by module."""


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend(api_key=KEY, project=PROJECT) as running:
        running.set_rules(
            DynamicRules(
                rule_id="r", version=3, ip_blacklist=["192.0.2.9"], endpoint_rate_limits={"/report-event": (5, 60)}
            )
        )
        yield running


@pytest.fixture
def settings(backend: RunningBackend, tmp_path: Path) -> dict[str, str]:
    return {"OTEL_EXPORTER_GUARD_ENDPOINT": backend.url, "XDG_STATE_HOME": str(tmp_path / "state")}


def _reasons(backend: RunningBackend, *wanted: str) -> list[str]:
    return [event["reason"] for event in backend.events() if event["reason"] in wanted]


@pytest.mark.parametrize("module", NAMES)
def test_every_name_is_where_the_documents_import_it_from(module: str) -> None:
    home = import_module(f"opentelemetry_guard{module}")
    assert [name for name in NAMES[module].split() if not hasattr(home, name)] == []


def test_the_quick_start_with_its_events_metrics_rules_status_and_stats(
    backend: RunningBackend, settings: dict[str, str], tmp_path: Path
) -> None:
    with served("on_event", settings, tmp_path) as app:
        assert app.post("/report-event") == {"status": "event sent"}
        assert app.post("/report-metric") == {"status": "metric sent"}
        assert app.post("/flush") == {"healthy": True, "exactly": True}
        (event,) = backend.events("custom_rule_triggered")
        assert (event["ip_address"], event["reason"], event["method"]) == ("192.168.1.100", "Manual event", "POST")
        assert any(row["metric_type"] == "request_count" and row["endpoint"] == "/a" for row in backend.metrics())
        assert app.get("/rules") == {"ip_blacklist": ["192.0.2.9"], "limit": [5, 60], "emergency_mode": False}
        status = app.get("/status")
        assert (status["status"], status["events_sent"], status["buffer_size"], status["errors"]) == (
            "healthy",
            1,
            0,
            [],
        )
        stats = app.get("/stats")
        assert (stats["running"], stats["events_sent"], stats["open"]) == (True, 1, False)
        assert stats["transport_stats"]["requests_sent"] >= 2
        assert stats["buffer_stats"]["current_event_buffer_size"] == 0
        app.post("/report-event")
        assert app.stop() == -signal.SIGTERM
        assert "never awaited" not in app.log.read_text()
        assert "Traceback" not in app.log.read_text()
    assert len(backend.events("custom_rule_triggered")) == 2, "the shutdown delivers what was sent last"


def test_the_quick_start_with_redis(backend: RunningBackend, settings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", password="p@ss/word")
    server.start()
    before = len(backend.events("custom_rule_triggered"))
    try:
        url = f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}/0"
        with served("on_event", {**settings, "REDIS_URL": url}, tmp_path) as app:
            app.post("/report-event")
            app.post("/flush")
            with server.client() as client:
                assert client.keys("*"), "the batches go through Redis"
            app.stop()
            assert "p@ss" not in app.log.read_text()
    finally:
        server.stop()
    assert len(backend.events("custom_rule_triggered")) == before + 1


def test_a_closed_agent_runs_no_more(settings: dict[str, str], tmp_path: Path) -> None:
    with served("on_event", settings, tmp_path) as app:
        assert app.post("/close") == {"running": False}
        assert app.post("/report-event") == {"status": "event sent"}


def test_a_lifespan_that_stops_the_agent_delivers_the_last_event(
    backend: RunningBackend, settings: dict[str, str], tmp_path: Path
) -> None:
    with served("lifespan", settings, tmp_path) as app:
        app.post("/report-event", number="lifespan-1")
        app.post("/report-blocking", number="lifespan-2")
        assert app.stop() == -signal.SIGTERM
    assert sorted(_reasons(backend, "lifespan-1", "lifespan-2")) == ["lifespan-1", "lifespan-2"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_delivers_the_last_event_though_nobody_stops_the_agent(
    backend: RunningBackend, settings: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with served("lifespan", {**settings, "NEVER_STOP": "1"}, tmp_path) as app:
        app.post("/report-event", number=f"unstopped-{number}")
        app.stop(number)
    assert _reasons(backend, f"unstopped-{number}") == [f"unstopped-{number}"]


def test_the_handler_form(backend: RunningBackend, settings: dict[str, str], tmp_path: Path) -> None:
    with served("handlers", settings, tmp_path) as app:
        for path in ("/protected", "/protected-blocking"):
            answer = app.http.get(app.url + path, timeout=60)
            assert (answer.status_code, answer.json()) == (403, {"detail": "blocked"})
        app.stop()
    events = backend.events("suspicious_request")
    assert [(event["reason"], event["endpoint"]) for event in events] == [
        ("looks like a probe", "/protected"),
        ("looks like another probe", "/protected-blocking"),
    ]


@pytest.mark.parametrize("document", ["custom_transport", "sync_transport"])
def test_a_transport_of_ones_own_gets_the_batches_as_models(
    backend: RunningBackend, settings: dict[str, str], tmp_path: Path, document: str
) -> None:
    before = backend.summary()
    received = tmp_path / "received"
    with served(document, {**settings, "RECEIVED": str(received), "OTEL_BLRP_SCHEDULE_DELAY": "50"}, tmp_path) as app:
        for number in range(5):
            app.post("/report-event", number=str(number))
        eventually(lambda: len(_received(received, "events")) == 5)
        # The backend may have told its own before the transport was assigned.
        eventually(lambda: app.get("/rules") == {"version": 7, "ip_blacklist": ["192.0.2.66"]})
        app.stop()
    events = _received(received, "events")
    assert sorted(event["reason"] for event in events) == ["0", "1", "2", "3", "4"]
    assert {event["type"] for event in events} == {"SecurityEvent"}
    assert any(
        metric["metric_type"] == "request_count" and metric["endpoint"] == "/report"
        for metric in _received(received, "metrics")
    )
    assert {status["status"] for status in _received(received, "status")} <= {"healthy", "degraded"}
    assert backend.summary() == before, "nothing goes to the backend"


def _received(path: Path, kind: str) -> list[dict[str, str]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_the_same_calls_in_a_script_without_an_event_loop(backend: RunningBackend, settings: dict[str, str]) -> None:
    assert run_script("script", settings) == {
        "ip_blacklist": ["192.0.2.9"],
        "status": "healthy",
        "errors": [],
        "events_sent": 2,
        "buffer_size": 0,
        "running": True,
        "breaker": "CLOSED",
        "healthy": True,
    }
    assert _reasons(backend, "before start", "after") == ["before start", "after"]
    assert any(row["metric_type"] == "threat_level" for row in backend.metrics())


def test_a_forked_child_begins_with_nothing_of_its_parents(backend: RunningBackend, settings: dict[str, str]) -> None:
    sent = (
        "held by the parent",
        "child of an agent that has not started",
        "parent before the fork",
        "child of an agent that runs",
        "parent after the fork",
        "child of multiprocessing",
        "worker of a pool",
    )
    assert run_script("forking", settings) == {"running": False}
    assert sorted(_reasons(backend, *sent)) == sorted(sent)


def test_under_opentelemetry_instrument_the_agent_adds_nothing_and_every_event_comes_once(
    backend: RunningBackend, settings: dict[str, str]
) -> None:
    before = len(backend.events("custom_rule_triggered"))
    with running_application("agent.documents.on_event:app", {**settings, **ZERO_CODE}) as app:
        for _ in range(3):
            assert app.http.post(f"{app.url}/report-event", timeout=60).json() == {"status": "event sent"}
        assert app.http.post(f"{app.url}/flush", timeout=60).json()["healthy"]
        assert app.http.get(f"{app.url}/stats", timeout=60).json()["running"]
        assert app.stop() == -signal.SIGTERM
    events = backend.events("custom_rule_triggered")[before:]
    assert len(events) == 3
    assert all(len(event["metadata"]["trace_id"]) == 32 for event in events), "each in its request's trace"
