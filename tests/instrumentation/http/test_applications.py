"""Applications that know nothing of us: what their answers tell becomes events, whoever else instruments them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from opentelemetry import trace
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from starlette.applications import Starlette
from starlette.authentication import SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.routing import Mount, Route, Router
from support.asgi import BROWSER, fetch, get
from support.recording import Recording, recording
from support.reporting_guard import ReportingGuard

from opentelemetry_guard.agent.held import Held
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.instrumentation.http import following as request_following
from opentelemetry_guard.instrumentation.http import patches as application_patches
from opentelemetry_guard.instrumentation.http import routes
from opentelemetry_guard.instrumentation.http.answers import AnsweredRequest, Telling
from opentelemetry_guard.instrumentation.http.judging import AnswerJudge
from opentelemetry_guard.settings.instrumentation import GuardOptions

TRACE = 0xFEDC
PLAIN = GuardOptions(behavior=False)


@pytest.fixture
def recorded() -> Iterator[Recording]:
    with recording() as built:
        fastapi_apps.install(PLAIN, built.pipeline.emitter)
        yield built
        fastapi_apps.uninstall()


def application(**settings: Any) -> FastAPI:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False}, **settings)

    @app.get("/items/{number}")
    async def item(number: int, request: Request) -> dict[str, int]:
        if status := int(request.query_params.get("status", 0)):
            raise HTTPException(status)
        if "fail" in request.query_params:
            raise LookupError("the application's")
        return {"item": number}

    return app


def instrumented(app: FastAPI, recorded: Recording, **settings: Any) -> FastAPI:
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=recorded.pipeline.spans, meter_provider=recorded.pipeline.meters, **settings
    )
    return app


def traced(flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{TRACE:032x}-00000000000000aa-{flags}"}


@pytest.mark.parametrize(
    ("status", "event_type", "action"),
    [
        (403, "access_denied", "blocked"),
        (429, "rate_limited", "blocked"),
        (413, "suspicious_request", "blocked"),
        (200, None, None),
        (404, None, None),
        (422, None, None),
        (500, None, None),
    ],
)
def test_a_status_makes_an_event(recorded: Recording, status: int, event_type: str | None, action: str | None) -> None:
    app = application()
    assert get(app, f"/items/7?status={status}") == status
    found = [(event["event_type"], event["action_taken"]) for event in recorded.events()]
    assert found == ([(event_type, action)] if event_type else [])


@pytest.mark.parametrize(("sent", "text"), [("Паук/1.0".encode(), "Паук/1.0"), (b"caf\xe9", "café")])
def test_a_user_agent_is_told_as_it_was_sent(recorded: Recording, sent: bytes, text: str) -> None:
    get(application(), "/items/7?status=403", headers={"user-agent": sent.decode("latin-1")})
    (event,) = recorded.events()
    assert event["user_agent"] == text


def test_an_event_tells_who_asked_for_what_and_how_it_ended(recorded: Recording) -> None:
    get(instrumented(application(), recorded), "/items/7?status=403", method="GET", headers=traced())
    (event,) = recorded.events()
    assert recorded.trace_ids() == [TRACE]
    assert event["ip_address"] == "203.0.113.7"
    assert (event["endpoint"], event["method"], event["status_code"]) == ("/items/{number}", "GET", 403)
    assert event["user_agent"] == BROWSER
    assert event["response_time"] > 0
    assert event["metadata"]["rule"] == "statuses"
    assert event["metadata"]["threat_level"] == 0.4


@pytest.mark.parametrize("convention", ["", "http", "http/dup"])
@pytest.mark.parametrize(
    ("sampler", "flags"),
    [(ALWAYS_ON, "01"), (ALWAYS_OFF, "01"), (ParentBased(ALWAYS_ON), "00")],
    ids=["recorded", "always-off", "unsampled-parent"],
)
@pytest.mark.parametrize("exclude_spans", [None, ["send", "receive"]], ids=["all-spans", "server-span-only"])
def test_what_is_derived_depends_on_no_span(
    monkeypatch: pytest.MonkeyPatch, convention: str, sampler: Any, flags: str, exclude_spans: list[str] | None
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", convention)
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
    with recording(sampler) as recorded:
        fastapi_apps.install(PLAIN, recorded.pipeline.emitter)
        try:
            app = instrumented(application(), recorded, exclude_spans=exclude_spans)
            get(app, "/items/7?status=403", headers=traced(flags))
            with pytest.raises(LookupError):
                get(app, "/items/7?fail", headers=traced(flags))
        finally:
            fastapi_apps.uninstall()
            monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
        assert recorded.types() == ["access_denied"]
        assert recorded.trace_ids() == [TRACE]
        assert recorded.points("guard.error_rate") == [], "the HTTP instrumentation has measured it"


def by_instrumentor(app: FastAPI, recorded: Recording) -> Any:
    return instrumented(app, recorded)


def by_a_middleware_around(app: FastAPI, recorded: Recording) -> Any:
    return OpenTelemetryMiddleware(
        app, tracer_provider=recorded.pipeline.spans, meter_provider=recorded.pipeline.meters
    )


def by_an_added_middleware(app: FastAPI, recorded: Recording) -> Any:
    app.add_middleware(
        OpenTelemetryMiddleware, tracer_provider=recorded.pipeline.spans, meter_provider=recorded.pipeline.meters
    )
    return app


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["recorded", "unsampled"])
@pytest.mark.parametrize("instrument", [by_instrumentor, by_a_middleware_around, by_an_added_middleware])
def test_whoever_measures_a_request_does_it_alone(sampler: Any, instrument: Callable[..., Any]) -> None:
    with recording(sampler) as recorded:
        fastapi_apps.install(PLAIN, recorded.pipeline.emitter)
        try:
            app = instrument(application(), recorded)
            get(app, "/items/7?status=503", headers=traced())
            assert get(app, "/items/7?status=403", headers=traced()) == 403
        finally:
            fastapi_apps.uninstall()
        assert recorded.points("guard.error_rate") == []
        assert recorded.trace_ids() == [TRACE]


def test_fastapis_own_telemetry_measures_a_request_too(recorded: Recording) -> None:
    pytest.importorskip("fastapi.telemetry", reason="this release has no telemetry of its own")
    app = FastAPI(telemetry={"tracer_provider": recorded.pipeline.spans, "meter_provider": recorded.pipeline.meters})

    @app.get("/items/{number}")
    async def item(number: int) -> Response:
        return Response(status_code=number)

    get(app, "/items/503", headers=traced())
    get(app, "/items/403", headers=traced())
    assert recorded.points("guard.error_rate") == []
    assert recorded.trace_ids() == [TRACE]


def test_fastapis_own_telemetry_measures_nothing_with_its_metrics_off(recorded: Recording) -> None:
    pytest.importorskip("fastapi.telemetry", reason="this release has no telemetry of its own")
    app = FastAPI(telemetry={"tracer_provider": recorded.pipeline.spans, "metrics": False})

    @app.get("/items/{number}")
    async def item(number: int) -> Response:
        return Response(status_code=number)

    get(app, "/items/503", headers=traced())
    assert len(recorded.points("guard.error_rate")) == 1


def test_a_request_that_a_guard_around_the_application_follows_is_measured_by_its_instrumentation(
    recorded: Recording,
) -> None:
    app = instrumented(application(), recorded)
    followed: list[request_following.FollowedRequest] = []

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        async def inner(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            followed.append(request_following.current())  # type: ignore[arg-type]

        await request_following.follow(inner, scope, receive, send)

    get(guard, "/items/7", headers=traced())
    assert [request.measured_by_http for request in followed] == [True]


def test_errors_are_counted_where_nobody_else_does(recorded: Recording) -> None:
    app = application()
    get(app, "/items/7?status=503")
    with pytest.raises(LookupError, match="the application's"):
        get(app, "/items/7?fail")
    tagged = {"http.route": "/items/{number}", "guard.tag.method": "GET"}
    assert sorted(recorded.points("guard.error_rate"), key=str) == [
        ({**tagged, "guard.tag.status_code": "500"}, 1, 1),
        ({**tagged, "guard.tag.status_code": "503"}, 1, 1),
    ]


class TestWhenAnApplicationIsOlderThanTheInstrumentation:
    @pytest.fixture
    def late(self) -> Iterator[Recording]:
        with recording() as built:
            yield built
            fastapi_apps.uninstall()

    def test_one_that_has_not_answered_yet_is_followed(self, late: Recording) -> None:
        app = application()
        fastapi_apps.install(PLAIN, late.pipeline.emitter)
        get(app, "/items/7?status=403")
        assert late.types() == ["access_denied"]

    def test_one_that_was_instrumented_before_is_followed(self, late: Recording) -> None:
        app = instrumented(application(), late)
        fastapi_apps.install(PLAIN, late.pipeline.emitter)
        get(app, "/items/7?status=403", headers=traced())
        assert late.trace_ids() == [TRACE]

    @pytest.mark.parametrize("instrument", [lambda app, _: app, instrumented])
    def test_one_that_is_served_already_is_followed(self, late: Recording, instrument: Callable[..., Any]) -> None:
        app = instrument(application(), late)
        get(app, "/items/7?status=403", headers=traced())
        assert late.types() == []
        fastapi_apps.install(PLAIN, late.pipeline.emitter)
        get(app, "/items/7?status=403", headers=traced())
        assert late.types() == ["access_denied"]
        assert late.trace_ids() == [TRACE if instrument is instrumented else 0]


def test_everything_is_put_back() -> None:
    original = (vars(FastAPI)["build_middleware_stack"], vars(Starlette)["build_middleware_stack"])
    with recording() as recorded:
        fastapi_apps.install(PLAIN, recorded.pipeline.emitter)
        fastapi_apps.install(PLAIN, recorded.pipeline.emitter)
        app = application()
        get(app, "/items/7?status=403")
        fastapi_apps.uninstall()
        get(app, "/items/7?status=403")
        assert recorded.types() == ["access_denied"], "a second install changes nothing, an uninstall ends it"
        assert (vars(FastAPI)["build_middleware_stack"], vars(Starlette)["build_middleware_stack"]) == original
        fastapi_apps.install(PLAIN, recorded.pipeline.emitter)
        get(app, "/items/7?status=403")
        fastapi_apps.uninstall()
        assert recorded.types() == ["access_denied", "access_denied"]


def test_an_uninstrumented_application_is_followed_on(recorded: Recording) -> None:
    app = instrumented(application(), recorded)
    get(app, "/items/7")
    FastAPIInstrumentor.uninstrument_app(app)
    get(app, "/items/7?status=403", headers=traced())
    assert recorded.types() == ["access_denied"]
    assert recorded.trace_ids() == [0]


def test_nothing_is_followed_where_nothing_is_to_be_told() -> None:
    with recording() as recorded:
        fastapi_apps.install(GuardOptions(http_events=False, behavior=False), recorded.pipeline.emitter)
        try:
            get(application(), "/items/7?status=403")
        finally:
            fastapi_apps.uninstall()
        assert recorded.types() == []


def test_no_framework_is_imported() -> None:
    code = (
        "import sys; from opentelemetry_guard.instrumentation import GuardInstrumentor; "
        "GuardInstrumentor().instrument(sigterm_handler=False); "
        "sys.exit(any(name in sys.modules for name in ('fastapi', 'starlette', 'guard')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestRoutes:
    def test_a_middlewares_answer_bears_the_route_that_would_have_answered(self, recorded: Recording) -> None:
        app = application()

        @app.middleware("http")
        async def refuse(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
            return PlainTextResponse("no", status_code=403)

        get(app, "/items/7")
        get(app, "/nowhere/7")
        assert [event["endpoint"] for event in recorded.events()] == ["/items/{number}", "/nowhere/7"]

    @pytest.mark.parametrize("refusing", [True, False], ids=["answered-by-a-middleware", "answered-by-the-route"])
    def test_included_and_mounted_routes_have_their_whole_template(self, recorded: Recording, refusing: bool) -> None:
        async def refused(request: Request) -> Response:
            return PlainTextResponse("no", status_code=403)

        router = APIRouter(prefix="/users")
        router.add_api_route("/{user}", refused)
        inner = APIRouter(prefix="/deep")
        inner.add_api_route("/{thing}", refused)
        router.include_router(inner)
        mounted = FastAPI()
        mounted.include_router(router, prefix="/v1")
        app = application()
        app.include_router(router, prefix="/v2")
        app.mount("/tenants/{tenant}", mounted)
        app.mount("/old", Starlette(routes=[Route("/pages/{page:int}", refused)]))
        if refusing:
            app.middleware("http")(lambda request, call_next: refused(request))
        paths = ["/v2/users/ann", "/v2/users/deep/7", "/tenants/acme/v1/users/ann", "/old/pages/3"]
        assert [get(app, path) for path in paths] == [403] * 4
        assert [event["endpoint"] for event in recorded.events()] == [
            "/v2/users/{user}",
            "/v2/users/deep/{thing}",
            "/tenants/{tenant}/v1/users/{user}",
            "/old/pages/{page}",
        ]

    def test_a_request_to_a_mounted_application_is_one_request(self, recorded: Recording) -> None:
        app = application()
        app.mount("/sub", application())
        get(app, "/sub/items/7?status=403")
        assert [event["endpoint"] for event in recorded.events()] == ["/sub/items/{number}"]
        assert recorded.block_rates() == {"/sub/items/{number}": (1, 1)}

    def test_routes_are_asked_no_more_often_for_a_404_than_by_the_router(
        self, recorded: Recording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        matches = APIRoute.matches
        monkeypatch.setattr(
            APIRoute, "matches", lambda self, scope: asked.append(scope["path"]) or matches(self, scope)
        )
        app = application(redirect_slashes=False)
        assert get(app, "/.env") == 404
        assert asked == ["/.env"]
        assert [event["endpoint"] for event in recorded.events()] == ["/.env"]

    def test_routes_in_mounts_are_asked_by_their_router_alone(
        self, recorded: Recording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        matches = APIRoute.matches
        monkeypatch.setattr(
            APIRoute, "matches", lambda self, scope: asked.append(self.path_format) or matches(self, scope)
        )
        inner, outer = FastAPI(), FastAPI()
        for app in (inner, outer):
            app.get("/other")(lambda: {})
        inner.get("/items/{number}")(lambda number: PlainTextResponse("no", status_code=403))
        between = Router(routes=[Mount("/{shop}", app=inner)])
        outer.mount("/else", application())
        outer.mount("/shops/{country}", between)
        assert get(outer, "/shops/nl/first/items/7") == 403
        assert asked == ["/other", "/other", "/items/{number}"]
        assert [event["endpoint"] for event in recorded.events()] == ["/shops/{country}/{shop}/items/{number}"]

    def test_routes_are_asked_where_somebody_else_has_moved_a_request(self) -> None:
        app, inner = FastAPI(), FastAPI()
        inner.get("/items/{number}")(lambda number: {})
        app.mount("/shop", inner)
        scope = {"type": "http", "method": "GET", "path": "/shop/items/7", "root_path": "", "headers": [], "app": app}
        noted = routes.begin(scope)
        scope.update({"root_path": "/elsewhere", "route": inner.routes[-1]})
        assert noted.template() == "/shop/items/{number}"

    def test_a_plain_starlette_application_is_followed(self, recorded: Recording) -> None:
        async def page(request: Request) -> Response:
            return PlainTextResponse("no", status_code=403)

        get(Starlette(routes=[Route("/pages/{page}", page)]), "/pages/3")
        assert [event["endpoint"] for event in recorded.events()] == ["/pages/{page}"]


class TestWebSockets:
    @pytest.fixture
    def app(self) -> FastAPI:
        app = application()

        @app.websocket("/rooms/{room}")
        async def room(websocket: WebSocket, room: str) -> None:
            if room == "open":
                await websocket.accept()
            elif room == "denied":
                await websocket.send_denial_response(PlainTextResponse("who?", status_code=403))
                return
            await websocket.close()

        return app

    def test_a_refused_handshake_is_denied_access(self, recorded: Recording, app: FastAPI) -> None:
        assert get(app, "/rooms/closed", kind="websocket") == 403
        (event,) = recorded.events()
        assert (event["event_type"], event["status_code"]) == ("access_denied", 403)
        assert event["endpoint"] == "/rooms/{room}"

    def test_an_answer_instead_of_a_handshake_counts_by_its_status(self, recorded: Recording, app: FastAPI) -> None:
        assert get(app, "/rooms/denied", kind="websocket") == 403
        assert recorded.types() == ["access_denied"]

    def test_an_accepted_handshake_and_an_unknown_path_are_no_events(self, recorded: Recording, app: FastAPI) -> None:
        assert get(app, "/rooms/open", kind="websocket") == 101
        assert get(app, "/nowhere", kind="websocket") == 403
        assert recorded.types() == []


class TestWhatIsMeasured:
    def test_every_request_counts_in_the_share_of_blocked_ones(self, recorded: Recording) -> None:
        app = application()
        for status in (200, 200, 404, 429):
            get(app, f"/items/7?status={status}")
        assert recorded.block_rates() == {"/items/{number}": (1, 4)}

    def test_a_request_that_made_an_event_has_a_threat_level(self, recorded: Recording) -> None:
        app = application()
        get(app, "/items/7")
        assert recorded.points("guard.threat_level") == []
        get(app, "/items/7?status=429")
        assert recorded.points("guard.threat_level") == [({"http.route": "/items/{number}"}, 0.3, 1)]

    def test_paths_without_a_route_share_one_series(self, recorded: Recording) -> None:
        app = application()
        for number in range(5):
            get(app, f"/nowhere/{number}")
        assert recorded.block_rates() == {None: (0, 5)}


def test_a_request_that_has_made_an_event_makes_none_from_its_status(recorded: Recording) -> None:
    app = application()

    @app.get("/login")
    def login() -> None:  # in a thread
        recorded.pipeline.emitter.emit_event(event_type="access_denied", action_taken="request_blocked")
        raise HTTPException(403)

    get(app, "/login")
    assert recorded.types() == ["access_denied"]
    assert recorded.block_rates() == {"/login": (1, 1)}


def test_what_a_guard_in_the_application_reports_is_the_requests_event(recorded: Recording) -> None:
    report = {"event_type": "ip_blocked", "ip_address": "203.0.113.7", "endpoint": "/items/7"}
    app = application()
    app.add_middleware(ReportingGuard, recorded=recorded, report=report, status=403)
    get(app, "/items/7")
    (event,) = recorded.events()
    assert (event["event_type"], event["endpoint"], event["status_code"]) == ("ip_blocked", "/items/{number}", 403)
    assert event["user_agent"] == BROWSER
    assert recorded.block_rates() == {"/items/{number}": (1, 1)}


def test_the_details_of_a_guards_own_working_hide_no_refusal(recorded: Recording) -> None:
    app = application()

    @app.get("/login")
    async def login() -> None:
        recorded.pipeline.emitter.emit_event(event_type="security_headers_applied", ip_address="203.0.113.7")
        raise HTTPException(403)

    get(app, "/login")
    assert recorded.types() == ["security_headers_applied", "access_denied"]


def test_an_oversized_body_that_the_framework_refuses_is_suspicious(recorded: Recording) -> None:
    app = application()
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=10)

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    assert get(app, "/upload", method="POST", body=b"x" * 100) == 413
    assert recorded.types() == ["suspicious_request"]


def test_a_burst_of_404_is_one_event(recorded: Recording) -> None:
    app = application()
    for number in range(25):
        get(app, f"/pages/{'abcde'[number % 5]}{'fghij'[number // 5]}")
    (event,) = recorded.events()
    assert (event["event_type"], event["action_taken"], event["status_code"]) == ("suspicious_request", "logged", 404)
    assert event["metadata"]["rule"] == "not_found_burst"
    assert event["metadata"]["count"] == 10


def test_rules_of_the_options_are_obeyed() -> None:
    options = GuardOptions.resolve({}, behavior=False, http_rules={"statuses": {"403": None, 418: "content_filtered"}})
    with recording() as recorded:
        fastapi_apps.install(options, recorded.pipeline.emitter)
        try:
            app = application()
            get(app, "/items/7?status=403")
            get(app, "/items/7?status=418")
        finally:
            fastapi_apps.uninstall()
        assert recorded.types() == ["content_filtered"]


def test_a_trusted_proxy_names_the_client() -> None:
    options = GuardOptions.resolve({}, behavior=False, trusted_proxies="10.0.0.0/8")
    with recording() as recorded:
        fastapi_apps.install(options, recorded.pipeline.emitter)
        try:
            app = application()
            forwarded = {"X-Forwarded-For": "192.0.2.66, 198.51.100.9"}
            get(app, "/items/7?status=403", address="10.0.0.1", headers=forwarded)
            get(app, "/items/7?status=403", address="203.0.113.7", headers=forwarded)
        finally:
            fastapi_apps.uninstall()
        assert [event["ip_address"] for event in recorded.events()] == ["198.51.100.9", "203.0.113.7"]


class Analyzer:
    """Remembers what it is fed, and finds every request conspicuous."""

    def __init__(self) -> None:
        self.seen: list[AnsweredRequest] = []

    def observe(self, answered: AnsweredRequest, now: float) -> list[dict[str, object]]:
        self.seen.append(answered)
        return [{"event_type": "behavioral_violation", "metadata": {"count": len(self.seen)}}]

    def is_login(self, *named: object) -> bool:
        return False

    def requests(self, address: str) -> float:
        return 0.0

    def passed(self, *counted: object) -> Telling:
        return lambda answered: self.observe(answered, 0.0)


@pytest.fixture
def analyzer(monkeypatch: pytest.MonkeyPatch) -> Analyzer:
    analyzer = Analyzer()
    monkeypatch.setattr(application_patches, "_watching", lambda options, emitter: analyzer)
    return analyzer


def test_every_answer_is_analysed_and_what_it_finds_is_an_event_of_the_request(
    analyzer: Analyzer, recorded: Recording
) -> None:
    app = instrumented(application(), recorded)

    @app.get("/me")
    async def me() -> dict[str, int]:
        trace.get_current_span().set_attribute("enduser.id", "ann")
        return {}

    get(app, "/me", headers=traced())
    (seen,) = analyzer.seen
    assert (seen.user, seen.address, seen.route, seen.status_code, seen.reported) == (
        *("ann", "203.0.113.7", "/me", 200),
        False,
    )
    (event,) = recorded.events()
    assert (event["event_type"], event["ip_address"], event["endpoint"]) == (
        *("behavioral_violation", "203.0.113.7"),
        "/me",
    )
    assert recorded.trace_ids() == [TRACE]


def test_a_judge_that_fails_costs_no_answer(
    recorded: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(AnswerJudge, "_measure", fail)
    app = application()
    with caplog.at_level(logging.ERROR):
        assert [get(app, "/items/7") for _ in range(3)] == [200] * 3
    assert [record.message for record in caplog.records if "unforeseen" in record.message][1:] == []


def test_500_concurrent_requests_keep_their_traces_apart(recorded: Recording) -> None:
    app = instrumented(application(), recorded)
    arrived: list[int] = []
    everybody = asyncio.Event()

    @app.get("/private/{number}")
    async def private(number: int) -> None:
        arrived.append(number)
        if len(arrived) == 500:
            everybody.set()
        await everybody.wait()  # all of them are under way before the first is answered
        raise HTTPException(403)

    async def all_at_once() -> list[int]:
        return await asyncio.gather(
            *(
                fetch(
                    app,
                    f"/private/{number}",
                    address=f"198.51.{number >> 8}.{number & 255}",
                    headers={"traceparent": f"00-{number:032x}-00000000000000aa-01"},
                )
                for number in range(1, 501)
            )
        )

    assert asyncio.run(all_at_once()) == [403] * 500
    told = {event["ip_address"]: trace for event, trace in zip(recorded.events(), recorded.trace_ids(), strict=True)}
    assert told == {f"198.51.{number >> 8}.{number & 255}": number for number in range(1, 501)}


class Unnamed:
    """A user as an application writes it who knows nothing of Starlette's `BaseUser`."""

    is_authenticated = True


