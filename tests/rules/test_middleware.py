"""What the middleware does with requests, with rules from a test and rules from the client of the process."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from support.recording import recording

from opentelemetry_guard import GuardLogExporter, GuardRulesMiddleware, rules
from opentelemetry_guard.decision import cloud, patterns
from opentelemetry_guard.decision.unenforced import unenforced
from opentelemetry_guard.events import incident
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.models import BanSource, DynamicRules
from opentelemetry_guard.settings.instrumentation import GuardOptions


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


def test_the_event_of_a_lists_ban_says_whose_it_was(recorder: Recorder) -> None:
    sources = [BanSource(name="https://lists.example/drop", first=1, count=1)]
    rules = DynamicRules(ip_blacklist=["192.0.2.7", "192.0.3.0/24"], ip_blacklist_sources=sources)
    assert client(recorder, rules).get("/items/7").status_code == 403
    assert client(recorder, rules, "192.0.3.9").get("/items/7").status_code == 403
    ours, listed = recorder.events
    assert "ban_list" not in ours["metadata"]
    assert listed["metadata"]["ban_list"] == "https://lists.example/drop"
    assert listed["reason"] == "the address is blacklisted (192.0.3.0/24, by the list https://lists.example/drop)"
    assert listed["pattern_matched"] == "192.0.3.0/24"


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


@pytest.mark.parametrize(
    "path",
    [
        f"/items/7?pad={'a' * 1_100}&file=passwd",
        f"/items/7?pad={'a' * 9_000}passwd{'b' * 9_000}",
        "/items/7?file=pa%2573%2573wd",
        "/items/7?file=%2570asswd",
        "/items/7?file=pass%77d",
    ],
)
@pytest.mark.parametrize("engine", ["re2", "re"])
def test_neither_a_pad_nor_encoding_twice_hides_a_suspicious_pattern(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, path: str, engine: str
) -> None:
    if engine == "re":
        monkeypatch.setattr(patterns, "_re2", lambda: None)
    answer = client(recorder, DynamicRules(suspicious_patterns=["never", "passwd"])).get(path)
    assert answer.status_code == 400
    assert recorder.events[0]["pattern_matched"] == "passwd"


def test_an_anchor_means_the_ends_of_the_endpoint_and_of_no_piece_of_it(recorder: Recorder) -> None:
    asked = client(recorder, DynamicRules(suspicious_patterns=[r"^aaa", r"\baaa\b", "aaa$"]))
    assert asked.get(f"/items/7?pad={'a' * 20_000}b").status_code == 200


class TestAttacksThatAreReported:
    """An attack that the instrumentation or the application reports is an offence, though no rule blocks it."""

    GIVEN = DynamicRules(auto_ban_threshold=3, auto_ban_duration=60)

    @staticmethod
    def asked(recorder: Recorder, given: DynamicRules, **more: Any) -> Callable[[str], int]:
        app = application()

        @app.get("/report/{event_type}")
        async def report(event_type: str) -> None:
            incident.note({"event_type": event_type, "reason": "sql injection in the query"})

        app.add_middleware(GuardRulesMiddleware, rules=given, emitter=recorder, **more)
        asking = TestClient(app, client=("203.0.113.9", 5))
        return lambda path: asking.get(path).status_code

    def test_enough_of_them_are_a_ban(self, recorder: Recorder) -> None:
        ask = self.asked(recorder, self.GIVEN)
        assert [ask("/report/penetration_attempt") for _ in range(4)] == [200, 200, 200, 403]
        assert ask("/items/7") == 403
        (ban,) = [event for event in recorder.events if event["event_type"] == "ip_banned"]
        assert ban["reason"] == "3 offences, the last one: sql injection in the query"

    @pytest.mark.parametrize(
        ("given", "path"),
        [
            ({}, "/report/suspicious_request"),
            ({"enable_ip_banning": False}, "/report/penetration_attempt"),
            ({"auto_ban_threshold": None}, "/report/penetration_attempt"),
            ({"ip_whitelist": ["203.0.113.9"]}, "/report/penetration_attempt"),
        ],
    )
    def test_what_is_no_offence_is_no_ban(self, recorder: Recorder, given: dict[str, Any], path: str) -> None:
        ask = self.asked(recorder, DynamicRules(**{"auto_ban_threshold": 1, **given}))
        assert [ask(path) for _ in range(4)] == [200] * 4

    def test_an_attack_that_signatures_find_bans_though_its_events_are_folded(self, recorder: Recorder) -> None:
        with recording() as recorded:
            fastapi_apps.install(GuardOptions(behavior=False), recorded.pipeline.emitter)
            try:
                ask = self.asked(recorder, self.GIVEN)
                attack = "/items/7?id=1%27%20or%20%271%27=%271"
                assert [ask(attack) for _ in range(4)] == [200, 200, 200, 403]
                assert recorded.types() == ["penetration_attempt"]
            finally:
                fastapi_apps.uninstall()


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
        raise RuntimeError("broken, password=hunter2")

    assert client(recorder, fail).get("/items/7").status_code == 200
    countries = client(recorder, DynamicRules(whitelist_countries=["DE"]), country_of=fail)
    assert countries.get("/items/7").status_code == 200
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert caplog.text.count("broken, password=[REDACTED]") == 2


def test_what_rules_want_and_the_middleware_lacks_is_said_once(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "_is_installed", lambda: False)
    given = DynamicRules(
        blocked_countries=["DE"],
        blocked_cloud_providers=["AWS"],
        suspicious_patterns=[r"(a)\1"],
        endpoint_rate_limits={"/x": (1, 0)},
        emergency_whitelist_only=True,
    )
    asked = client(recorder, given)
    for _ in range(3):
        assert asked.get("/items/7").status_code == 200
    said = [record.getMessage() for record in caplog.records]
    words = (
        "suspicious_patterns",
        "blocked_cloud_providers",
        "emergency_whitelist_only",
        "endpoint_rate_limits",
        "country_of",
    )
    for word in words:
        assert sum(word in message for message in said) == 1
        assert sum(word in problem for problem in unenforced()) == 1
    assert len(said) == len(words)


def test_what_is_not_enforced_is_told_in_the_status_for_as_long_as_the_rules_are_in_force(recorder: Recorder) -> None:
    current = [DynamicRules(blocked_countries=["DE"])]
    asked = client(recorder, lambda: current[0])
    asked.get("/items/7")
    exporter = GuardLogExporter(endpoint="http://127.0.0.1:1", api_key="k", queue_url="memory://")
    assert exporter.delivery is not None
    status = exporter.delivery.status()
    assert status.status == "degraded"
    assert any("blocked_countries has no effect" in error for error in status.errors)
    current[0] = DynamicRules()
    asked.get("/items/7")
    gc.collect()
    assert not any("blocked_countries" in error for error in exporter.delivery.status().errors)
    exporter.shutdown()


class FakeCloudHandler:
    """Takes the place of guard-core's `cloud_handler`, and fetches nothing from anywhere."""

    redis_handler = None

    def __init__(self, fails: bool = False) -> None:
        self.ip_ranges: dict[str, set[Any]] = {"AWS": set(), "GCP": set()}
        self.fails = fails

    async def refresh_async(self, providers: set[str]) -> None:
        if self.fails:
            raise OSError("no way there")
        for provider in providers:
            self.ip_ranges[provider] = {ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32")}


def eventually(holds: Callable[[], bool]) -> None:
    for thread in threading.enumerate():
        if thread.name == "OtelGuardCloud":
            thread.join(30)
    assert holds()


@pytest.mark.parametrize("loaded", [True, False])
def test_a_cloud_providers_networks_are_blocked(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, loaded: bool
) -> None:
    handler = FakeCloudHandler()
    if loaded:
        handler.ip_ranges["AWS"] = {ipaddress.ip_network("192.0.2.0/24")}
    monkeypatch.setattr(cloud, "_MODULE", "fake_cloud_handler")
    monkeypatch.setitem(sys.modules, "fake_cloud_handler", cast("Any", SimpleNamespace(cloud_handler=handler)))
    given = DynamicRules(blocked_cloud_providers=["aws"])
    asked = client(recorder, given)
    given.compiled()
    if not loaded:
        eventually(lambda: cloud._lists.by_name.keys() == {"aws"})
    assert asked.get("/items/7").status_code == 403
    assert (recorder.types(), recorder.events[0]["rule_type"]) == (["cloud_blocked"], "blocked_cloud_providers")
    assert client(recorder, given, "198.51.100.7").get("/items/7").status_code == 200
    assert not given.decide(ip="192.0.2.7")


def test_cloud_providers_that_cannot_be_blocked_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "_MODULE", "fake_cloud_handler")
    handler = FakeCloudHandler(fails=True)
    monkeypatch.setitem(sys.modules, "fake_cloud_handler", cast("Any", SimpleNamespace(cloud_handler=handler)))
    assert DynamicRules(blocked_cloud_providers=["aws"]).decide(ip="192.0.2.7")
    eventually(lambda: any("no way there" in problem for problem in unenforced()))
    handler.fails = False
    rules_with_unknown = DynamicRules(blocked_cloud_providers=["aws", "nimbus"])
    assert rules_with_unknown.decide(ip="198.51.100.7")
    eventually(lambda: any("'nimbus'" in problem for problem in unenforced()))
    assert not rules_with_unknown.decide(ip="192.0.2.7")


