"""Dynamic rules in fastapi-guard: in force when they change, on every application's loop, and lifted when they go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import trace
from support.redis import eventually

from opentelemetry_guard import rules as rules_module
from opentelemetry_guard.decision.unenforced import unenforced
from opentelemetry_guard.instrumentation import fastapi_guard
from opentelemetry_guard.instrumentation.fastapi_guard import patches
from opentelemetry_guard.instrumentation.fastapi_guard import rules as guard_rules
from opentelemetry_guard.instrumentation.fastapi_guard.handler import BesideAgent, GuardAgentHandler
from opentelemetry_guard.models import DynamicRules
from opentelemetry_guard.settings.instrumentation import GuardOptions

guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")

ADDRESS = "203.0.113.7"


class RulesClient:
    """Stands for the rules client of this process, whose callbacks come from a thread of its own."""

    def __init__(self) -> None:
        self.intervals: list[float | None] = []
        self.rules: DynamicRules | None = None
        self._callback: Callable[[DynamicRules | None, DynamicRules], None] | None = None

    def subscribe(
        self, callback: Callable[[DynamicRules | None, DynamicRules], None], interval: float | None = None
    ) -> Callable[[], None]:
        self.intervals.append(interval)
        self._callback = callback
        if self.rules is not None:
            self._call(self.rules)
        return self._unsubscribe

    def _unsubscribe(self) -> None:
        self._callback = None

    @property
    def has_subscriber(self) -> bool:
        return self._callback is not None

    def push(self, **fields: Any) -> DynamicRules:
        """Let rules change."""
        self.rules = DynamicRules(**{"rule_id": "r", **fields})
        if self._callback is not None:
            self._call(self.rules)
        return self.rules

    def _call(self, rules: DynamicRules) -> None:
        assert self._callback is not None
        thread = threading.Thread(target=self._callback, args=(None, rules))
        thread.start()
        thread.join()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[RulesClient]:
    from guard_core.handlers.dynamic_rule_handler import DynamicRuleManager
    from guard_core.handlers.ipban_handler import ip_ban_manager

    built = RulesClient()
    monkeypatch.setattr(rules_module, "subscribe", built.subscribe)
    monkeypatch.setattr(DynamicRuleManager, "_instance", None)
    fastapi_guard.install()
    yield built
    fastapi_guard.uninstall()
    ip_ban_manager.redis_handler = ip_ban_manager.agent_handler = None
    asyncio.run(ip_ban_manager.reset())


def settings(**more: Any) -> Any:
    return guard.SecurityConfig(**{"enable_redis": False, "trusted_proxies": ["127.0.0.1"], "rate_limit": 1000, **more})


@contextmanager
def running(config: Any = None) -> Iterator[TestClient]:
    """Serve a guarded application, which nobody has told of rules, on a loop that lasts."""
    app = FastAPI()
    app.add_middleware(guard.SecurityMiddleware, config=config or settings())

    @app.get("/item")
    def item() -> dict[str, str]:
        return {"item": "yes"}

    with TestClient(app, client=("127.0.0.1", 50000), headers={"X-Forwarded-For": ADDRESS}) as client:
        assert client.get("/item").status_code == 200
        yield client


def becomes(client: TestClient, status: int, path: str = "/item", **headers: str) -> None:
    """Wait until requests are answered with `status`; no poll of guard-core's would come in that time."""
    eventually(lambda: client.get(path, headers=headers).status_code == status)


def test_a_ban_is_in_force_when_it_arrives_and_lifted_when_it_goes(backend: RulesClient) -> None:
    with running() as client:
        backend.push(version=1, ip_blacklist=[ADDRESS])
        becomes(client, 403)
        backend.push(version=2)
        becomes(client, 200)


def test_what_a_list_has_banned_says_which_list_it_was(backend: RulesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, Any]] = []
    monkeypatch.setattr(patches._handler, "_emit_event", taken.append)
    listed = [{"name": "https://lists.example/drop", "first": 1, "count": 1}]
    with running() as client:
        backend.push(version=1, ip_blacklist=["192.0.2.1", ADDRESS], ip_blacklist_sources=listed)
        becomes(client, 403)
        backend.push(version=2, ip_blacklist=[ADDRESS, "192.0.2.1"], ip_blacklist_sources=listed)
        before = len(taken)
        becomes(client, 403)
    blocked = [event for event in taken if event["event_type"] == "ip_blocked"]
    assert blocked[0]["metadata"]["ban_list"] == "https://lists.example/drop"
    assert "ban_list" not in blocked[-1]["metadata"]
    assert len(taken) > before
    assert not any("ip_blacklist_sources" in problem for problem in unenforced())


