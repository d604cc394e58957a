"""Every field of AgentConfig: changing it changes what can be seen from outside."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest
from agent.conftest import MakeAgent
from support.guard_server import GuardServer, guard_server
from support.raw_server import answer, raw_server

from opentelemetry_guard import AgentConfig, BufferFullError, GuardAgent
from opentelemetry_guard.agent.held import MAX_HELD
from opentelemetry_guard.settings.table import SETTINGS

Check = Callable[[MakeAgent, GuardServer], None]

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
INSTALL = str(uuid4())


def _send(agent: GuardAgent, count: int = 1, **fields: Any) -> None:
    agent.sync.start()
    for number in range(count):
        agent.sync.send_event({"event_type": "custom_rule_triggered", "reason": str(number), **fields})
    agent.sync.flush_buffer()


def api_key(make: MakeAgent, server: GuardServer) -> None:
    with guard_server("another-key") as other:
        _send(make(api_key="another-key", endpoint=other.url))
        assert other.requests[0].headers["x-api-key"] == "another-key"


def endpoint(make: MakeAgent, server: GuardServer) -> None:
    with guard_server() as other:
        _send(make(endpoint=other.url))
        assert len(other.events) == 1
    assert server.events == []


def project_id(make: MakeAgent, server: GuardServer) -> None:
    _send(make(project_id="mine"))
    assert (server.requests[0].headers["x-project-id"], server.requests[0].document["project_id"]) == ("mine", "mine")


def buffer_size(make: MakeAgent, server: GuardServer) -> None:
    agent = make(buffer_size=2)
    agent.sync.start()
    for number in range(5):
        agent.sync.send_event({"event_type": "custom_rule_triggered", "reason": str(number)})
    server.wait_for_events(4)  # full batches go out without a flush, whatever the interval
    agent.sync.flush_buffer()
    assert {len(request.document["events"]) for request in server.requests} == {1, 2}


def flush_interval(make: MakeAgent, server: GuardServer) -> None:
    agent = make(flush_interval=0.05)
    agent.sync.start()
    agent.sync.send_event({"event_type": "custom_rule_triggered"})
    agent.sync.send_metric({"metric_type": "request_count", "value": 1})
    server.wait_for_events(1)
    server.wait_for_metrics(1)


def enable_events(make: MakeAgent, server: GuardServer) -> None:
    _send(make(enable_events=False))
    assert server.events == []


def enable_metrics(make: MakeAgent, server: GuardServer) -> None:
    agent = make(enable_metrics=False)
    agent.sync.start()
    agent.sync.send_metric({"metric_type": "request_count", "value": 1})
    _send(agent)
    assert (len(server.events), server.metrics) == (1, [])


def retry_attempts(make: MakeAgent, server: GuardServer) -> None:
    server.answer(200, {"success": False, "errors": ["no"]}, times=None)
    agent = make(retry_attempts=2)
    _send(agent)
    assert len(server.wait_for_requests(2)) == 2, "two partial failures, and no third try"
    agent.sync.flush_buffer()
    assert agent.delivery is not None
    assert agent.delivery.stats().ledger["events"].dead_lettered == 1


def timeout(make: MakeAgent, server: GuardServer) -> None:
    told = threading.Event()
    reasons: list[str] = []

    def on_error(stage: str, error: BaseException, context: dict[str, Any]) -> None:
        reasons.append(str(error))
        told.set()

    server.answer(delay=30)
    _send(make(timeout=0.2, on_error=on_error))
    assert told.wait(20)
    assert "time" in reasons[0]


def backoff_factor(make: MakeAgent, server: GuardServer) -> None:
    server.answer(503)
    agent = make(backoff_factor=0.01)
    _send(agent)
    server.wait_for_events(1)  # with an hour it would be one request for long
    assert agent.delivery is not None
    assert agent.delivery.config.backoff_factor == 0.01


def sensitive_headers(make: MakeAgent, server: GuardServer) -> None:
    _send(make(sensitive_headers=["X-Mine"]), metadata={"headers": {"x-mine": "s3cret", "accept": "text/html"}})
    assert server.events[0]["metadata"]["headers"] == {"x-mine": "[REDACTED]", "accept": "text/html"}


def max_payload_size(make: MakeAgent, server: GuardServer) -> None:
    _send(make(max_payload_size=40), reason="word " * 100)
    assert len(server.events[0]["reason"].encode()) <= 40


def dynamic_rule_interval(make: MakeAgent, server: GuardServer) -> None:
    make(dynamic_rule_interval=1).sync.start()
    server.wait_until(lambda: len(server.questions) >= 2, "a poll at the start and one a second later")


def status_interval(make: MakeAgent, server: GuardServer) -> None:
    make(status_interval=1).sync.start()
    server.wait_until(lambda: len(server.statuses) >= 2, "a status at the start and one a second later")


def project_encryption_key(make: MakeAgent, server: GuardServer) -> None:
    with raw_server(answer()) as raw:
        _send(make(endpoint=f"http://127.0.0.1:{raw.port}", project_encryption_key=KEY), reason="plain to see")
        assert raw.requests[0].startswith(b"POST /api/v1/events/encrypted ")
        assert b"plain to see" not in raw.requests[0]


def payload_signing_secret(make: MakeAgent, server: GuardServer) -> None:
    _send(make(payload_signing_secret="signed"))
    assert server.requests[0].headers["x-payload-signature"].startswith("v1=")


def compression_enabled(make: MakeAgent, server: GuardServer) -> None:
    _send(make(compression_enabled=False), 30)
    assert "content-encoding" not in server.requests[0].headers


def compression_threshold(make: MakeAgent, server: GuardServer) -> None:
    _send(make(compression_threshold=10))
    assert server.requests[0].headers["content-encoding"] == "gzip"


def install_id(make: MakeAgent, server: GuardServer) -> None:
    _send(make(install_id=INSTALL))
    assert server.requests[0].headers["x-agent-install-id"] == INSTALL


def guard_version(make: MakeAgent, server: GuardServer) -> None:
    _send(make(guard_version="9.9.9"))
    assert server.requests[0].document["guard_version"] == "9.9.9"


def guard_core_version(make: MakeAgent, server: GuardServer) -> None:
    _send(make(guard_core_version="8.8.8"))
    assert server.requests[0].document["guard_core_version"] == "8.8.8"


def buffer_overflow_policy(make: MakeAgent, server: GuardServer) -> None:
    agent = make(buffer_overflow_policy="raise")
    for _ in range(MAX_HELD):
        agent.sync.send_event({"event_type": "x"})
    with pytest.raises(BufferFullError):
        agent.sync.send_event({"event_type": "x"})
    agent.sync.start()
    assert agent.delivery is not None
    assert agent.delivery.config.queue_overflow == "drop_newest"


def on_error(make: MakeAgent, server: GuardServer) -> None:
    calls: list[tuple[str, str]] = []
    agent = make(on_error=lambda stage, error, context: calls.append((stage, context["kind"])))
    agent.sync.send_event({"reason": "an event without a type"})
    assert calls == [("emission", "events")]


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        api_key,
        endpoint,
        project_id,
        buffer_size,
        flush_interval,
        enable_events,
        enable_metrics,
        retry_attempts,
        timeout,
        backoff_factor,
        sensitive_headers,
        max_payload_size,
        dynamic_rule_interval,
        status_interval,
        project_encryption_key,
        payload_signing_secret,
        compression_enabled,
        compression_threshold,
        install_id,
        guard_version,
        guard_core_version,
        buffer_overflow_policy,
        on_error,
    )
}


def test_every_field_is_in_the_table_and_has_a_check() -> None:
    assert CHECKS.keys() == AgentConfig.model_fields.keys()
    become_settings = {found.declared.agent for found in SETTINGS if found.declared.agent}
    assert become_settings | {"flush_interval", "on_error"} == set(AgentConfig.model_fields)


@pytest.mark.parametrize("field", CHECKS)
def test_changing_a_field_changes_what_happens(field: str, make_agent: MakeAgent, server: GuardServer) -> None:
    CHECKS[field](make_agent, server)


def test_the_documents_are_as_the_defaults() -> None:
    defaults = AgentConfig(api_key="your-api-key").model_dump(exclude={"sensitive_headers", "on_error"})
    assert defaults == {
        "api_key": "your-api-key",
        "endpoint": "https://api.fastapi-guard.com",
        "project_id": None,
        "buffer_size": 100,
        "flush_interval": 30,
        "enable_metrics": True,
        "enable_events": True,
        "retry_attempts": 3,
        "timeout": 30,
        "backoff_factor": 1.0,
        "max_payload_size": 1024,
        "dynamic_rule_interval": 300,
        "status_interval": 300,
        "project_encryption_key": None,
        "payload_signing_secret": None,
        "compression_enabled": True,
        "compression_threshold": 1024,
        "install_id": None,
        "guard_version": None,
        "guard_core_version": None,
        "buffer_overflow_policy": "drop",
    }


@pytest.mark.parametrize(("of_environment", "of_code", "polls"), [("0", 60, 0), ("60", 0, 1)])
def test_the_environment_wins_over_the_interval_of_the_rules(
    make_agent: MakeAgent,
    server: GuardServer,
    monkeypatch: pytest.MonkeyPatch,
    of_environment: str,
    of_code: int,
    polls: int,
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GUARD_RULES_INTERVAL", of_environment)
    agent = make_agent(dynamic_rule_interval=of_code)
    agent.sync.start()
    agent.sync.get_dynamic_rules()
    assert (len(server.questions) > 0) == bool(polls)


def test_the_environment_wins(make_agent: MakeAgent, server: GuardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_PROJECT_ID", "of-the-environment")
    monkeypatch.setenv("OTEL_PYTHON_GUARD_MAX_PAYLOAD_SIZE", "30")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "20")
    agent = make_agent(project_id="of-the-code", max_payload_size=500, flush_interval=3600)
    agent.sync.start()
    agent.sync.send_event({"event_type": "custom_rule_triggered", "reason": "word " * 100})
    (event,) = server.wait_for_events(1)
    assert server.requests[0].document["project_id"] == "of-the-environment"
    assert len(event["reason"].encode()) <= 30


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("buffer_size", 0, "it is 0, which can't be used: it must be a whole number from 1 to 100000"),
        (
            "flush_interval",
            "soon",
            "it is 'soon', which can't be used: it must be a number of seconds, from 0.05 to 86400",
        ),
        (
            "dynamic_rule_interval",
            0.5,
            "it must be a number of seconds, from 1 to 86400, or 0",
        ),
        ("endpoint", "ftp://example", "is 'ftp://example', which can't be used"),
        ("install_id", "mine", "it must be a UUID"),
        ("project_encryption_key", "c2hvcnQ", "it must be urlsafe base64 of 32 bytes"),
        ("api_key", "  ", "it must not be blank"),
        ("payload_signing_secret", " ", "it must not be blank"),
        ("buffer_overflow_policy", "wait", "'drop', 'block' or 'raise'"),
    ],
)
def test_a_value_that_cant_be_used_is_named_with_the_remedy(field: str, value: object, text: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        AgentConfig(**{"api_key": "your-api-key", field: value})
    assert text in str(caught.value)


def test_no_secret_is_shown() -> None:
    config = AgentConfig(api_key="s3cret-key", project_encryption_key=KEY, payload_signing_secret="s3cret-secret")
    assert "s3cret" not in repr(config)
    assert KEY not in repr(config)
    with pytest.raises(ValueError, match="project_encryption_key") as caught:
        AgentConfig(api_key="your-api-key", project_encryption_key="s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["high_watermark_ratio", "max_concurrent_flushes", "bufer_size"])
def test_a_setting_that_has_no_effect_is_named(name: str, caplog: pytest.LogCaptureFixture) -> None:
    AgentConfig(**{"api_key": "your-api-key", name: 1})
    assert f"AgentConfig has no setting '{name}', it has no effect" in caplog.text
