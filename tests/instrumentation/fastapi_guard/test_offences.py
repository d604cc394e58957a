"""Attacks in an application that fastapi-guard guards: one event each, and its ban where that is on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.recording import Recording, recording

from opentelemetry_guard import emit
from opentelemetry_guard.instrumentation import fastapi_guard
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.settings.instrumentation import GuardOptions

guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")

ATTACK = "/items/1?q=1' UNION SELECT password FROM users--"
OPTIONS = GuardOptions(behavior=False, rules_interval=0)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    with recording() as built:
        monkeypatch.setattr(emit, "_global_emitter", built.pipeline.emitter)
        fastapi_guard.install(OPTIONS)
        fastapi_apps.install(OPTIONS)
        try:
            yield built
        finally:
            fastapi_apps.uninstall()
            fastapi_guard.uninstall()
            asyncio.run(_lift())


async def _lift() -> None:
    bans = guard.ip_ban_manager
    for address in list(bans.banned_ips):
        await bans.unban_ip(address)
    if hasattr(bans, "banned_networks"):
        bans.banned_networks = []


def asking(**config: Any) -> Any:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    given = {
        **{"enable_redis": False, "trusted_proxies": ["127.0.0.1"], "rate_limit": 1000},
        **{"auto_ban_threshold": 3, "auto_ban_duration": 60, "enable_penetration_detection": False},
        **config,
    }
    app.add_middleware(guard.SecurityMiddleware, config=guard.SecurityConfig(**given))

    @app.get("/items/{number}")
    def item(number: int) -> int:
        return number

    client = TestClient(app, client=("127.0.0.1", 5))
    return lambda path, address: client.get(path, headers={"X-Forwarded-For": address}).status_code


def about(recorded: Recording) -> list[str]:
    return [event["event_type"] for event in recorded.events() if event.get("ip_address") not in (None, "", "system")]


def test_what_the_guard_detects_itself_is_one_event(recorded: Recording) -> None:
    ask = asking(enable_penetration_detection=True, auto_ban_threshold=1000)
    assert ask(ATTACK, "203.0.113.1") == 400
    assert about(recorded) == ["penetration_attempt"]


def test_what_only_a_signature_finds_is_one_event_and_an_offence(recorded: Recording) -> None:
    ask = asking()
    assert [ask(ATTACK, "203.0.113.2") for _ in range(4)] == [200, 200, 200, 403]
    assert ask("/items/1", "203.0.113.2") == 403
    assert ask("/items/1", "203.0.113.3") == 200
    assert about(recorded)[:2] == ["penetration_attempt", "ip_banned"]


def test_addresses_of_one_network_are_banned_together(recorded: Recording) -> None:
    if not hasattr(guard.ip_ban_manager, "banned_networks"):
        pytest.skip("this release bans no networks")
    ask = asking()
    assert [ask(ATTACK, f"2001:db8:5:6::{number}") for number in range(1, 4)] == [200] * 3
    assert ask("/items/1", "2001:db8:5:6::99") == 403
    assert ask("/items/1", "2001:db8:5:7::1") == 200


@pytest.mark.parametrize(
    ("config", "path"), [({"enable_ip_banning": False}, ATTACK), ({}, "/items/1?next=%3Cscript"), ({}, "/items/1?q=1")]
)
def test_what_is_no_offence_bans_nobody(recorded: Recording, config: dict[str, Any], path: str) -> None:
    ask = asking(**config)
    assert [ask(path, "203.0.113.4") for _ in range(5)] == [200] * 5