class Broken(Unnamed):
    def __init__(self, error: Exception, *names: str) -> None:
        self._error = error
        self._names = names

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "_names"):
            raise object.__getattribute__(self, "_error")
        return object.__getattribute__(self, name)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no session")


USERS = {
    "without an identity": Unnamed(),
    "Starlette's": SimpleUser("ada"),
    "identity raises": Broken(RuntimeError("detached"), "identity"),
    "identity and name raise": Broken(LookupError("gone"), "identity", "display_name"),
    "nothing can be asked": Broken(OSError("no database"), "is_authenticated", "identity", "display_name"),
    "identity without a text": type("User", (Unnamed,), {"identity": Unprintable()})(),
    "identity is a method": type("User", (Unnamed,), {"identity": lambda self: "ada"})(),
    "no identity yet": type("User", (Unnamed,), {"identity": None})(),
    "a dict": {"name": "ada"},
    "a text": "ada",
}


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_whatever_the_user_object_is_an_answer_makes_its_event_and_its_metrics(recorded: Recording, user: Any) -> None:
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int, request: Request) -> None:
        request.scope["user"] = user
        raise HTTPException(403)

    assert get(app, "/items/7") == 403
    assert recorded.types() == ["access_denied"]
    assert recorded.block_rates() == {"/items/{number}": (1, 1)}