def test_what_fastapi_guard_does_not_enforce_is_told_while_it_is_asked_for(
    backend: RulesClient, caplog: pytest.LogCaptureFixture
) -> None:
    with running() as client:
        unenforced_fields = {
            "message": "hello",
            "emergency_whitelist_only": True,
            "blocked_countries": ["DE"],
        }
        backend.push(version=1, ip_blacklist=[ADDRESS], **unenforced_fields)
        becomes(client, 403)
        for name in unenforced_fields:
            assert sum(problem.startswith(f"{name} has no effect") for problem in unenforced()) == 1
            assert sum(f"{name} has no effect" in record.getMessage() for record in caplog.records) == 1
        backend.push(version=2)
        becomes(client, 200)
        assert not any("blocked_countries" in problem for problem in unenforced())


def test_a_banned_network_is_lifted_too(backend: RulesClient) -> None:
    with running() as client:
        backend.push(version=1, ip_blacklist=["203.0.113.0/24"])
        becomes(client, 403)
        backend.push(version=2, ip_blacklist=["192.0.2.0/24"])
        becomes(client, 200)


def test_what_stays_banned_stays_banned(backend: RulesClient) -> None:
    with running() as client:
        backend.push(version=1, ip_blacklist=[ADDRESS, "192.0.2.1"])
        becomes(client, 403)
        backend.push(version=2, ip_blacklist=[ADDRESS])
        eventually(lambda: guard_rules._state.managed[0].manager.current_rules.version == 2)
        assert client.get("/item").status_code == 403


@pytest.mark.parametrize(
    ("rules", "status", "path"),
    [
        ({"blocked_user_agents": ["testclient"]}, 403, "/item"),
        ({"emergency_mode": True}, 503, "/item"),
        ({"endpoint_rate_limits": {"/item": (1, 60)}}, 429, "/item"),
        ({"global_rate_limit": 1, "global_rate_window": 60}, 429, "/item"),
        ({"suspicious_patterns": ["evil-word"]}, 400, "/item?q=evil-word"),
    ],
    ids=["user-agent", "emergency", "endpoint-limit", "global-limit", "pattern"],
)
def test_each_kind_of_rule_is_in_force_and_lifted(
    backend: RulesClient, rules: dict[str, Any], status: int, path: str
) -> None:
    with running() as client:
        backend.push(version=1, **rules)
        becomes(client, status, path)
        backend.push(version=2)
        becomes(client, 200, path)


def test_in_an_emergency_the_whitelist_goes_on(backend: RulesClient) -> None:
    with running() as client:
        backend.push(version=1, emergency_mode=True, emergency_whitelist=["198.51.100.1"])
        becomes(client, 503)
        assert client.get("/item", headers={"X-Forwarded-For": "198.51.100.1"}).status_code == 200


def test_rules_whose_version_went_back_count(backend: RulesClient) -> None:
    with running() as client:
        backend.push(version=5, ip_blacklist=[ADDRESS])
        becomes(client, 403)
        backend.push(version=4)
        becomes(client, 200)


def test_rules_that_are_known_before_the_first_request_are_in_force(backend: RulesClient) -> None:
    backend.push(version=1, blocked_user_agents=["elsewhere"])
    with running() as client:
        becomes(client, 403, **{"User-Agent": "elsewhere"})


def test_no_rules_are_no_rules_until_there_were_some(backend: RulesClient) -> None:
    backend.rules = DynamicRules()
    with running() as client:
        manager = guard_rules._state.managed[0].manager
        assert guard_rules.current() is None
        backend.push(version=1, ip_blacklist=[ADDRESS])
        becomes(client, 403)
        backend.push(rule_id="", version=0)
        becomes(client, 200)
        assert manager.current_rules.rule_id == ""


def test_two_applications_on_two_loops_both_follow(backend: RulesClient) -> None:
    with running() as first, running() as second:
        backend.push(version=1, blocked_user_agents=["testclient"])
        becomes(first, 403)
        becomes(second, 403)
        assert len(backend.intervals) == 1


def test_a_loop_that_has_ended_is_passed_over(backend: RulesClient) -> None:
    with running():
        pass
    with running() as client:
        backend.push(version=1, ip_blacklist=[ADDRESS])
        becomes(client, 403)


def test_rules_that_guard_core_refuses_change_nothing(backend: RulesClient, caplog: pytest.LogCaptureFixture) -> None:
    with running() as client:
        backend.push(version=1, ip_blacklist=[ADDRESS])
        becomes(client, 403)
        backend.push(version=2, auto_ban_threshold=0)
        assert "the rules 'r' version 2 can't be given to fastapi-guard" in caplog.text
        assert client.get("/item").status_code == 403


def test_an_application_that_wants_no_rules_gets_none(backend: RulesClient) -> None:
    with running(settings(enable_dynamic_rules=False)):
        assert backend.intervals == []


def test_an_interval_of_none_polls_nothing(backend: RulesClient) -> None:
    fastapi_guard.uninstall()
    fastapi_guard.install(GuardOptions(rules_interval=0))
    config = settings()
    with running(config):
        assert backend.intervals == []
        assert not config.enable_dynamic_rules


