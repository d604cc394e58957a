"""What is reported about a request waits for its answer."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from support.pipeline import Pipeline, pipeline
from support.rows import row_of

from opentelemetry_guard import emit
from opentelemetry_guard.instrumentation.fastapi_guard.handler import GuardAgentHandler
from opentelemetry_guard.instrumentation.http import following as request_following
from opentelemetry_guard.instrumentation.http.following import Receive, Scope, Send

REPORT = {"event_type": "penetration_attempt", "ip_address": "203.0.113.7"}


class Recorded:
    def __init__(self, pipeline: Pipeline, exporter: InMemoryLogRecordExporter) -> None:
        self.tracer = pipeline.tracer
        self._exporter = exporter

    def events(self) -> list[dict[str, Any]]:
        return [row_of(record.log_record) for record in self._exporter.get_finished_logs()]

    def trace_ids(self) -> list[int | None]:
        return [record.log_record.trace_id for record in self._exporter.get_finished_logs()]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    exporter = InMemoryLogRecordExporter()
    with pipeline(logs=[exporter]) as built:
        monkeypatch.setattr(emit, "_global_emitter", built.emitter)
        yield Recorded(built, exporter)


@pytest.fixture
def handler() -> GuardAgentHandler:
    handler = GuardAgentHandler()
    handler.active = True
    return handler


async def nothing(*_: Any) -> Any:
    """Receive nothing, or send nowhere."""


def serve(app: request_following.ASGIApp, kind: str = "http", **scope: Any) -> None:
    asyncio.run(
        request_following.follow(app, {"type": kind, "path": "/items", "method": "GET", **scope}, nothing, nothing)
    )


def test_a_report_is_emitted_when_the_answer_begins_with_its_status(
    recorded: Recorded, handler: GuardAgentHandler
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event(REPORT)
        assert recorded.events() == []
        await send({"type": "http.response.start", "status": 400})
        assert len(recorded.events()) == 1

    serve(app)
    (event,) = recorded.events()
    assert (event["status_code"], event["endpoint"], event["method"]) == (400, "/items", "GET")


def test_what_the_report_says_wins_over_what_the_request_says(recorded: Recorded, handler: GuardAgentHandler) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event({**REPORT, "endpoint": "/redacted", "status_code": 418})
        await send({"type": "http.response.start", "status": 400})

    serve(app)
    (event,) = recorded.events()
    assert (event["status_code"], event["endpoint"]) == (418, "/redacted")


def test_a_report_after_the_answer_has_begun_is_emitted_at_once(recorded: Recorded, handler: GuardAgentHandler) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await handler.send_event(REPORT)
        assert [event["status_code"] for event in recorded.events()] == [200]

    serve(app)


def test_a_request_that_fails_tells_with_500_and_its_error_goes_on(
    recorded: Recorded, handler: GuardAgentHandler
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event(REPORT)
        raise LookupError("the application's")

    with pytest.raises(LookupError, match="the application's"):
        serve(app)
    assert [event["status_code"] for event in recorded.events()] == [500]


def test_a_refused_websocket_handshake_is_a_403(recorded: Recorded, handler: GuardAgentHandler) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event(REPORT)
        await send({"type": "websocket.close"})

    serve(app, kind="websocket")
    assert [event["status_code"] for event in recorded.events()] == [403]


def test_two_middlewares_around_each_other_share_the_request(recorded: Recorded, handler: GuardAgentHandler) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event({"event_type": "pattern_detected", "ip_address": "203.0.113.7"})
        await send({"type": "http.response.start", "status": 400})

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event(REPORT)
        await request_following.follow(inner, scope, receive, send)

    serve(outer)
    assert [event["event_type"] for event in recorded.events()] == ["penetration_attempt"]


def test_a_report_keeps_the_trace_in_which_it_was_made(recorded: Recorded, handler: GuardAgentHandler) -> None:
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with recorded.tracer.start_as_current_span("check") as span:
            seen.append(span.get_span_context().trace_id)
            await handler.send_event(REPORT)
        await send({"type": "http.response.start", "status": 400})

    serve(app)
    assert recorded.trace_ids() == seen


def test_a_flood_of_reports_about_one_request_is_not_held_back(recorded: Recorded, handler: GuardAgentHandler) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for number in range(request_following.MAX_REPORTS + 5):
            await handler.send_event({**REPORT, "ip_address": f"2001:db8::{number:x}"})
        assert len(recorded.events()) == 5

    serve(app)
    assert len(recorded.events()) == request_following.MAX_REPORTS + 5


def test_noise_passes_once_a_minute(recorded: Recorded, handler: GuardAgentHandler) -> None:
    async def flood() -> None:
        for _ in range(40):
            await handler.send_event({"event_type": "pattern_anomaly_timeout", "ip_address": "system"})

    asyncio.run(flood())
    assert len(recorded.events()) == 1


class Hostile:
    event_type = "ip_blocked"

    @property
    def ip_address(self) -> str:
        raise RuntimeError("unreadable")


def test_an_event_that_cannot_be_read_costs_nothing_but_itself(recorded: Recorded, handler: GuardAgentHandler) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event(Hostile())
        await handler.send_metric(Hostile())
        await handler.send_event(REPORT)
        await send({"type": "http.response.start", "status": 400})

    serve(app)
    assert [event["event_type"] for event in recorded.events()] == ["penetration_attempt"]


def test_a_handler_that_is_not_active_takes_nothing(recorded: Recorded, handler: GuardAgentHandler) -> None:
    handler.active = False
    asyncio.run(handler.send_event(REPORT))
    assert recorded.events() == []


def test_detached_work_is_part_of_no_trace_and_no_request(recorded: Recorded) -> None:
    seen: list[object] = []

    async def work() -> None:
        async def task() -> None:
            seen.append((trace.get_current_span().get_span_context().is_valid, request_following.current()))

        await asyncio.create_task(task())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with recorded.tracer.start_as_current_span("request") as span:
            await request_following.detached(work)
            assert trace.get_current_span() is span
        assert request_following.current() is not None

    serve(app)
    assert seen == [(False, None)]


class TestObservers:
    def observed(self, app: request_following.ASGIApp, kind: str = "http", **scope: Any) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []

        def observe(request: request_following.FollowedRequest) -> None:
            seen.append((request.status_code, request.method, request.path, request.guarded))

        request_following.observe(observe)
        try:
            serve(app, kind, **scope)
        finally:
            request_following.ignore(observe)
        return seen

    def test_an_observer_sees_each_answer_once_when_it_begins(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 418})
            await send({"type": "http.response.body", "body": b""})

        assert self.observed(app) == [(418, "GET", "/items", True)]

    def test_a_request_that_was_answered_is_gone_without_the_garbage_collector(self) -> None:
        seen: list[weakref.ref[request_following.FollowedRequest]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})

        def observe(request: request_following.FollowedRequest) -> None:
            assert request.route is None
            seen.append(weakref.ref(request))

        request_following.observe(observe)
        gc.disable()
        try:
            serve(app)
            assert [request() for request in seen] == [None]
        finally:
            gc.enable()
            request_following.ignore(observe)

    def test_a_request_without_an_answer_is_not_observed(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            """Answer nothing."""

        assert self.observed(app) == []

    def test_other_connections_are_not_followed(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert request_following.current() is None

        assert self.observed(app, kind="lifespan") == []

    @pytest.mark.parametrize(("message", "status"), [("websocket.accept", 101), ("websocket.close", 403)])
    def test_a_handshakes_end_is_its_answer(self, message: str, status: int) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": message})
            await send({"type": "websocket.close"})

        assert self.observed(app, kind="websocket", method=None) == [(status, "GET", "/items", True)]

    def test_reports_are_told_before_an_observer_looks(self, recorded: Recorded, handler: GuardAgentHandler) -> None:
        seen: list[list[Any]] = []

        def observe(request: request_following.FollowedRequest) -> None:
            seen.append([row["event_type"] for row in request.events])

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await handler.send_event(REPORT)
            await send({"type": "http.response.start", "status": 400})

        request_following.observe(observe)
        try:
            serve(app)
        finally:
            request_following.ignore(observe)
        assert seen == [["penetration_attempt"]]

    def test_a_request_within_a_request_is_another_one(self) -> None:
        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 404})

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            own = {"type": "http", "path": "/inner", "method": "POST"}
            await request_following.follow(inner, own, receive, nothing, guarded=False)
            await send({"type": "http.response.start", "status": 200})

        assert self.observed(app) == [(404, "POST", "/inner", False), (200, "GET", "/items", True)]


def test_a_report_names_the_route_and_the_user_agent_where_it_does_not_itself(
    recorded: Recorded, handler: GuardAgentHandler
) -> None:
    class Route:
        path_format = "/items/{number}"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler.send_event({**REPORT, "endpoint": "/items/7"})
        scope["route"] = Route()
        await send({"type": "http.response.start", "status": 400})

    serve(app, path="/items/7", headers=[(b"user-agent", b"curl/8.9")])
    (event,) = recorded.events()
    assert (event["endpoint"], event["user_agent"]) == ("/items/{number}", "curl/8.9")