@pytest.mark.parametrize(
    ("user", "told"),
    [
        (USERS["Starlette's"], "ada"),
        (USERS["identity is a method"], None),
        (USERS["no identity yet"], None),
        (type("User", (Unnamed,), {"identity": 7})(), "7"),
    ],
)
def test_a_user_is_whom_the_application_names(user: Any, told: str | None) -> None:
    seen: list[str | None] = []

    class Seeing(Analyzer):
        def observe(self, answered: AnsweredRequest, now: float) -> list[Any]:
            seen.append(answered.user)
            raise LookupError("what an analyzer raises costs neither the event nor the metrics")

    with recording() as built:
        judge = AnswerJudge(PLAIN, built.pipeline.emitter, Seeing())
        request_following.observe(judge)
        try:

            async def app(scope: Any, receive: Any, send: Any) -> None:
                scope["user"] = user
                await send({"type": "http.response.start", "status": 403})

            get(lambda *call: request_following.follow(app, *call), "/items/7")
        finally:
            request_following.ignore(judge)
        assert built.types() == ["access_denied"]
        assert [count for _, count in built.block_rates().values()] == [1]
    assert seen == [told]


@pytest.mark.parametrize("late", [False, True], ids=["constructed after", "constructed before"])
def test_a_router_that_is_served_itself_is_followed(late: bool) -> None:
    async def page(request: Request) -> Response:
        return PlainTextResponse("no", status_code=403)

    def router() -> Router:
        return Router(routes=[Route("/pages/{page}", page), Mount("/sub", application())])

    app = router() if late else None
    with recording() as built:
        fastapi_apps.install(PLAIN, built.pipeline.emitter)
        try:
            app = app or router()
            assert [get(app, path) for path in ("/pages/3", "/sub/items/7?status=403")] == [403, 403]
            assert [(event["event_type"], event["endpoint"]) for event in built.events()] == [
                ("access_denied", "/pages/{page}"),
                ("access_denied", "/sub/items/{number}"),
            ]
            assert sorted(map(str, built.block_rates())) == [
                "/pages/{page}",
                "/sub/items/{number}",
            ]
        finally:
            fastapi_apps.uninstall()


