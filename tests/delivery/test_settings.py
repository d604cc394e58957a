"""Each setting of the delivery has an effect that can be seen at the backend or in the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.guard_server import GuardServer, guard_server

from opentelemetry_guard.delivery.backoff import MAX_BACKOFF, RetryPolicy
from opentelemetry_guard.delivery.breaker import BreakerPolicy, CircuitBreaker
from opentelemetry_guard.delivery.carrier import breaker_policy
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.delivery.encoder import Encoder
from opentelemetry_guard.delivery.outcome import Outcome, RulesAnswer, Verdict
from opentelemetry_guard.delivery.route import ROUTES
from opentelemetry_guard.delivery.source import MERGE_ROWS
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.events.tally import SWITCHED_OFF, TALLY
from opentelemetry_guard.models import AgentStatus
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.settings.delivery import GuardConfig

WATCHDOG = 60.0


def events(count: int) -> list[Any]:
    return [complete(to_row({"event_type": "ip_blocked", "reason": f"{number:04d}"})[0]) for number in range(count)]


def metrics(count: int) -> list[Any]:
    row = {"timestamp": "2026-01-02T03:04:05Z", "metric_type": "request_count", "endpoint": None, "tags": {}}
    return [{**row, "value": float(number)} for number in range(count)]


def delivery(server: GuardServer, **settings: object) -> Delivery:
    return Delivery(GuardConfig.resolve({}, **{**server.settings, **settings}))


def sizes(server: GuardServer) -> list[int]:
    return [len(request.document["events"]) for request in server.requests]


def test_no_request_has_more_rows_than_the_batch_size_also_when_backlog_is_merged() -> None:
    with guard_server() as server:
        made = delivery(server, batch_size=3)
        made.submit("events", events(8))
        for row in events(10):
            made.submit("events", [row])
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert sum(sizes(server)) == 18
        assert max(sizes(server)) == 3


def test_the_default_batch_size_is_what_merging_goes_up_to() -> None:
    assert GuardConfig().batch_size == MERGE_ROWS


@pytest.mark.parametrize(("threshold", "compressed"), [(0, True), (10_000, False)])
def test_bodies_are_compressed_from_the_threshold_on(threshold: int, compressed: bool) -> None:
    with guard_server() as server:
        made = delivery(server, compression_threshold=threshold)
        made.submit("events", events(2))
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert ("content-encoding" in server.requests[0].headers) is compressed


def test_rows_of_a_kind_that_is_switched_off_are_counted_and_not_accepted() -> None:
    with guard_server() as server:
        made = delivery(server, enable_metrics=False)
        made.submit("metrics", metrics(4))
        made.submit("events", events(1))
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert server.metrics == []
        assert len(server.events) == 1
        assert made.stats().ledger["metrics"].accepted == 0
        assert TALLY.read().dropped == {"metrics": {SWITCHED_OFF: 4}}
        assert made.status().status == "healthy"


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_partial_failure_is_repeated_as_often_as_the_setting_says(attempts: int) -> None:
    with guard_server() as server:
        server.answer(200, {"success": False}, times=None)
        made = delivery(server, retry_attempts=attempts, backoff_factor=0.001)
        made.submit("events", events(1))
        server.wait_for_requests(attempts)
        assert made.flush(WATCHDOG)
        ledger = made.stats().ledger["events"]
        made.close(WATCHDOG)
        assert (len(server.requests), ledger.dead_lettered) == (attempts, 1)


@pytest.mark.parametrize(("attempts", "bounds"), [(5, [0.5, 1, 2, 4, 8, 10, 10]), (2, [0.5, 1, 10, 10, 10, 10, 10])])
def test_after_the_quick_tries_a_batch_waits_in_the_backlog(attempts: int, bounds: Sequence[float]) -> None:
    policy = RetryPolicy(attempts, 0.5, uniform=max)
    assert [policy.delay(failures) for failures in range(1, 8)] == bounds


def test_the_backoff_factor_is_the_first_pause_and_doubles() -> None:
    upper = max
    policy = BreakerPolicy(failures=10, max_recovery=100.0, backoff=3.0)
    breaker = CircuitBreaker(policy, uniform=upper)
    ready = []
    for _ in range(3):
        breaker.failed(0.0)
        ready.append(breaker.ready_at)
    assert ready == [3.0, 6.0, 12.0]
    assert breaker_policy(GuardConfig(backoff_factor=3.0)).backoff == 3.0
    assert RetryPolicy(5, 30.0).delay(1) <= 30.0
    assert RetryPolicy(5, 0.5).delay(99) <= MAX_BACKOFF


def test_a_delivery_has_the_state_of_four_routes() -> None:
    with guard_server() as server:
        made = delivery(server)
        assert set(made.stats().routes) == set(ROUTES) == {"events", "metrics", "status", "rules"}
        made.close(0.0)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_only_a_body_without_a_project_is_to_be_encoded_again_once_there_is_one(compression: Any) -> None:
    [nameless] = Encoder(None, compression, gzip_from=0).encode("events", events(3))
    [named] = Encoder("p", compression, gzip_from=0).encode("events", events(3))
    assert not Encoder("p", compression).is_current(nameless)
    assert Encoder("p", compression).is_current(named)
    assert Encoder("other", compression).is_current(named)
    assert Encoder(None, compression).is_current(nameless)
    assert Encoder("p", compression).is_current(Batch("b", "events", 1, b"not ours", "gzip"))


class Collecting:
    """A transport of a user's own."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.statuses: list[AgentStatus] = []

    def send(self, batch: Batch, timeout: float = float("inf")) -> Outcome:
        self.batches.append(batch)
        return Outcome(Verdict.ACCEPTED, 200)

    def fetch_rules(self, etag: str | None, timeout: float = float("inf")) -> RulesAnswer:
        return RulesAnswer(Outcome(Verdict.ACCEPTED, 204))

    def send_status(self, status: AgentStatus, timeout: float = float("inf")) -> Outcome:
        self.statuses.append(status)
        return Outcome(Verdict.ACCEPTED, 200)

    def close(self) -> None:
        """Nothing is open."""


def test_another_transport_carries_everything_also_what_waited_for_a_key() -> None:
    with guard_server() as server:
        made = delivery(server, api_key=None, status_interval=300)
        made.start()
        made.submit("events", events(2))
        assert not made.flush(WATCHDOG)
        own = Collecting()
        made.use_transport(own)
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert sum(batch.rows for batch in own.batches) == 2
        assert own.statuses
        assert server.requests == []


def test_the_transport_can_be_taken_away_again() -> None:
    with guard_server() as server:
        made = delivery(server)
        own = Collecting()
        made.use_transport(own)
        made.submit("metrics", metrics(1))
        assert made.flush(WATCHDOG)
        made.use_transport(None)
        made.submit("events", events(1))
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert [batch.kind for batch in own.batches] == ["metrics"]
        assert len(server.events) == 1