def test_the_interval_is_the_options_and_else_the_applications(backend: RulesClient) -> None:
    with running(settings(dynamic_rule_interval=90)):
        assert backend.intervals == [90.0]
    fastapi_guard.uninstall()
    fastapi_guard.install(GuardOptions(rules_interval=2))
    with running(settings(dynamic_rule_interval=90)):
        assert backend.intervals == [90.0, 2]


def test_after_uninstalling_nobody_listens(backend: RulesClient) -> None:
    with running():
        assert backend.has_subscriber
        fastapi_guard.uninstall()
        assert not backend.has_subscriber


def test_rules_continue_no_requests_trace(backend: RulesClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from guard_core.handlers.dynamic_rule_handler import DynamicRuleManager

    seen: list[bool] = []
    apply_rules = DynamicRuleManager._apply_rules

    async def noting(self: Any, rules: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().is_valid)
        await apply_rules(self, rules)

    monkeypatch.setattr(DynamicRuleManager, "_apply_rules", noting)
    with running() as client:
        span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
        with trace.use_span(span):
            backend.push(version=1, ip_blacklist=[ADDRESS])
        becomes(client, 403)
    assert seen == [False]


class TheirAgent:
    async def get_dynamic_rules(self) -> str:
        return "theirs"


@pytest.mark.parametrize(("theirs", "expected"), [(True, "theirs"), (False, None)])
def test_rules_of_an_agent_beside_ours_come_from_one_of_them(theirs: bool, expected: str | None) -> None:
    agent = BesideAgent(TheirAgent(), GuardAgentHandler(), rules_are_theirs=theirs)
    assert asyncio.run(agent.get_dynamic_rules()) == expected


def test_our_handlers_are_what_guard_core_calls_an_agent() -> None:
    protocols = pytest.importorskip("guard_core.protocols", reason="this release has no guard-core")
    assert isinstance(GuardAgentHandler(), protocols.AgentHandlerProtocol)
    assert isinstance(BesideAgent(TheirAgent(), GuardAgentHandler()), protocols.AgentHandlerProtocol)


class Countries:
    """A source of countries, as applications give fastapi-guard one."""

    is_initialized = True

    async def initialize(self) -> None:
        """Be ready."""

    async def initialize_redis(self, redis_handler: Any) -> None:
        """Need no Redis."""

    async def initialize_agent(self, agent_handler: Any) -> None:
        """Need no agent."""

    def get_country(self, ip: str) -> str | None:
        """Return the country of every address."""
        return "XX"

    async def check_country_access(self, *_: Any) -> Any:
        """Refuse nothing by itself."""
        return True, None

    async def refresh(self) -> None:
        """Know everything already."""

    def close(self) -> None:
        """Hold nothing."""


@pytest.mark.parametrize("rule", [{"blocked_countries": ["XX"]}, {"whitelist_countries": ["YY"]}])
def test_countries_of_rules_count_where_the_configuration_had_none(backend: RulesClient, rule: Any) -> None:
    with running(settings(geo_ip_handler=Countries())) as client:
        backend.push(version=1, **rule)
        becomes(client, 403)
        backend.push(version=2)
        becomes(client, 200)


def test_countries_that_nobody_can_tell_are_told_once(backend: RulesClient, caplog: pytest.LogCaptureFixture) -> None:
    with running() as client:
        backend.push(version=1, blocked_countries=["XX"], ip_blacklist=[ADDRESS])
        becomes(client, 403)
    assert [
        record.name for record in caplog.records if "geo_ip_handler" in record.message and "no effect" in record.message
    ]


def test_switching_bans_off_lifts_the_automatic_ones_and_keeps_the_rules_own(backend: RulesClient) -> None:
    from guard_core.handlers.ipban_handler import ip_ban_manager

    with running() as client:
        backend.push(version=1, ip_blacklist=["192.0.2.9"])
        eventually(lambda: "192.0.2.9" in ip_ban_manager.banned_ips)
        client.portal.call(ip_ban_manager.ban_ip, ADDRESS, 600)  # type: ignore[union-attr]
        assert client.get("/item").status_code == 403
        backend.push(version=2, ip_blacklist=["192.0.2.9"], enable_ip_banning=False)
        becomes(client, 200)
        assert "192.0.2.9" in ip_ban_manager.banned_ips


def test_rules_that_replace_others_start_from_the_applications_own_configuration(backend: RulesClient) -> None:
    config = settings(blocked_user_agents=["own"], auto_ban_threshold=8)
    with running(config) as client:
        backend.push(version=1, blocked_user_agents=["testclient"], emergency_mode=True)
        becomes(client, 503)
        backend.push(version=2, emergency_mode=True)
        # All of it at once: on the way there the application's own configuration is in force.
        eventually(
            lambda: (config.blocked_user_agents, config.emergency_mode, config.auto_ban_threshold) == (["own"], True, 4)
        )
        backend.push(version=3)
        becomes(client, 200)
        assert (config.blocked_user_agents, config.emergency_mode, config.auto_ban_threshold) == (["own"], False, 8)
