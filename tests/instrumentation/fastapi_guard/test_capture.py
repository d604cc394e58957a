"""fastapi-guard in this process: where our handler goes, and that everything is put back."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from starlette.websockets import WebSocketDisconnect
from support.pipeline import pipeline
from support.rows import row_of

from opentelemetry_guard import SecurityEvent, emit, privacy
from opentelemetry_guard.events import capture, incident
from opentelemetry_guard.instrumentation import fastapi_guard
from opentelemetry_guard.instrumentation.http import following as request_following
from opentelemetry_guard.settings.instrumentation import GuardOptions

guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")

NO_RULES = GuardOptions(rules_interval=0)
ATTACK = "/items/1?q=1' UNION SELECT password FROM users--"


class Recorded:
    """What arrived in the pipelines of this test."""

    def __init__(self, logs: InMemoryLogRecordExporter, metrics: InMemoryMetricReader) -> None:
        self._logs = logs
        self._metrics = metrics

    def events(self) -> list[dict[str, Any]]:
        """Return the events about clients."""
        rows = [row_of(record.log_record) for record in self._logs.get_finished_logs()]
        return [row for row in rows if row["ip_address"] not in ("", "system")]

    def traces(self) -> list[int | None]:
        """Return the trace ids of the events about clients."""
        records = [record.log_record for record in self._logs.get_finished_logs()]
        return [record.trace_id for record in records if row_of(record)["ip_address"] not in ("", "system")]

    def values(self, name: str) -> list[float]:
        """Return the sums of a security metric's points, by what is collected now."""
        data = self._metrics.get_metrics_data()
        return [
            point.value
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        ]

    def folded(self, event_type: str) -> list[int]:
        """Return how many others each event of a type counts."""
        rows = [row_of(record.log_record) for record in self._logs.get_finished_logs()]
        return [row["metadata"].get("folded", 0) for row in rows if row["event_type"] == event_type]

    def metrics(self) -> dict[str, list[dict[str, object]]]:
        """Return the attributes of each security metric's points, by name."""
        data = self._metrics.get_metrics_data()
        return {
            metric.name: [dict(point.attributes or {}) for point in metric.data.data_points]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name != "guard.security_events"
        }


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    logs, metrics = InMemoryLogRecordExporter(), InMemoryMetricReader()
    with pipeline(logs=[logs], readers=[metrics]) as built:
        monkeypatch.setattr(emit, "_global_emitter", built.emitter)
        fastapi_guard.install(NO_RULES)
        yield Recorded(logs, metrics)
        fastapi_guard.uninstall()


def settings(**more: Any) -> Any:
    return guard.SecurityConfig(
        **{
            "enable_redis": False,
            "trusted_proxies": ["127.0.0.1"],
            "auto_ban_threshold": 1000,
            "rate_limit": 1000,
            **more,
        }
    )


def application(config: Any | None = None, middleware: Any = None) -> FastAPI:
    app = FastAPI()
    app.add_middleware(middleware or guard.SecurityMiddleware, config=config or settings())
    return with_routes(app)


def with_routes(app: FastAPI) -> FastAPI:
    @app.get("/items/{number}")
    def item(number: int) -> dict[str, int]:
        return {"item": number}

    return app


def with_socket(app: FastAPI, config: Any) -> FastAPI:
    if not hasattr(guard, "make_guard_websocket"):
        pytest.skip("this release guards no WebSockets")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, _: None = Depends(guard.make_guard_websocket(config))) -> None:
        await websocket.accept()
        await websocket.close()

    return app


def client(app: Any, address: str = "203.0.113.7", root_path: str = "") -> TestClient:
    return TestClient(app, root_path=root_path, client=("127.0.0.1", 50000), headers={"X-Forwarded-For": address})


@pytest.fixture(params=["SecurityMiddleware", "PureASGISecurityMiddleware"])
def middleware(request: pytest.FixtureRequest) -> Any:
    if not hasattr(guard, request.param):
        pytest.skip(f"this release has no {request.param}")
    return getattr(guard, request.param)


def test_an_attack_is_one_event_with_its_status(recorded: Recorded, middleware: Any) -> None:
    assert client(application(middleware=middleware)).get(ATTACK).status_code == 400
    (event,) = recorded.events()
    assert (event["event_type"], event["status_code"], event["endpoint"]) == (
        "penetration_attempt",
        400,
        "/items/{number}",
    )
    assert "content_preview" not in event["metadata"]
    assert capture.is_captured("guard_core")