def test_the_answer_of_a_middleware_of_a_router_bears_the_route(recorded: Recording) -> None:
    async def page(request: Request) -> Response:
        return PlainTextResponse("yes")

    class Refusing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("no", status_code=403)(scope, receive, send)

    assert get(Router(routes=[Route("/pages/{page}", page)], middleware=[Middleware(Refusing)]), "/pages/3") == 403
    assert [event["endpoint"] for event in recorded.events()] == ["/pages/{page}"]


def test_an_event_of_a_pools_thread_is_the_events_of_the_request(recorded: Recording) -> None:
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int) -> None:
        def work() -> None:
            recorded.pipeline.emitter.emit_event(event_type="access_denied", ip_address="203.0.113.7")

        await asyncio.get_running_loop().run_in_executor(None, work)
        raise HTTPException(403)

    assert get(app, "/items/7") == 403
    assert recorded.types() == ["access_denied"]


def test_an_event_that_an_agent_holds_is_the_events_of_the_request(recorded: Recording) -> None:
    app, held = FastAPI(), Held()

    @app.get("/items/{number}")
    async def item(number: int) -> None:
        held.put("events", {"event_type": "access_denied", "ip_address": "203.0.113.7"})
        raise HTTPException(403)

    @app.get("/start")
    async def start() -> None:
        held.emit_into(recorded.pipeline.emitter)
        raise HTTPException(403)

    assert get(app, "/items/7") == 403
    assert recorded.types() == []
    assert get(app, "/start") == 403
    assert recorded.types() == ["access_denied", "access_denied"]
