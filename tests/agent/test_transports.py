"""Transports of the user's own: what they get, and what becomes of what they answer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest.mock import Mock

import pytest
from agent.conftest import MakeAgent
from support.guard_server import GuardServer
from support.redis import eventually

from opentelemetry_guard import GuardAgent, SecurityEvent, SecurityMetric
from opentelemetry_guard.models import AgentStatus, DynamicRules
from opentelemetry_guard.protocols import TransportProtocol


class Collector:
    """A transport that keeps what it gets, and does what `plan` says for the first batches of events."""

    def __init__(self, *plan: object) -> None:
        self.plan = list(plan)
        self.events: list[SecurityEvent] = []
        self.metrics: list[SecurityMetric] = []
        self.statuses: list[AgentStatus] = []
        self.calls = 0
        self.threads: set[str] = set()
        self.loops: set[int] = set()

    async def send_events(self, events: list[SecurityEvent]) -> Any:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        self.loops.add(id(asyncio.get_running_loop()))
        step = self.plan.pop(0) if self.plan else True
        if isinstance(step, BaseException):
            raise step
        if step == "hang":
            await asyncio.Event().wait()
        if step is None or step is True:
            self.events += events
        return step

    async def send_metrics(self, metrics: list[SecurityMetric]) -> bool:
        self.metrics += metrics
        return True

    async def fetch_dynamic_rules(self) -> DynamicRules | None:
        return None

    async def send_status(self, status: AgentStatus) -> bool:
        self.statuses.append(status)
        return True


def _ledger(agent: GuardAgent) -> tuple[int, int]:
    assert agent.delivery is not None
    events = agent.delivery.stats().ledger["events"]
    return events.delivered, events.queued + events.in_flight


class Plain(Collector):
    """The same with plain methods."""

    release = threading.Event()

    def send_events(self, events: list[SecurityEvent]) -> Any:  # type: ignore[override]
        self.calls += 1
        step = self.plan.pop(0) if self.plan else True
        if isinstance(step, BaseException):
            raise step
        if step == "hang":
            self.release.wait(60)
        if step is None or step is True:
            self.events += events
        return step


async def nothing() -> str:
    return ""


class GreenletExit(BaseException):
    """As greenlet and gevent have it."""


@pytest.mark.parametrize("make", [Collector, Plain])
@pytest.mark.parametrize(
    "answer",
    [
        SystemExit(1),
        KeyboardInterrupt(),
        GreenletExit("killed"),
        asyncio.CancelledError(),
        GeneratorExit(),
        0,
        1,
        "",
        "ok",
        {},
        {"success": True},
        [],
        Mock(),
        nothing,
        "hang",
    ],
    ids=lambda answer: type(answer).__name__ + str(answer)[:3],
)
def test_only_true_and_none_mean_that_a_batch_is_taken_and_nothing_ends_the_delivery(
    make_agent: MakeAgent, make: type[Collector], answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    agent = make_agent(timeout=2.0 if answer == "hang" else 20.0)
    transport = make(answer() if answer is nothing else answer)  # type: ignore[operator]
    agent.transport = transport
    agent.sync.start()
    agent.sync.send_event(SecurityEvent(event_type="x"))
    agent.sync.flush_buffer()
    eventually(lambda: _ledger(agent) == (1, 0))
    assert (len(transport.events), transport.calls) == (1, 2)
    agent.sync.send_event(SecurityEvent(event_type="y"))
    agent.sync.flush_buffer()
    eventually(lambda: _ledger(agent) == (2, 0))
    Plain.release.set()


@pytest.mark.parametrize("make", [Collector, Plain])
@pytest.mark.parametrize("answer", [SystemExit(1), {}])
def test_a_transport_that_always_misbehaves_is_said_once_and_told_by_the_status(
    make_agent: MakeAgent, make: type[Collector], answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    class Misbehaving(make):  # type: ignore[misc, valid-type]
        pass

    Misbehaving.__name__ = f"{make.__name__}{type(answer).__name__}"
    agent = make_agent()
    transport = Misbehaving(*[answer] * 100)
    agent.transport = transport
    agent.sync.start()
    agent.sync.send_event(SecurityEvent(event_type="x"))
    agent.sync.flush_buffer()
    eventually(lambda: transport.calls >= 3)
    status = agent.delivery.status()  # type: ignore[union-attr]
    assert status.status == "degraded"
    assert any(Misbehaving.__name__ in text for text in status.errors)
    said = [r for r in caplog.records if r.levelname == "ERROR" and Misbehaving.__name__ in r.message]
    assert len(said) == 1


def test_what_a_transport_raises_is_told_without_the_secrets_that_it_quotes(
    make_agent: MakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    agent = make_agent()
    error = RuntimeError("https://bob:hunter2-Zx81qT@collector.example/x refused Authorization: Bearer hunter2-Zx81qT")
    transport = Collector(*[error] * 100)
    agent.transport = transport
    agent.sync.start()
    agent.sync.send_event(SecurityEvent(event_type="x"))
    agent.sync.flush_buffer()
    eventually(lambda: transport.calls >= 2)
    shown = f"{agent.delivery.status().errors}{caplog.text}"  # type: ignore[union-attr]
    assert "collector.example" in shown
    assert "hunter2" not in shown


def test_statuses_and_rules_outlive_what_a_transport_raises(make_agent: MakeAgent) -> None:
    class Raising(Collector):
        asked = 0

        async def fetch_dynamic_rules(self) -> Any:
            self.asked += 1
            if self.asked == 1:
                raise SystemExit(1)
            return {"rule_id": "r", "version": self.asked}

        async def send_status(self, status: AgentStatus) -> Any:
            self.statuses.append(status)
            if len(self.statuses) == 1:
                raise KeyboardInterrupt
            return Mock() if len(self.statuses) == 2 else True

    agent = make_agent(dynamic_rule_interval=1, status_interval=1)
    transport = Raising()
    agent.transport = transport
    agent.sync.start()
    eventually(lambda: transport.asked >= 2 and len(transport.statuses) >= 3)


def test_a_class_is_refused_where_it_is_assigned(make_agent: MakeAgent) -> None:
    with pytest.raises(TypeError, match=r"the class Collector can't be .*: assign an object, Collector\(\)"):
        make_agent().transport = Collector


@pytest.mark.parametrize("answer", [False, ConnectionError("reset"), "hang"])
def test_a_batch_that_is_not_taken_comes_again(make_agent: MakeAgent, server: GuardServer, answer: object) -> None:
    agent = make_agent(timeout=2.0 if answer == "hang" else 20.0)
    collector = Collector(answer)
    agent.transport = collector
    agent.sync.start()
    agent.sync.send_event(SecurityEvent(event_type="x", reason="kept", metadata={"n": 1}))
    agent.sync.flush_buffer()
    eventually(lambda: _ledger(agent) == (1, 0))
    (event,) = collector.events
    assert (type(event), event.reason, event.metadata["n"]) == (SecurityEvent, "kept", 1)
    assert collector.calls == 2
    assert server.requests == []


def test_a_transport_that_returns_nothing_has_taken_the_batch(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.transport = Collector(None)
    agent.sync.start()
    agent.sync.send_event({"event_type": "x"})
    agent.sync.flush_buffer()
    assert _ledger(agent) == (1, 0)


def test_coroutines_run_on_one_loop_that_is_not_the_applications(make_agent: MakeAgent) -> None:
    agent = make_agent()
    collector = Collector()

    async def main() -> None:
        agent.transport = collector
        await agent.start()
        for number in range(3):
            await agent.send_event({"event_type": "x", "reason": str(number)})
            await agent.flush_buffer()
        assert id(asyncio.get_running_loop()) not in collector.loops

    asyncio.run(main())
    assert collector.threads == {"OtelGuardTransport"}
    assert len(collector.loops) == 1
    assert len(collector.events) == 3


def test_it_is_opened_before_the_first_batch_and_closed_with_the_agent(make_agent: MakeAgent) -> None:
    class Opened(Collector):
        state = "new"

        async def initialize(self) -> None:
            assert self.state == "new"
            self.state = "open"

        async def send_events(self, events: list[SecurityEvent]) -> Any:
            assert self.state == "open"
            return await super().send_events(events)

        def close(self) -> None:
            self.state = "closed"

    agent = make_agent()
    transport = Opened()
    agent.transport = transport
    agent.sync.start()
    agent.sync.send_event({"event_type": "x"})
    agent.sync.stop()
    assert len(transport.events) == 1
    assert transport.state == "closed"


def test_it_may_be_changed_while_the_agent_runs_and_changed_back(make_agent: MakeAgent, server: GuardServer) -> None:
    agent = make_agent()
    agent.sync.start()
    http = agent.transport
    first, second = Collector(), Collector()
    for transport in (first, second, http):
        agent.transport = transport
        assert agent.transport is transport
        agent.sync.send_event({"event_type": "x"})
        agent.sync.flush_buffer()
    assert (len(first.events), len(second.events), len(server.events)) == (1, 1, 1)


def test_statuses_and_rules_go_through_it_too(make_agent: MakeAgent, server: GuardServer) -> None:
    class Ruling(Collector):
        async def fetch_dynamic_rules(self) -> Any:
            return {"rule_id": "a mapping does as well", "version": 4, "emergency_mode": True}

    agent = make_agent(dynamic_rule_interval=1, status_interval=1)
    transport = Ruling()
    agent.transport = transport
    agent.sync.start()
    rules = agent.sync.get_dynamic_rules()
    assert (rules.version, rules.emergency_mode) == (4, True)  # type: ignore[attr-defined]
    eventually(lambda: bool(transport.statuses))
    assert server.questions == []
    assert server.statuses == []


def test_encrypted_rows_are_opened_for_it(make_agent: MakeAgent) -> None:
    agent = make_agent(project_encryption_key="A" * 43 + "=")
    collector = Collector()
    agent.transport = collector
    agent.sync.start()
    agent.sync.send_event({"event_type": "x", "reason": "readable"})
    agent.sync.flush_buffer()
    assert collector.events[0].reason == "readable"


def test_what_lacks_a_method_is_refused_where_it_is_assigned(make_agent: MakeAgent) -> None:
    class Half:
        async def send_events(self, events: list[SecurityEvent]) -> bool:
            return True

    agent = make_agent()
    with pytest.raises(TypeError, match=r"a Half can.t be agent\.transport: it has no send_metrics, fetch_"):
        agent.transport = Half()
    assert isinstance(Collector(), TransportProtocol)