def test_what_matched_is_quoted_where_a_setting_turns_that_on(recorded: Recorded) -> None:
    privacy.configure(capture_content=True)
    assert client(application()).get(ATTACK).status_code == 400
    (event,) = recorded.events()
    assert event["metadata"]["content_preview"] == "1' UNION SELECT password FROM users--"


def test_an_application_behind_a_root_path_is_told_by_its_routes(recorded: Recorded, middleware: Any) -> None:
    app = client(application(middleware=middleware), root_path="/api")
    assert app.get("/api" + ATTACK).status_code == 400
    assert [event["endpoint"] for event in recorded.events()] == ["/items/{number}"]


def test_a_guard_around_an_application_tells_the_trace_that_the_client_is_in(
    recorded: Recorded, middleware: Any
) -> None:
    app = client(middleware(with_routes(FastAPI()), config=settings()))
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    assert app.get(ATTACK, headers=headers).status_code == 400
    assert [f"{trace_of:032x}" for trace_of in recorded.traces()] == [trace_id]


def test_an_attack_on_a_websocket_is_one_event(recorded: Recorded, middleware: Any) -> None:
    config = settings()
    app = client(with_socket(application(config, middleware), config))
    with pytest.raises(WebSocketDisconnect), app.websocket_connect("/socket?q=<script>alert(1)</script>"):
        pass
    (event,) = recorded.events()
    assert (event["event_type"], event["status_code"], event["endpoint"]) == ("penetration_attempt", 403, "/socket")