def test_the_message_of_rules_is_for_operators(recorder: Recorder) -> None:
    given = DynamicRules(ip_blacklist=["192.0.2.7"], message="ask the on-call team")
    assert "on-call" not in client(recorder, given).get("/items/7").text
    assert recorder.events[0]["metadata"]["message"] == "ask the on-call team"
    assert given.decide(ip="192.0.2.7").message == "ask the on-call team"
    assert given.decide(ip="192.0.2.8").message == ""


def statuses(recorder: Recorder, given: DynamicRules, addresses: list[str], path: str, **settings: Any) -> list[int]:
    """Send one request from each address to one middleware, and return the answers' statuses."""
    app = application()
    app.add_middleware(GuardRulesMiddleware, rules=given, emitter=recorder, **settings)
    return [TestClient(app, client=(address, 50000)).get(path).status_code for address in addresses]


def test_the_addresses_of_one_ipv6_network_are_one_client(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = DynamicRules(global_rate_limit=5)
    neighbours = [f"2001:db8:0:1::{number:x}" for number in range(1, 9)]
    assert statuses(recorder, limit, neighbours, "/items/7") == [200] * 5 + [429] * 3
    assert statuses(recorder, limit, neighbours, "/items/7", ipv6_prefix=128) == [200] * 8
    strangers = [f"2001:db8:0:{number:x}::1" for number in range(1, 9)]
    assert statuses(recorder, limit, strangers, "/items/7") == [200] * 8
    monkeypatch.setenv("OTEL_PYTHON_GUARD_IPV6_PREFIX", "56")
    assert statuses(recorder, limit, strangers, "/items/7") == [200] * 5 + [429] * 3
    mapped = ["::ffff:198.51.100.7", "198.51.100.7", "::ffff:c633:6407", "::ffff:198.51.100.8"]
    assert statuses(recorder, DynamicRules(global_rate_limit=2), mapped, "/items/7") == [200, 200, 429, 200]


def test_an_automatic_ban_holds_for_an_ipv6_network(recorder: Recorder) -> None:
    given = DynamicRules(suspicious_patterns=["passwd"], auto_ban_threshold=2)
    offenders = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:1::1"]
    assert statuses(recorder, given, offenders, "/passwd") == [400, 400, 403, 400]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "172.16.0.9", "::ffff:192.168.0.1", "fd00::1"])
