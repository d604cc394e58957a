"""The agent's life: before its start, after its stop, from threads, loops and children, and beside other pipelines."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from agent.conftest import MakeAgent
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.testclient import TestClient
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from support.guard_server import Answer, GuardServer, guard_server
from support.redis import eventually

from opentelemetry_guard import (
    AgentConfig,
    BufferFullError,
    GuardAgent,
    GuardLogExporter,
    GuardMetricExporter,
    GuardSpanExporter,
    SecurityEvent,
    SecurityMetric,
    guard_agent,
)
from opentelemetry_guard.agent import pipeline as pipeline_module
from opentelemetry_guard.agent.held import MAX_HELD, NOT_STARTED
from opentelemetry_guard.agent.processors import EventProcessor, SpanEventProcessor
from opentelemetry_guard.agent.sync import SyncAgent
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.events.tally import TALLY
from opentelemetry_guard.exporters.lookup import find
from opentelemetry_guard.models import AgentStatus, DynamicRules
from opentelemetry_guard.protocols import AgentHandlerProtocol
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.settings import late
from opentelemetry_guard.settings.delivery import GuardConfig


def event(reason: str = "") -> SecurityEvent:
    return SecurityEvent(event_type="custom_rule_triggered", ip_address="192.0.2.7", reason=reason)


def reasons(server: GuardServer) -> list[str]:
    return sorted(row["reason"] for row in server.events)


def test_what_is_sent_before_the_start_is_sent_then_as_it_was(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent()
    early = event("early")
    agent.sync.send_event(early)
    early.reason = "changed since"
    agent.sync.send_metric(SecurityMetric(metric_type="request_count", value=2.0, endpoint="/a"))
    assert server.requests == []
    agent.sync.start()
    agent.sync.flush_buffer()
    (row,) = server.events
    assert (row["reason"], row["idempotency_key"]) == ("early", early.idempotency_key)
    assert any(row["metric_type"] == "request_count" and row["value"] == 2.0 for row in server.metrics)


def test_too_many_before_the_start_cost_the_oldest_which_are_counted(make_agent: MakeAgent) -> None:
    agent = make_agent()
    for number in range(MAX_HELD + 3):
        agent.sync.send_event(event(str(number)))
    assert TALLY.read().dropped["events"] == {NOT_STARTED: 3}
    assert agent.sync.get_status().buffer_size == MAX_HELD


def test_what_is_sent_after_the_stop_waits_for_the_next_start(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent()
    agent.sync.start()
    agent.sync.send_event(event("before"))
    agent.sync.stop()
    assert reasons(server) == ["before"]
    agent.sync.send_event(event("after"))
    agent.sync.send_metric(SecurityMetric(metric_type="bandwidth_usage", value=5.0))
    stats = agent.get_stats()
    assert (stats["running"], stats["buffer_stats"]["current_event_buffer_size"]) == (False, 1)
    agent.sync.start()
    agent.sync.flush_buffer()
    assert reasons(server) == ["after", "before"]
    assert any(row["metric_type"] == "bandwidth_usage" for row in server.metrics)


def test_starting_and_stopping_twice_changes_nothing(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent()
    agent.sync.stop()
    for _ in range(3):
        agent.sync.start()
        agent.sync.start()
        agent.sync.send_event(event("x"))
        agent.sync.stop()
        agent.sync.stop()
    assert reasons(server) == ["x", "x", "x"]


def test_there_is_one_agent_and_other_settings_are_named_without_secrets(
    make_agent: MakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    agent = make_agent(api_key="first-s3cret", project_id="first")
    assert guard_agent(agent.config) is agent
    assert guard_agent(AgentConfig(**agent.config.model_dump())) is agent
    assert caplog.text == ""
    assert make_agent(api_key="other-s3cret", project_id="other") is agent
    assert "project_id (kept 'first', not 'other')" in caplog.text
    assert "api_key" in caplog.text
    assert "s3cret" not in caplog.text
    guard_agent(AgentConfig(**{**agent.config.model_dump(), "api_key": "other-s3cret", "project_id": "other"}))
    assert len(caplog.records) == 1, "it is said once"


def test_after_a_close_there_is_another_agent_with_settings_of_its_own(
    make_agent: MakeAgent, server: GuardServer
) -> None:
    first = make_agent(project_id="first")
    first.sync.start()
    first.sync.close()
    second = make_agent(project_id="second")
    assert second is not first
    second.sync.start()
    second.sync.send_event(event())
    second.sync.flush_buffer()
    assert server.requests[-1].document["project_id"] == "second"


def test_a_close_forgets_the_agents_settings_and_nobody_elses(make_agent: MakeAgent) -> None:
    late.offer("SecurityConfig", guard_version="9.9")
    make_agent(project_id="first").sync.close()
    agent = make_agent(project_id="second")
    agent.sync.start()
    assert agent.delivery is not None
    assert (agent.delivery.config.project_id, agent.delivery.config.guard_version) == ("second", "9.9")


def test_only_an_agent_config_makes_an_agent() -> None:
    with pytest.raises(TypeError, match=r"takes an AgentConfig of opentelemetry_guard, not a builtins\.dict"):
        guard_agent({"api_key": "x"})  # type: ignore[arg-type]


def test_events_that_wait_for_their_batch_are_in_the_buffers_size(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.sync.start()
    for _ in range(3):
        agent.sync.send_event(event())
    buffer = agent.get_stats()["buffer_stats"]
    assert (agent.sync.get_status().buffer_size, buffer["current_event_buffer_size"]) == (3, 3)
    agent.sync.flush_buffer()
    assert (agent.sync.get_status().buffer_size, agent.sync.get_status().events_sent) == (0, 3)


def test_what_other_processes_of_the_queue_have_sent_is_told_apart(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.sync.start()
    agent.sync.send_event(event())
    agent.sync.flush_buffer()
    delivery = agent.sync.delivery
    assert delivery is not None
    delivery.queue.append(Batch("of-another", "events", 4, b"{}", created_at=1.0))
    for lease in delivery.queue.lease("events", time.time()):
        delivery.queue.acknowledge(lease.batch.batch_id)
    stats = agent.get_stats()
    assert (stats["events_sent"], stats["queue_events_sent"]) == (1, 5)


def test_an_agent_that_has_stopped_before_its_first_event_says_nothing_about_providers(
    make_agent: MakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    agent = make_agent()
    agent.sync.start()
    agent.sync.stop()
    agent.sync.send_event(event())
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry.")] == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BLRP_SCHEDULE_DELAY", "soon"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "0"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1000000"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
    ],
)
def test_a_variable_of_the_sdk_that_is_wrong_stops_no_agent(
    make_agent: MakeAgent, server: GuardServer, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    agent = make_agent()
    agent.sync.start()
    agent.sync.send_event(event("all the same"))
    agent.sync.flush_buffer()
    assert reasons(server) == ["all the same"]


def test_an_agent_whose_export_is_switched_off_has_failed(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent()
    assert agent.sync.get_status().errors == ["the agent does not run: call agent.start()"]
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_TIMEOUT", "soon")
    agent.sync.start()
    status = agent.sync.get_status()
    assert (status.status, status.errors) == (
        "failed",
        ["Guard export is switched off, and nothing is delivered: the log says why"],
    )
    assert not agent.sync.health_check()


def test_in_an_event_loop_everything_can_be_awaited(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent(dynamic_rule_interval=60)
    server.serve_rules({"rule_id": "r", "version": 2, "ip_blacklist": ["192.0.2.1"]})

    async def main() -> None:
        await agent.start()
        await agent.send_event(event("awaited"))
        await asyncio.gather(agent.send_event(event("gathered")), agent.send_metric({"metric_type": "x"}))
        await asyncio.create_task(agent.send_event(event("task")))
        agent.sync.send_event(event("dropped"))
        await agent.flush_buffer()
        rules = await agent.get_dynamic_rules()
        assert type(rules) is DynamicRules
        assert rules.ip_blacklist == ["192.0.2.1"]
        status = await agent.get_status()
        assert type(status) is AgentStatus
        assert await agent.health_check() is True
        await agent.stop()
        assert await agent.health_check() is False

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()
    assert reasons(server) == ["awaited", "dropped", "gathered", "task"]


def test_frameworks_that_ask_are_told_to_await(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent()
    app = FastAPI()
    app.router.add_event_handler("startup", agent.start)
    app.router.add_event_handler("shutdown", agent.stop)

    @app.get("/", dependencies=[Depends(agent.get_status)])
    async def endpoint(tasks: BackgroundTasks) -> str:
        tasks.add_task(agent.send_event, event("background"))
        return agent.sync.get_status().status

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with TestClient(app) as client:
            assert client.get("/").json() == "healthy"
        gc.collect()
    assert reasons(server) == ["background"]
    assert agent.get_stats()["running"] is False


def test_without_an_event_loop_everything_is_done_when_it_returns(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent(dynamic_rule_interval=60)
    asyncio.run(agent.start())
    asyncio.run(agent.send_event(event()))
    agent.sync.flush_buffer()
    assert len(server.events) == 1
    assert agent.sync.get_dynamic_rules() is None
    assert asyncio.run(agent.get_dynamic_rules()) is None
    assert agent.sync.get_status().status == "healthy"
    assert asyncio.run(agent.get_status()).events_sent == 1
    assert agent.sync.health_check() is True
    assert asyncio.run(agent.health_check()) is True
    loop = asyncio.new_event_loop()
    loop.run_until_complete(agent.send_event(event()))
    loop.run_until_complete(agent.close())
    loop.close()


@pytest.mark.parametrize(
    "name",
    [name for name, method in vars(GuardAgent).items() if inspect.isfunction(method) and not name.startswith("_")],
)
def test_every_method_is_a_coroutine_function_with_a_plain_twin(name: str) -> None:
    method, twin = getattr(GuardAgent, name), getattr(SyncAgent, name)
    assert inspect.iscoroutinefunction(method) == (name != "get_stats")
    assert not inspect.iscoroutinefunction(twin)
    assert inspect.signature(method) == inspect.signature(twin)


def test_what_an_agent_answers_is_what_json_knows(make_agent: MakeAgent) -> None:
    agent = make_agent()
    app = FastAPI()
    app.router.add_event_handler("startup", agent.start)

    @app.get("/")
    async def answer() -> dict[str, Any]:
        return {"healthy": await agent.health_check(), "rules": await agent.get_dynamic_rules()}

    with TestClient(app) as client:
        assert client.get("/").text == '{"healthy":true,"rules":null}'
    assert json.dumps([agent.sync.health_check(), agent.sync.get_dynamic_rules()]) == "[true, null]"


def test_python_warns_of_an_event_whose_coroutine_nobody_awaits(make_agent: MakeAgent) -> None:
    agent = make_agent()
    with pytest.warns(RuntimeWarning, match=r"'GuardAgent\.send_event' was never awaited"):
        agent.send_event(event())


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
def test_a_request_that_is_cancelled_loses_no_event_that_it_has_awaited(
    make_agent: MakeAgent, server: GuardServer, started: bool
) -> None:
    agent = make_agent()
    if started:
        agent.sync.start()

    async def main() -> None:
        async def endpoint() -> None:
            task.cancel()
            await agent.send_event(event("of a client that is gone"))
            await asyncio.Event().wait()

        task = asyncio.create_task(endpoint())
        with pytest.raises(asyncio.CancelledError):
            await task
        asyncio.create_task(agent.send_event(event("last thing that the loop does")))  # noqa: RUF006

    asyncio.run(main())
    agent.sync.start()
    agent.sync.flush_buffer()
    assert reasons(server) == ["last thing that the loop does", "of a client that is gone"]


def test_a_flush_that_waits_for_the_backend_leaves_the_event_loop_alone(
    make_agent: MakeAgent, server: GuardServer
) -> None:
    agent = make_agent()
    agent.sync.start()

    async def main() -> None:
        agent.sync.send_event(event())
        server.answer(delay=3.0)
        flush = asyncio.create_task(agent.flush_buffer())
        turns = 0
        while not server.requests:
            await asyncio.sleep(0)
            turns += 1
        assert turns
        assert not flush.done(), "the answer is not there yet, and the loop turns"
        await flush

    asyncio.run(main())
    assert len(server.events) == 1


def test_threads_and_event_loops_send_side_by_side(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent()

    async def from_a_loop(name: int) -> None:
        for number in range(25):
            await agent.send_event(event(f"{name}-{number}"))

    def from_a_thread(name: int) -> None:
        for number in range(25):
            agent.sync.send_event(event(f"{name}-{number}"))

    workers = [threading.Thread(target=from_a_thread, args=(name,)) for name in range(4)]
    workers += [threading.Thread(target=lambda name=name: asyncio.run(from_a_loop(name))) for name in range(4, 8)]
    for worker in workers:
        worker.start()
    agent.sync.start()
    for worker in workers:
        worker.join()
    agent.sync.flush_buffer()
    assert reasons(server) == sorted(f"{name}-{number}" for name in range(8) for number in range(25))


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> tuple[LoggerProvider, TracerProvider]:
    """The application's own providers, which the agent finds as the global ones."""
    loggers, tracers = LoggerProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(pipeline_module, "get_logger_provider", lambda: loggers)
    monkeypatch.setattr(pipeline_module, "get_tracer_provider", lambda: tracers)
    return loggers, tracers


