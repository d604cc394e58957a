"""An attacker that signatures or behaviour find is blocked where automatic banning is on, whoever does the blocking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.recording import Recording, recording

from opentelemetry_guard import emit
from opentelemetry_guard.instrumentation import fastapi_guard
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.models import DynamicRules
from opentelemetry_guard.rules.middleware import GuardRulesMiddleware
from opentelemetry_guard.settings.instrumentation import GuardOptions

PROXY = "127.0.0.1"
RULES = {
    "failed_logins": {"failures": 4},
    "scanning": {"paths": 4},
    "campaign": {"sources": 5, "failures": 5, "score": 0, "times": 1, "paths": 1500, "requests": 1_000_000},
}
Ask = Callable[[str, str], int]
Enforce = Callable[[FastAPI, bool], None]


def _by_fastapi_guard(app: FastAPI, is_on: bool) -> None:
    guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")
    config = guard.SecurityConfig(
        enable_redis=False,
        trusted_proxies=[PROXY],
        rate_limit=1000,
        enable_ip_banning=is_on,
        auto_ban_threshold=3,
        auto_ban_duration=60,
        enable_penetration_detection=False,
    )
    app.add_middleware(guard.SecurityMiddleware, config=config)


def _by_rules(app: FastAPI, is_on: bool) -> None:
    rules = DynamicRules(auto_ban_threshold=3, auto_ban_duration=60, enable_ip_banning=is_on)
    app.add_middleware(GuardRulesMiddleware, rules=rules, trusted_proxies=[PROXY])


async def _lift_bans() -> None:
    import guard

    for address in list(guard.ip_ban_manager.banned_ips):
        await guard.ip_ban_manager.unban_ip(address)
    if hasattr(guard.ip_ban_manager, "banned_networks"):
        guard.ip_ban_manager.banned_networks = []


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    with recording() as built:
        monkeypatch.setattr(emit, "_global_emitter", built.pipeline.emitter)
        yield built


@pytest.fixture(params=[_by_fastapi_guard, _by_rules], ids=["fastapi-guard", "GuardRulesMiddleware"])
def asking(request: pytest.FixtureRequest, recorded: Recording) -> Iterator[Callable[..., Ask]]:
    enforce: Enforce = request.param

    def build(*, is_on: bool = True, **rules: object) -> Ask:
        options = GuardOptions(
            behavior_url="memory:",
            behavior_rules={**RULES, **rules},
            rules_interval=0,
            trusted_proxies=GuardOptions.read("trusted_proxies", [PROXY]),
        )
        if enforce is _by_fastapi_guard:
            fastapi_guard.install(options)
        fastapi_apps.install(options)
        app = FastAPI()
        enforce(app, is_on)

        @app.post("/login", status_code=401)
        def login() -> None: ...

        @app.get("/items/{number}")
        def item(number: int) -> int:
            return number

        client = TestClient(app, client=(PROXY, 5))

        def ask(what: str, address: str) -> int:
            method, path = what.split(" ", 1)
            return client.request(method, path, headers={"X-Forwarded-For": address}).status_code

        return ask

    try:
        yield build
    finally:
        fastapi_apps.uninstall()
        if enforce is _by_fastapi_guard:
            fastapi_guard.uninstall()
            asyncio.run(_lift_bans())


def _incidents(recorded: Recording) -> list[Any]:
    return [event for event in recorded.events() if event["event_type"] in ("behavioral_violation", "ip_banned")]


def test_who_guesses_passwords_is_banned_at_the_third_guess_too_many(asking: Any, recorded: Recording) -> None:
    ask = asking()
    assert [ask("POST /login", "203.0.113.21") for _ in range(8)] == [401] * 6 + [403] * 2
    assert ask("GET /items/1", "203.0.113.21") == 403
    assert ask("GET /items/1", "203.0.113.22") == 200
    told = _incidents(recorded)
    assert [event["event_type"] for event in told if event.get("rule_type") == "failed_logins"] == [
        "behavioral_violation"
    ]


def test_a_network_of_ipv6_is_banned_for_the_guesses_of_all_its_addresses(asking: Any, recorded: Recording) -> None:
    ask = asking()
    assert [ask("POST /login", f"2001:db8:9:9::{n}") for n in range(1, 9)] == [401] * 6 + [403] * 2
    assert ask("GET /items/1", "2001:db8:9:a::1") == 200


def test_who_scans_is_banned(asking: Any) -> None:
    ask = asking()
    assert [ask(f"GET /{word}", "203.0.113.23") for word in ("a", "b", "c", "d", "e", "f", "g")] == [404] * 6 + [403]


def test_what_a_signature_finds_bans(asking: Any) -> None:
    ask = asking()
    attack = "GET /items/1?q=1' UNION SELECT password FROM users--"
    assert [ask(attack, "203.0.113.24") for _ in range(4)] == [200] * 3 + [403]


def test_who_takes_part_in_a_campaign_is_banned_for_each_of_its_guesses(asking: Any, recorded: Recording) -> None:
    ask = asking(failed_logins={"failures": 1000, "slow_failures": 1000})
    for number in range(40, 46):
        ask("POST /login", f"203.0.113.{number}")
    assert any(event.get("rule_type") == "campaign" for event in _incidents(recorded))
    assert [ask("POST /login", "203.0.113.46") for _ in range(4)] == [401] * 3 + [403]
    assert ask("GET /items/1", "203.0.113.40") == 200, "one guess is one offence"


def test_who_may_be_a_proxy_is_never_banned(asking: Any) -> None:
    ask = asking()
    assert [ask("POST /login", "10.0.0.7") for _ in range(9)] == [401] * 9


@pytest.mark.parametrize("rules", [{"is_on": False}, {"offences": []}])
def test_nobody_is_banned_where_banning_is_off_or_behavior_no_offence(asking: Any, rules: dict[str, Any]) -> None:
    ask = asking(**rules)
    assert [ask("POST /login", "203.0.113.25") for _ in range(12)] == [401] * 12
    assert ask("GET /items/1", "203.0.113.25") == 200
