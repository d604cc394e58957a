"""guard-agent, as it is published, delivers to our backend (nox session ``guard_with_agent``, which installs it)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.backend import RunningBackend, running_backend

from opentelemetry_guard.models import DynamicRules

guard_agent: Any = pytest.importorskip("guard_agent", reason="guard-agent is not installed, and need not be")

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
EVENT = {
    "event_type": "penetration_attempt",
    "ip_address": "192.0.2.7",
    "country": "DE",
    "user_agent": "sqlmap/1.9",
    "action_taken": "request_blocked",
    "reason": "r" * 2000,
    "endpoint": "/search",
    "method": "GET",
    "status_code": 403,
    "response_time": 0.01,
    "metadata": {"rule": "sql"},
}


@pytest.fixture(autouse=True)
def _own_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(guard_agent.GuardAgentHandler, "_instance", None)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def use(backend: RunningBackend, install_id: str, **settings: Any) -> Any:
    """Let an agent send an event, a metric and its status, and return the rules that it gets."""
    config = guard_agent.AgentConfig(
        api_key=backend.api_key,
        endpoint=backend.url,
        project_id=backend.project,
        install_id=install_id,
        status_interval=300,
        **settings,
    )
    agent = guard_agent.GuardAgentHandler(config)
    await agent.start()
    try:
        await agent.send_event(guard_agent.SecurityEvent(timestamp=guard_agent.get_current_timestamp(), **EVENT))
        measured = {"metric_type": "request_count", "value": 3.0, "endpoint": "/search", "tags": {"a": "b"}}
        await agent.send_metric(guard_agent.SecurityMetric(timestamp=guard_agent.get_current_timestamp(), **measured))
        await agent.flush_buffer()
        assert await agent.transport.send_status(await agent.get_status())
        return await agent.get_dynamic_rules()
    finally:
        await agent.stop()


@pytest.mark.parametrize(
    ("settings", "of_agent"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param({}, {"compression_enabled": False}, id="not packed"),
        pytest.param({"signing_secret": "s" * 32}, {"payload_signing_secret": "s" * 32}, id="signed"),
        pytest.param({"encryption_key": KEY}, {"project_encryption_key": KEY}, id="encrypted"),
    ],
)
def test_it_delivers_events_metrics_and_status_and_gets_rules(
    settings: dict[str, str], of_agent: dict[str, Any]
) -> None:
    install_id = str(uuid4())
    with running_backend(api_key="a-key-of-an-agent", window_days="7", **settings) as backend:
        backend.set_rules(DynamicRules(rule_id="ours", ip_blacklist=["192.0.2.7"]))
        rules = asyncio.run(use(backend, install_id, **of_agent))
        (event,) = backend.events("penetration_attempt")
        assert {name: event[name] for name in EVENT} == EVENT
        (metric,) = (one for one in backend.metrics() if one["metric_type"] == "request_count")
        assert (metric["value"], metric["endpoint"], metric["tags"]) == (3.0, "/search", {"a": "b"})
        (installation,) = backend.agents()
        assert installation["install_id"] == install_id
        assert rules.ip_blacklist == ["192.0.2.7"]
