"""What the middleware does with requests, with rules from a test and rules from the client of the process."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from opentelemetry_guard import GuardRulesMiddleware, rules
from opentelemetry_guard.models import DynamicRules


class Recorder:
    """Takes the place of an emitter."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit_event(self, **fields: Any) -> None:
        self.events.append(fields)

    def types(self) -> list[str]:
        return [event["event_type"] for event in self.events]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{number}")
    def item(number: int) -> int:
        return number

    @app.websocket("/socket")
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        await connection.send_text("hello")

    return app


def client(recorder: Recorder, given: Any, address: str = "192.0.2.7", **settings: Any) -> TestClient:
    app = application()
    app.add_middleware(GuardRulesMiddleware, rules=given, emitter=recorder, **settings)
    return TestClient(app, client=(address, 50000))


def test_a_request_that_no_rule_blocks_passes_and_emits_nothing(recorder: Recorder) -> None:
    answer = client(recorder, DynamicRules(ip_blacklist=["198.51.100.1"])).get("/items/7")
    assert (answer.status_code, answer.json()) == (200, 7)
    assert recorder.events == []


@pytest.mark.parametrize(
    ("given", "status", "event_type", "rule"),
    [
        ({"ip_blacklist": ["192.0.2.0/24"]}, 403, "ip_blocked", "ip_blacklist"),
        ({"blocked_countries": ["DE"]}, 403, "country_blocked", "blocked_countries"),
        ({"whitelist_countries": ["FR"]}, 403, "country_blocked", "whitelist_countries"),
        ({"blocked_user_agents": ["testclient"]}, 403, "user_agent_blocked", "blocked_user_agents"),
        ({"suspicious_patterns": ["items"]}, 400, "penetration_attempt", "suspicious_patterns"),
        ({"emergency_mode": True}, 503, "emergency_mode_block", "emergency_mode"),
        ({"endpoint_rate_limits": {"/items/{n}": (0, 9)}}, 429, "rate_limited", "endpoint_rate_limits"),
    ],
)
def test_a_blocked_request_is_answered_and_reported(
    recorder: Recorder, given: dict[str, Any], status: int, event_type: str, rule: str
) -> None:
    found = DynamicRules(rule_id="r1", version=4, **given)
    answer = client(recorder, found, country_of=lambda address: "DE").get("/items/7?q=1")
    assert answer.status_code == status
    (event,) = recorder.events
    expected = {
        "event_type": event_type,
        "ip_address": "192.0.2.7",
        "user_agent": "testclient",
        "action_taken": "request_blocked",
        "endpoint": "/items/7",
        "method": "GET",
        "status_code": status,
        "rule_type": rule,
        "metadata": {"rule_id": "r1", "rule_version": 4, "rule": rule},
    }
    assert {name: event[name] for name in expected} == expected
    assert event["reason"]


def test_a_user_agent_in_utf_8_is_matched_and_reported_as_it_was_sent(recorder: Recorder) -> None:
    blocking = client(recorder, DynamicRules(blocked_user_agents=["Паук"]))
    assert blocking.get("/items/7", headers={"User-Agent": "Паук/1.0".encode()}).status_code == 403  # type: ignore[dict-item]
    assert recorder.events[0]["user_agent"] == "Паук/1.0"


def test_the_answer_tells_the_client_nothing_of_the_rules(recorder: Recorder) -> None:
    answer = client(recorder, DynamicRules(ip_blacklist=["192.0.2.0/24"], message="secret")).get("/items/7")
    assert answer.json() == {"detail": "Forbidden"}
    assert answer.headers["cache-control"] == "no-store"


def test_a_rate_limit_says_when_to_come_again(recorder: Recorder) -> None:
    limited = client(recorder, DynamicRules(global_rate_limit=2, global_rate_window=60))
    assert [limited.get("/items/7").status_code for _ in range(3)] == [200, 200, 429]
    assert 0 < int(limited.get("/items/7").headers["retry-after"]) <= 60
    assert recorder.types() == ["rate_limited"] * 2
    assert recorder.events[0]["rule_type"] == "global_rate_limit"


def test_rate_limits_can_be_switched_off_and_spare_whitelisted_addresses(recorder: Recorder) -> None:
    for given in ({"enable_rate_limiting": False}, {"ip_whitelist": ["192.0.2.7"]}):
        free = client(recorder, DynamicRules(global_rate_limit=1, **given))
        assert [free.get("/items/7").status_code for _ in range(3)] == [200] * 3


def test_a_blocked_websocket_is_refused_before_it_is_accepted(recorder: Recorder) -> None:
    blocked = client(recorder, DynamicRules(ip_blacklist=["192.0.2.7"]))
    with pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)), blocked.websocket_connect("/socket"):
        pass
    assert (recorder.types(), recorder.events[0]["status_code"]) == (["ip_blocked"], 403)
    with client(recorder, DynamicRules()).websocket_connect("/socket") as connection:
        assert connection.receive_text() == "hello"