def test_a_warmed_up_middleware_is_captured_too(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    lifespan = pytest.importorskip("guard.lifespan", reason="this release has no helpers for lifespans")
    app = with_routes(FastAPI(lifespan=lifespan.guard_lifespan))
    app.add_middleware(guard.SecurityMiddleware, config=settings())
    with client(app) as warmed:
        assert warmed.get(ATTACK).status_code == 400
    assert [event["event_type"] for event in recorded.events()] == ["penetration_attempt"]
    assert "nothing is guarded" not in caplog.text


def places() -> list[Any]:
    """Return what is changed, of this release."""
    for module in fastapi_guard.MODULES:
        if importlib.util.find_spec(module):
            importlib.import_module(module)
    from guard import middleware
    from guard_core import _pydantic_plugin_mute
    from guard_core.handlers.dynamic_rule_handler import DynamicRuleManager

    websocket = sys.modules.get("guard.websocket")
    changed = (
        guard.SecurityMiddleware,
        getattr(guard, "PureASGISecurityMiddleware", None),
        getattr(websocket, "_WebSocketDetectionMiddleware", None),
        middleware.BaseSecurityDecorator,
        middleware.HandlerInitializer,
        DynamicRuleManager,
        _pydantic_plugin_mute,
    )
    return [place for place in changed if place is not None]


def test_everything_is_put_back(recorded: Recorded) -> None:
    patched = [dict(vars(place)) for place in places()]
    fastapi_guard.install()
    assert [dict(vars(place)) for place in places()] == patched, "a second install changes nothing"
    app = application()
    client(app).get(ATTACK)
    fastapi_guard.uninstall()
    unpatched = [dict(vars(place)) for place in places()]
    assert all(before != after for before, after in zip(patched, unpatched, strict=True))
    assert not any("opentelemetry_guard" in getattr(value, "__module__", "") for value in unpatched[0].values())
    assert "__call__" not in unpatched[0], "it was inherited before"
    assert not capture.is_captured("guard_core")
    assert client(app).get(ATTACK).status_code == 400
    assert len(recorded.events()) == 1, "a middleware from before is guarded on, and tells nothing"
    fastapi_guard.install(NO_RULES)
    assert client(application()).get(ATTACK).status_code == 400
    assert len(recorded.events()) == 2


def test_the_middleware_shows_our_counts_as_its_agents(recorded: Recorded) -> None:
    middleware = guard.SecurityMiddleware(FastAPI(), config=settings())
    if not hasattr(middleware, "agent_stats"):
        pytest.skip("this release shows no counts")
    assert middleware.agent_stats["enabled"]


class TheirAgent:
    """The agent of an application that set `enable_agent`."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.rule_polls: list[bool] = []
        self.polled = asyncio.Event()

    def send_event(self, event: Any) -> None:
        self.events.append(event)
        raise ConnectionError("their backend is away")

    async def send_metric(self, metric: Any) -> None:
        """Not looked at."""

    async def get_dynamic_rules(self) -> None:
        self.rule_polls.append(trace.get_current_span().get_span_context().is_valid)
        self.polled.set()

    async def start(self) -> None:
        """Nothing to start."""

    def get_stats(self) -> dict[str, object]:
        return {"theirs": True}


@pytest.fixture
def their_agent(monkeypatch: pytest.MonkeyPatch) -> TheirAgent:
    agent = TheirAgent()
    package: Any = types.ModuleType("guard_agent")
    package.guard_agent = lambda config: agent
    package.AgentConfig = lambda **fields: fields
    package.SecurityEvent = type("TheirEvent", (SecurityEvent,), {})
    package.SecurityMetric = dict
    monkeypatch.setitem(sys.modules, "guard_agent", package)
    monkeypatch.setattr(guard.SecurityConfig, "to_agent_config", lambda self: {"api_key": "test-key-of-an-agent"})
    return agent


def test_the_applications_own_agent_and_ours_both_receive(recorded: Recorded, their_agent: TheirAgent) -> None:
    config = settings(enable_agent=True, agent_api_key="test-key-of-an-agent")
    assert guard.SecurityMiddleware(FastAPI(), config=config).agent_handler.get_stats() == {"theirs": True}
    assert client(application(config)).get(ATTACK).status_code == 400
    theirs = [event for event in their_agent.events if event.event_type == "penetration_attempt"]
    assert [type(event).__name__ for event in theirs] == ["TheirEvent"]
    assert [event["event_type"] for event in recorded.events()] == ["penetration_attempt"]


def test_the_task_that_polls_rules_continues_no_requests_trace(recorded: Recorded, their_agent: TheirAgent) -> None:
    from guard_core.handlers.dynamic_rule_handler import DynamicRuleManager

    config = settings(enable_agent=True, agent_api_key="test-key-of-an-agent", enable_dynamic_rules=True)
    engine = guard.SecurityMiddleware(FastAPI(), config=config)

    async def first_request() -> None:
        with TracerProvider(shutdown_on_exit=False).get_tracer("the.application").start_as_current_span("request"):
            await engine.initialize()
        manager: Any = DynamicRuleManager(config)
        await asyncio.wait_for(their_agent.polled.wait(), 30)
        manager.update_task.cancel()
        await asyncio.gather(manager.update_task, return_exceptions=True)

    asyncio.run(first_request())
    assert their_agent.rule_polls == [False]


def test_a_request_that_http_instrumentation_measures_is_not_measured_again(recorded: Recorded) -> None:
    app = application()
    FastAPIInstrumentor.instrument_app(app)
    assert client(app).get("/items/1").status_code == 200
    assert recorded.metrics() == {}


def test_without_http_instrumentation_requests_are_measured_by_route(recorded: Recorded, middleware: Any) -> None:
    app = client(application(middleware=middleware))
    assert (app.get("/items/1").status_code, app.get("/unknown").status_code) == (200, 404)
    points = recorded.metrics()
    assert points["guard.request_count"] == [
        {"http.route": "/items/{number}", "guard.tag.method": "GET"},
        {"guard.tag.method": "GET"},
    ]
    assert points["guard.error_rate"] == [{"guard.tag.method": "GET", "guard.tag.status": "404"}]
    assert set(points) == {"guard.request_count", "guard.error_rate", "guard.response_time"}


def test_two_guards_in_the_way_measure_a_request_once(recorded: Recorded, middleware: Any) -> None:
    config = settings()
    app = application(config, middleware)
    app.add_middleware(middleware, config=config)
    assert client(app).get("/items/1").status_code == 200
    assert recorded.values("guard.request_count") == [1]


def test_metrics_of_the_applications_own_are_always_recorded(recorded: Recorded) -> None:
    engine = guard.SecurityMiddleware(FastAPI(), config=settings())
    asyncio.run(engine.metrics_collector.send_metric("cache_hit_rate", 0.9, {"cache": "sessions"}))
    assert recorded.metrics() == {"guard.cache_hit_rate": [{"guard.tag.cache": "sessions"}]}


def test_noise_that_was_folded_is_told_when_the_application_ends(recorded: Recorded, middleware: Any) -> None:
    with client(application(middleware=middleware)) as running:
        for number in range(4):
            assert running.get(f"/items/{number}").status_code == 200  # it is reported once for each path
        assert recorded.folded("security_headers_applied") == [0]
    told, last = recorded.folded("security_headers_applied")
    assert (told, last) == (0, 2)


def test_noise_that_was_folded_is_told_when_the_capture_ends(recorded: Recorded) -> None:
    app = client(application())
    for number in range(3):
        app.get(f"/items/{number}")
    fastapi_guard.uninstall()
    assert recorded.folded("security_headers_applied") == [0, 1]


def test_noise_is_no_incident_of_a_request(recorded: Recorded) -> None:
    notes, token = incident.begin()
    try:
        client(application()).get("/items/1")
        assert recorded.folded("security_headers_applied") == [0]
    finally:
        incident.end(token)
    assert notes == []


def test_a_blocked_request_knows_that_it_was_reported(recorded: Recorded) -> None:
    reported: list[list[object]] = []

    def look(request: request_following.FollowedRequest) -> None:
        reported.append([row["event_type"] for row in request.events])

    request_following.observe(look)
    try:
        app = client(application())
        assert app.get(ATTACK).status_code == 400
        assert app.get("/items/1").status_code == 200
    finally:
        request_following.ignore(look)
    assert reported == [["penetration_attempt"], []]


def test_everything_goes_through_the_given_emitter() -> None:
    logs = InMemoryLogRecordExporter()
    with pipeline(logs=[logs]) as built:
        fastapi_guard.install(NO_RULES, built.emitter)
        try:
            assert client(application()).get(ATTACK).status_code == 400
        finally:
            fastapi_guard.uninstall()
    types_told = {row_of(record.log_record)["event_type"] for record in logs.get_finished_logs()}  # type: ignore[index]
    assert "penetration_attempt" in types_told


def test_a_release_before_the_supported_ones_is_named(
    recorded: Recorded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry_guard.instrumentation.fastapi_guard import patches as guard_patches
    from opentelemetry_guard.instrumentation.fastapi_guard import release as guard_release

    monkeypatch.setattr(guard_release, "release", lambda: "4.4.1")
    monkeypatch.setattr(guard_release, "core_release", lambda: None)
    guard_patches._say_release()
    assert "fastapi-guard 4.4.1 is captured as far as it goes" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("release", "core", "expected"),
    [
        ("4.2.0", None, False),
        ("5.1.9", "1.1.0", False),
        ("5.2.0", "1.2.0", False),
        ("5.2.0", "3.16.4", False),
        ("7.8.2", "3.17.0", True),
        ("8.1.2", "4.4.0", True),
        ("10.0", "of an unknown one", True),
        ("of an unknown one", None, True),
    ],
)
def test_full_support_begins_with_5_2_and_guard_core_3_17(release: str, core: str | None, expected: bool) -> None:
    from opentelemetry_guard.instrumentation.fastapi_guard import release as guard_release

    assert guard_release.is_fully_supported(release, core) is expected


def test_a_middleware_that_was_never_added_is_named_with_the_line_that_adds_it(
    recorded: Recorded, middleware: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = with_routes(FastAPI())
    middleware(app, config=settings())
    with caplog.at_level(logging.WARNING):
        assert client(app).get("/items/1").status_code == 200
    assert caplog.text.count(f"app.add_middleware({middleware.__name__}, config=config)") == 1


def test_a_middleware_that_is_served_itself_or_added_later_is_fine(
    recorded: Recorded, middleware: Any, caplog: pytest.LogCaptureFixture
) -> None:
    served, added = with_routes(FastAPI()), with_routes(FastAPI())
    around = middleware(served, config=settings())
    middleware(added, config=settings())
    added.add_middleware(middleware, config=settings())
    for app in (around, added):
        with client(app) as running:
            assert running.get(ATTACK).status_code == 400
    assert len(recorded.events()) == 2
    assert "nothing is guarded" not in caplog.text


def test_a_release_without_one_of_the_places_is_imported_all_the_same(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry_guard.instrumentation.fastapi_guard import patches as guard_patches

    guard_patches.apply(types.ModuleType("guard.websocket"), NO_RULES, None)
    guard_patches.apply(types.ModuleType("guard.asgi"), NO_RULES, None)
    assert "has no _WebSocketDetectionMiddleware.__init__" in caplog.text
    assert "what guard.asgi reports is captured in part or not at all" in caplog.text


LAZY = """
import sys
from opentelemetry_guard.instrumentation import GuardInstrumentor
GuardInstrumentor().instrument(sigterm_handler=False)
GuardInstrumentor().uninstrument()
print(sorted({name.partition(".")[0] for name in sys.modules} & {"guard", "guard_core", "fastapi", "pydantic"}))
"""


def test_nothing_is_imported_for_an_application_that_does_not_use_it() -> None:
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
