"""Agents that deliver to a strict server in the test's process, and that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.guard_server import GuardServer, guard_server

from opentelemetry_guard import AgentConfig, GuardAgent, privacy, rules
from opentelemetry_guard.agent import agent as agent_module
from opentelemetry_guard.agent import guard_agent
from opentelemetry_guard.agent.pipeline import _private_logs
from opentelemetry_guard.settings import late

MakeAgent = Callable[..., GuardAgent]


@pytest.fixture
def server() -> Iterator[GuardServer]:
    with guard_server() as running:
        yield running


@pytest.fixture
def make_agent(server: GuardServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeAgent]:
    """Make the agent of a process that has just begun; one keyword replaces one setting."""
    monkeypatch.setattr(rules, "_client", None)
    made: list[GuardAgent] = []

    def make(**settings: Any) -> GuardAgent:
        given = {
            "api_key": server.api_key,
            "endpoint": server.url,
            "project_id": "test-project",
            "flush_interval": 3600,
            "status_interval": 0,
            "dynamic_rule_interval": 0,
            "backoff_factor": 0.02,
        }
        agent = guard_agent(AgentConfig(**{**given, **settings}))
        made.append(agent)
        return agent

    def forget() -> None:
        agent_module._singleton = None
        late.forget()
        privacy.reset()
        _private_logs.cache_clear()

    forget()
    yield make
    for agent in made:
        agent.sync.stop()
    forget()