def test_private_addresses_are_never_banned_automatically(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    given = DynamicRules(suspicious_patterns=["passwd"], auto_ban_threshold=1)
    assert statuses(recorder, given, [address] * 3, "/passwd") == [400] * 3
    assert "ip_banned" not in recorder.types()
    assert [record.getMessage().count("TRUSTED_PROXIES") for record in caplog.records] == [1]


def test_a_trusted_proxy_is_never_banned_automatically(recorder: Recorder) -> None:
    given = DynamicRules(suspicious_patterns=["passwd"], auto_ban_threshold=1)
    assert statuses(recorder, given, ["192.0.2.7"] * 2, "/passwd", trusted_proxies="192.0.2.0/24") == [400] * 2


def test_a_proxy_that_nobody_trusts_is_told_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"X-Forwarded-For": "198.51.100.1"}
    for _ in range(2):
        client(recorder, DynamicRules(), "192.0.2.7").get("/items/7", headers=headers)
    assert caplog.records == []
    for _ in range(2):
        client(recorder, DynamicRules(), "10.0.0.1").get("/items/7", headers=headers)
    (record,) = caplog.records
    assert "OTEL_PYTHON_GUARD_TRUSTED_PROXIES" in record.getMessage()


@pytest.mark.parametrize("path", ["/health", "/healthz", "/healthz/", "/readyz", "/livez"])
def test_health_probes_pass_emergency_mode_limits_and_lists(recorder: Recorder, path: str) -> None:
    given = DynamicRules(emergency_mode=True, ip_blacklist=["192.0.2.7"], global_rate_limit=1)
    assert statuses(recorder, given, ["192.0.2.7"] * 3, path) == [404] * 3
    assert statuses(recorder, given, ["192.0.2.7"], f"{path}/x") == [503]
    assert statuses(recorder, given, ["192.0.2.7"], path, exclude_paths=[]) == [503]
    assert statuses(recorder, given, ["192.0.2.7"] * 2, "/items/7", exclude_paths="/up,/items/7") == [200] * 2


def test_wrong_settings_are_refused_where_they_are_given() -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        GuardRulesMiddleware(application(), trusted_proxies=["nonsense"])
    with pytest.raises(ValueError, match="ipv6_prefix"):
        GuardRulesMiddleware(application(), ipv6_prefix=0)
    with pytest.raises(ValueError, match="exclude_paths"):
        GuardRulesMiddleware(application(), exclude_paths=["health"])
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