def _processors(loggers: LoggerProvider, tracers: TracerProvider) -> tuple[int, int]:
    return (
        len(loggers._multi_log_record_processor._log_record_processors),
        len(tracers._active_span_processor._span_processors),
    )


def test_where_the_application_has_no_providers_none_are_set(make_agent: MakeAgent, server: GuardServer) -> None:
    before = _logs.get_logger_provider(), trace.get_tracer_provider(), metrics.get_meter_provider()
    agent = make_agent()
    agent.sync.start()
    agent.sync.send_event(event())
    agent.sync.flush_buffer()
    assert len(server.events) == 1
    assert (_logs.get_logger_provider(), trace.get_tracer_provider(), metrics.get_meter_provider()) == before


def test_the_applications_providers_are_joined_at_the_start_and_once(
    make_agent: MakeAgent, server: GuardServer, application: tuple[LoggerProvider, TracerProvider]
) -> None:
    loggers, tracers = application
    mirror = InMemoryLogRecordExporter()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(mirror))
    agent = make_agent()
    assert _processors(*application) == (1, 0), "not at the construction"
    for run in range(3):
        agent.sync.start()
        assert _processors(*application) == (2, 1)
        with tracers.get_tracer("app").start_as_current_span("request") as span:
            agent.sync.send_event(event(str(run)))
        agent.sync.stop()
        assert _processors(*application) == (2, 1)
        assert server.events[-1]["metadata"]["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert reasons(server) == ["0", "1", "2"], "each once, though it is in a span and in a log record"
    assert len(mirror.get_finished_logs()) == 3, "the application's pipeline sees them too"


def test_where_our_exporters_are_already_nothing_is_added(
    make_agent: MakeAgent,
    server: GuardServer,
    application: tuple[LoggerProvider, TracerProvider],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loggers, tracers = application
    settings = {**server.settings}
    loggers.add_log_record_processor(BatchLogRecordProcessor(GuardLogExporter(**settings)))
    tracers.add_span_processor(BatchSpanProcessor(GuardSpanExporter(**settings)))
    meters = MeterProvider(
        [PeriodicExportingMetricReader(GuardMetricExporter(**settings), export_interval_millis=3_600_000)]
    )
    monkeypatch.setattr(pipeline_module, "get_meter_provider", lambda: meters)
    agent = make_agent()
    agent.sync.start()
    assert _processors(*application) == (1, 1)
    assert find(loggers, EventProcessor) is None
    assert find(tracers, SpanEventProcessor) is None
    agent.sync.send_event(event("through yours"))
    agent.sync.send_metric(SecurityMetric(metric_type="request_count", value=1))
    agent.sync.flush_buffer()
    assert reasons(server) == ["through yours"]
    agent.sync.stop()
    agent.sync.send_event(event("yours goes on"))
    loggers.force_flush()
    server.wait_for_events(2)
    for provider in (loggers, meters, tracers):
        provider.shutdown()
    assert any(row["metric_type"] == "request_count" for row in server.metrics)


def test_other_log_records_of_the_application_are_left_alone(
    make_agent: MakeAgent, server: GuardServer, application: tuple[LoggerProvider, TracerProvider]
) -> None:
    loggers, _ = application
    agent = make_agent(buffer_overflow_policy="raise")
    agent.sync.start()
    logger = loggers.get_logger("app")
    assert not logger.enabled(), "nobody takes them"
    for number in range(5000):
        logger.emit(body=f"line {number}")
    agent.sync.send_event(event("not pushed out"))
    agent.sync.flush_buffer()
    assert reasons(server) == ["not pushed out"]


def _overflowing(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, policy: str) -> Any:
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10")
    agent = make_agent(buffer_overflow_policy=policy)
    agent.sync.start()
    return agent


def test_block_stores_what_waits_before_it_takes_more(
    make_agent: MakeAgent, server: GuardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = _overflowing(make_agent, monkeypatch, "block")
    for number in range(500):
        agent.sync.send_event(event(str(number)))
    agent.sync.flush_buffer()
    assert len(reasons(server)) == 500


def test_raise_lets_the_caller_know(
    make_agent: MakeAgent, server: GuardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = _overflowing(make_agent, monkeypatch, "raise")
    taken = 0
    for number in range(500):
        try:
            agent.sync.send_event(event(str(number)))
        except BufferFullError:
            continue
        taken += 1
    agent.sync.flush_buffer()
    assert len(reasons(server)) == taken


def test_on_error_is_told_of_sends_that_fail_and_may_fail_itself(
    make_agent: MakeAgent, server: GuardServer, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[tuple[str, BaseException, dict[str, Any]]] = []
    told = threading.Event()

    def hook(stage: str, error: BaseException, context: dict[str, Any]) -> None:
        calls.append((stage, error, context))
        told.set()
        raise RuntimeError("the hook's own")

    server.answer(503, {"detail": "down"})
    agent = make_agent(on_error=hook)
    agent.sync.start()
    agent.sync.send_event(event("kept"))
    agent.sync.flush_buffer()
    assert told.wait(20)
    server.wait_for_events(1)
    stage, error, context = calls[0]
    assert stage == "transport_send"
    assert (context["kind"], context["batch_size"], context["status_code"]) == ("events", 1, 503)
    assert "down" in str(error)
    assert "AgentConfig.on_error raised" in caplog.text


def test_a_hook_that_sends_an_event_about_the_failure_comes_back(make_agent: MakeAgent, server: GuardServer) -> None:
    def hook(stage: str, error: BaseException, context: dict[str, Any]) -> None:
        agent.sync.send_event({"no": "type"})
        agent.sync.send_event(event(f"about {stage}"))

    agent = make_agent(on_error=hook)
    agent.sync.start()
    agent.sync.send_metric({"metric_type": "unknown", "value": 1})
    agent.sync.flush_buffer()
    assert reasons(server) == ["about emission"]


def test_an_open_breaker_is_seen_in_the_stats_the_status_and_the_health(
    make_agent: MakeAgent, server: GuardServer
) -> None:
    server.answer(503, times=None)
    agent = make_agent()
    agent.sync.start()
    for number in range(6):
        agent.sync.send_event(event(str(number)))
        agent.sync.flush_buffer()

    def is_told() -> bool:
        stats, status = agent.get_stats()["transport_stats"], agent.sync.get_status()
        return (
            agent.transport.get_stats()["circuit_breaker_state"] == "OPEN"
            and stats["requests_failed"] >= 5
            and any("503" in error or "circuit breaker" in error for error in status.errors)
            and status.buffer_size == 6
        )

    eventually(is_told)
    assert agent.sync.health_check() is False


class Hostile:
    """An object that can't be read."""

    @property
    def event_type(self) -> str:
        raise RuntimeError("not today")

    metric_type = event_type


@pytest.mark.parametrize("early", [True, False], ids=["before the start", "after the start"])
@pytest.mark.parametrize("hook", [None, lambda stage, error, context: None], ids=["without a hook", "with a hook"])
def test_objects_of_any_make_are_events_and_none_raises(
    make_agent: MakeAgent, server: GuardServer, early: bool, hook: Any
) -> None:
    agent = make_agent(on_error=hook)
    if not early:
        agent.sync.start()
    agent.sync.send_event(type("SecurityEvent", (), {"event_type": "decoding_error", "reason": "attributes"})())
    agent.sync.send_event({"event_type": "decoding_error", "reason": "mapping"})
    agent.sync.send_event(None)
    agent.sync.send_event(Hostile())
    agent.sync.send_metric(object())
    agent.sync.send_metric(Hostile())
    agent.sync.start()
    agent.sync.flush_buffer()
    assert reasons(server) == ["attributes", "mapping"]
    assert TALLY.read().dropped == {"events": {"invalid": 2}, "metrics": {"invalid": 2}}


def test_it_is_what_fastapi_guard_takes_for_an_agent(make_agent: MakeAgent) -> None:
    agent = make_agent()
    assert isinstance(agent, AgentHandlerProtocol)
    theirs = pytest.importorskip("guard_core.protocols.agent_protocol")
    assert isinstance(agent, theirs.AgentHandlerProtocol)


@pytest.mark.parametrize("begin", [lambda agent: None, lambda agent: agent.sync.start()])
def test_the_repr_tells_no_secret(make_agent: MakeAgent, begin: Callable[[Any], None]) -> None:
    agent = make_agent(project_encryption_key=None)
    begin(agent)
    assert agent.config.api_key not in f"{agent!r} {agent.transport!r} {agent.get_stats()}"


def test_a_start_and_a_stop_post_one_status_each(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent(status_interval=300)
    agent.sync.start()
    server.wait_until(lambda: len(server.statuses) == 1, "a status at the start")
    agent.sync.send_event(event("a"))
    agent.sync.flush_buffer()
    agent.sync.stop()
    assert len(server.statuses) == 2
    assert [status.document["events_sent"] for status in server.statuses] == [0, 1]


def test_calls_of_its_own_destination_are_counted_and_no_others(make_agent: MakeAgent, server: GuardServer) -> None:
    failures: list[str] = []
    agent = make_agent(on_error=lambda stage, error, context: failures.append(stage))
    agent.sync.start()
    with guard_server() as other:
        other.answer(503, times=None)
        elsewhere = Delivery(GuardConfig.resolve({}, **other.settings))
        elsewhere.submit("events", [complete(to_row(event("elsewhere"))[0])])
        elsewhere.flush(5.0)
        elsewhere.close(0.0)
        assert other.requests
    agent.sync.send_event(event("a"))
    agent.sync.flush_buffer()
    counts = agent.transport.get_stats()
    assert (counts["requests_sent"], counts["requests_failed"], failures) == (1, 0, [])
    assert counts["bytes_sent"] > 0
    agent.sync.stop()
    assert agent.transport.get_stats()["requests_sent"] == 1


def test_reports_and_rules_that_fail_are_told_to_on_error_under_their_stages(
    make_agent: MakeAgent, server: GuardServer
) -> None:
    stages: set[str] = set()
    server.control = Answer(503, b"no")
    agent = make_agent(
        status_interval=300, dynamic_rule_interval=1, on_error=lambda stage, error, context: stages.add(stage)
    )
    agent.sync.start()
    eventually(lambda: stages == {"status", "rules"})


def test_beside_an_exporter_that_reports_already_it_brings_no_report_about(
    make_agent: MakeAgent, server: GuardServer
) -> None:
    exporter = GuardLogExporter(**{**server.settings, "status_interval": 300})
    server.wait_until(lambda: len(server.statuses) == 1, "the exporter's status")
    agent = make_agent(status_interval=300)
    agent.sync.start()
    assert agent.delivery is exporter.delivery
    agent.sync.send_event(event("a"))
    agent.sync.flush_buffer()
    agent.sync.stop()
    assert reasons(server) == ["a"]
    exporter.shutdown()
    assert len(server.statuses) == 2