def test_only_a_trusted_proxy_names_the_client(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    given, headers = DynamicRules(ip_blacklist=["198.51.100.1"]), {"X-Forwarded-For": "198.51.100.1"}
    assert client(recorder, given).get("/items/7", headers=headers).status_code == 200
    assert client(recorder, given, trusted_proxies=["192.0.2.0/24"]).get("/items/7", headers=headers).status_code == 403
    monkeypatch.setenv("OTEL_PYTHON_GUARD_TRUSTED_PROXIES", "192.0.2.7")
    assert client(recorder, given).get("/items/7", headers=headers).status_code == 403
    assert [event["ip_address"] for event in recorder.events] == ["198.51.100.1"] * 2


def test_repeated_offences_ban_the_client(recorder: Recorder) -> None:
    given = DynamicRules(suspicious_patterns=["passwd"], auto_ban_threshold=2, auto_ban_duration=60)
    offender = client(recorder, given)
    statuses = [offender.get(path).status_code for path in ("/passwd", "/items/7", "/passwd", "/items/7", "/passwd")]
    assert statuses == [400, 200, 400, 403, 403]
    assert recorder.types() == ["penetration_attempt", "penetration_attempt", "ip_banned", "ip_blocked", "ip_blocked"]


@pytest.mark.parametrize("given", [{"enable_ip_banning": False}, {"auto_ban_threshold": None}])
def test_nobody_is_banned_where_rules_do_not_say_so(recorder: Recorder, given: dict[str, Any]) -> None:
    found = DynamicRules(**{"suspicious_patterns": ["passwd"], "auto_ban_threshold": 1, **given})
    offender = client(recorder, found)
    assert [offender.get(path).status_code for path in ("/passwd", "/items/7")] == [400, 200]


def test_rate_limits_ban_where_rules_say_so(recorder: Recorder) -> None:
    given = DynamicRules(global_rate_limit=1, enable_rate_limit_auto_ban=True, auto_ban_threshold=1)
    assert [client_.status_code for client_ in map(client(recorder, given).get, ["/items/7"] * 3)] == [200, 429, 403]


def test_a_function_may_give_the_rules_and_change_them_at_any_time(recorder: Recorder) -> None:
    current: list[DynamicRules | None] = [None]
    asked = client(recorder, lambda: current[0])
    assert asked.get("/items/7").status_code == 200
    current[0] = DynamicRules(ip_blacklist=["192.0.2.7"])
    assert asked.get("/items/7").status_code == 403
    current[0] = None
    assert asked.get("/items/7").status_code == 200


def test_what_fails_inside_the_rules_lets_the_request_pass(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("broken")

    assert client(recorder, fail).get("/items/7").status_code == 200
    countries = client(recorder, DynamicRules(whitelist_countries=["DE"]), country_of=fail)
    assert countries.get("/items/7").status_code == 200
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_what_rules_want_and_the_middleware_lacks_is_said_once(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    given = DynamicRules(blocked_countries=["DE"], blocked_cloud_providers=["AWS"])
    asked = client(recorder, given)
    for _ in range(3):
        assert asked.get("/items/7").status_code == 200
    first, second = (record.getMessage() for record in caplog.records)
    assert "blocked_cloud_providers" in first
    assert "country_of" in second


def test_wrong_settings_are_refused_where_they_are_given() -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        GuardRulesMiddleware(application(), trusted_proxies=["nonsense"])
    with pytest.raises(ValueError, match="rules_interval"):
        GuardRulesMiddleware(application(), interval=0.1)


@pytest.fixture
def subscribers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, float | None]]:
    """Take the place of the process's rules client."""
    found: list[tuple[Any, float | None]] = []

    def subscribe(callback: Any, interval: float | None = None) -> Any:
        entry = (callback, interval)
        found.append(entry)
        return lambda: found.remove(entry)

    monkeypatch.setattr(rules, "subscribe", subscribe)
    return found


def test_it_asks_for_rules_from_the_first_call_to_the_end_of_the_lifespan(
    recorder: Recorder, subscribers: list[tuple[Any, float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GUARD_RULES_INTERVAL", "2")
    asked = client(recorder, None)
    assert subscribers == []
    with asked:
        ((on_rules, interval),) = subscribers
        assert interval == 2
        assert asked.get("/items/7").status_code == 200
        on_rules(None, DynamicRules(ip_blacklist=["192.0.2.7"]))
        assert asked.get("/items/7").status_code == 403
        on_rules(None, DynamicRules())
        assert asked.get("/items/7").status_code == 200
    assert subscribers == []


def test_an_interval_of_zero_enforces_nothing(
    recorder: Recorder, subscribers: list[tuple[Any, float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GUARD_RULES_INTERVAL", "0")
    assert client(recorder, None).get("/items/7").status_code == 200
    assert subscribers == []


def test_a_middleware_that_is_gone_is_not_kept_alive_and_asks_no_more(
    subscribers: list[tuple[Any, float | None]],
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    middleware = GuardRulesMiddleware(app)
    asyncio.run(middleware({"type": "unknown"}, None, None))  # type: ignore[arg-type]
    alive = weakref.ref(middleware)
    del middleware
    gc.collect()
    assert alive() is None
    ((on_rules, _),) = subscribers
    on_rules(None, DynamicRules())
    assert subscribers == []
