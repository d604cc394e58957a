"""fastapi-guard's decorators of behaviour: what one call violates is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.recording import Recording, recording

from opentelemetry_guard.instrumentation import fastapi_guard
from opentelemetry_guard.instrumentation import http as fastapi_apps

guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")

ADDRESS = "198.51.100.1"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    from guard_core.handlers.dynamic_rule_handler import DynamicRuleManager
    from guard_core.handlers.ipban_handler import ip_ban_manager

    monkeypatch.setattr(DynamicRuleManager, "_instance", None)
    with recording() as built:
        fastapi_guard.install(emitter=built.pipeline.emitter)
        fastapi_apps.install(emitter=built.pipeline.emitter)
        yield built
        fastapi_apps.uninstall()
        fastapi_guard.uninstall()
    ip_ban_manager.redis_handler = ip_ban_manager.agent_handler = None
    asyncio.run(ip_ban_manager.reset())


@pytest.mark.parametrize(("action", "told"), [("ban", "ip_banned"), ("log", "behavioral_violation")])
@pytest.mark.parametrize(
    "decorated",
    [
        lambda guarded, action: guarded.usage_monitor(max_calls=1, window=60, action=action),
        lambda guarded, action: guarded.return_monitor("status:200", max_occurrences=1, window=60, action=action),
        lambda guarded, action: guarded.suspicious_frequency(max_frequency=0.01, window=100, action=action),
    ],
    ids=["usage", "return", "frequency"],
)
def test_a_violation_is_one_event(
    recorded: Recording, decorated: Callable[[Any, str], Any], action: str, told: str
) -> None:
    config = guard.SecurityConfig(enable_redis=False, trusted_proxies=["127.0.0.1"], rate_limit=1000)
    guarded = guard.SecurityDecorator(config)
    app = FastAPI()
    app.state.guard_decorator = guarded
    app.add_middleware(guard.SecurityMiddleware, config=config)

    @app.get("/watched")
    @decorated(guarded, action)
    def watched() -> str:
        return "won"

    def events() -> list[tuple[Any, ...]]:
        fields = ("event_type", "endpoint", "status_code", "ip_address")
        about = [event for event in recorded.events() if event.get("ip_address") == ADDRESS]
        return [tuple(event[name] for name in fields) for event in about if "anomaly" not in event["event_type"]]

    with TestClient(app, client=("127.0.0.1", 50000), headers={"X-Forwarded-For": ADDRESS}) as client:
        while not events():
            assert client.get("/watched").status_code == 200
    assert events() == [(told, "/watched", 200, ADDRESS)]
