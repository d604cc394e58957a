"""Settings that arrive when the exporters exist: these move, together, and what waited in their queues with them."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.guard_server import GuardServer, guard_server
from support.pipeline import Pipeline, pipeline
from support.redis import redis_server

from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
from opentelemetry_guard.delivery import registry
from opentelemetry_guard.queue.base import QueueOptions
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.sqlite.store import SqliteQueue
from opentelemetry_guard.settings import late
from opentelemetry_guard.settings.delivery import GuardConfig

WATCHDOG = 60.0
ENCRYPTION_KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
EXPORTERS: list[type[Any]] = [GuardLogExporter, GuardSpanExporter, GuardMetricExporter]


def event(reason: str) -> dict[str, str]:
    return {"event_type": "ip_blocked", "ip_address": "192.0.2.1", "reason": reason}


def reasons(server: GuardServer) -> list[str]:
    return sorted(row["reason"] for row in server.events)


@contextmanager
def exporting(**settings: object) -> Iterator[tuple[Pipeline, GuardLogExporter, GuardSpanExporter]]:
    """Build a pipeline whose exporters have these settings in code."""
    settings = {"status_interval": 0, **settings}
    log, span = GuardLogExporter(**settings), GuardSpanExporter(**settings)
    with pipeline(logs=[log], spans=[span]) as made:
        yield made, log, span


def emit(made: Pipeline, *names: str) -> None:
    """Emit events inside a span, so that log records and span events carry them."""
    with made.tracer.start_as_current_span("GET /"):
        for name in names:
            made.emitter.emit_event(event(name))


@pytest.mark.parametrize("store", ["sqlite", "memory", "explicit-sqlite", "own"])
@pytest.mark.parametrize("with_project", [True, False])
def test_what_waited_for_a_key_is_delivered_when_the_key_comes_late(
    store: str, with_project: bool, tmp_path: Path
) -> None:
    settings: dict[str, object] = {
        "sqlite": {},
        "memory": {"queue_url": "memory://"},
        "explicit-sqlite": {"queue_url": f"sqlite://{tmp_path}/own/guard.db"},
        "own": {"queue": MemoryQueue(QueueOptions("mine"))},
    }[store]
    project = {"project_id": "late-project"} if with_project else {}
    with guard_server() as server, exporting(**settings) as (made, log, span):
        emit(made, "before")
        assert log.delivery is not None
        assert not log.force_flush(5_000)
        late.offer("SecurityConfig", endpoint=server.url, api_key=server.api_key, **project)
        emit(made, "after")
        server.wait_for_events(2)
        assert log.force_flush(20_000)
        assert reasons(server) == ["after", "before"]
        assert {request.document["project_id"] for request in server.requests} == {
            "late-project" if with_project else "default"
        }
        assert log.delivery is span.delivery
        ledger = log.delivery.stats().ledger["events"]
        assert (ledger.accepted, ledger.delivered, ledger.balanced) == (2, 2, True)


def test_many_small_batches_and_compressed_ones_are_delivered_under_the_late_project() -> None:
    with guard_server() as server, exporting(queue_url="memory://", compression_threshold=10) as (made, log, _):
        for number in range(150):
            made.emitter.emit_event(event(f"{number:03d}"))
        log.force_flush(1_000)
        late.offer("SecurityConfig", endpoint=server.url, api_key=server.api_key, project_id="late-project")
        server.wait_for_events(150)
        assert reasons(server) == [f"{number:03d}" for number in range(150)]


def test_a_retry_of_what_was_encoded_anew_keeps_its_bytes() -> None:
    with guard_server() as server, exporting(queue_url="memory://", backoff_factor=0.01) as (made, log, _):
        emit(made, "a")
        log.force_flush(1_000)
        server.answer(503, times=3)
        late.offer("SecurityConfig", endpoint=server.url, api_key=server.api_key, project_id="late-project")
        server.wait_for_events(1)
        assert len({(request.document["batch_id"], request.body) for request in server.requests}) == 1
        assert len(server.requests) == 4


def test_what_was_stored_in_plain_text_is_encrypted_when_the_key_for_that_comes_late(tmp_path: Path) -> None:
    late_settings = {"api_key": "k", "project_id": "p", "encryption_key": ENCRYPTION_KEY}
    with guard_server("k") as server, exporting() as (made, log, _):
        emit(made, "waiting")
        log.force_flush(1_000)
        seen = threading.Event()
        bodies: list[bytes] = []

        def receive(path: str, headers: Any, raw: bytes) -> Any:
            bodies.append(raw)
            seen.set()
            return type(server._always)()

        server.receive = receive  # type: ignore[method-assign]
        late.offer("AgentConfig", endpoint=server.url, **late_settings)
        assert seen.wait(WATCHDOG)
        assert b"encrypted_payload" in bodies[0]
        assert b"waiting" not in bodies[0]


def test_a_late_key_alone_is_taken_up_at_once_although_its_absence_was_noticed() -> None:
    with guard_server() as server:
        settings = {**server.settings, "api_key": None}
        with exporting(**settings) as (made, log, _):
            emit(made, "a")
            assert not log.force_flush(5_000)
            delivery = log.delivery
            late.offer("SecurityConfig", api_key=server.api_key)
            server.wait_for_events(1)
            assert log.delivery is delivery


def test_what_an_earlier_process_left_without_a_key_is_delivered_too() -> None:
    with guard_server() as server:
        endpoint = {"endpoint": server.url}
        with exporting(**endpoint) as (made, _, _):
            emit(made, "of the last run")
        with exporting(**endpoint):
            late.offer("SecurityConfig", api_key=server.api_key, project_id="late-project")
            server.wait_for_events(1)
        assert reasons(server) == ["of the last run"]


def test_a_redis_that_comes_late_takes_over_and_the_old_queue_is_emptied() -> None:
    with guard_server() as server, redis_server() as redis:
        with exporting(endpoint=server.url, project_id="p") as (made, log, _):
            emit(made, "before")
            log.force_flush(1_000)
            late.offer("initialize_redis", queue_url=redis.url)
            emit(made, "between")
            late.offer("AgentConfig", api_key=server.api_key)
            emit(made, "after")
            server.wait_for_events(3)
            assert log.force_flush(20_000)
            assert log.delivery is not None
            assert type(log.delivery.queue).__name__ == "RedisQueue"
            ledger = log.delivery.stats().ledger["events"]
            assert (ledger.accepted, ledger.delivered) == (3, 3)
        assert reasons(server) == ["after", "before", "between"]


def test_an_event_that_is_logged_and_in_a_span_is_delivered_once_although_the_span_ends_after_the_move() -> None:
    with guard_server() as server, exporting(queue_url="memory://") as (made, log, span):
        with made.tracer.start_as_current_span("GET /"):
            made.emitter.emit_event(event("a"))
            late.offer("SecurityConfig", endpoint=server.url, api_key=server.api_key, project_id="late-project")
        server.wait_for_events(1)
        assert log.force_flush(20_000)
        assert span.force_flush(20_000)
        assert reasons(server) == ["a"]


def test_a_move_to_a_destination_that_has_a_delivery_joins_it_with_users_and_rows() -> None:
    with guard_server() as server:
        log = GuardLogExporter(**server.settings)
        span = GuardSpanExporter(queue_url="memory://", status_interval=0)
        metric = GuardMetricExporter(queue_url="memory://", status_interval=0)
        with pipeline(logs=[log], spans=[span]) as made:
            emit(made, "a")
            assert log.delivery is not span.delivery
            late.offer("SecurityConfig", endpoint=server.url, api_key=server.api_key, project_id="test-project")
            assert log.delivery is span.delivery is metric.delivery
            emit(made, "b")
            server.wait_for_events(2)
            assert log.force_flush(20_000)
            assert log.delivery is not None
            assert log.delivery.stats().ledger["events"].balanced
        metric.shutdown()
        # Before the move the span exporter was alone and took the event; its key is known to the delivery it joined.
        assert reasons(server) == ["a", "a", "b"]
        assert len({row["idempotency_key"] for row in server.events}) == 2
        assert registry.everyone() == []


def test_exporters_whose_settings_are_spelled_out_stay_where_they_are() -> None:
    with guard_server() as server, guard_server() as other:
        project = {"project_id": "p", "queue_url": "memory://", "status_interval": 0}
        log = GuardLogExporter(endpoint=server.url, api_key=server.api_key, **project)
        with pipeline(logs=[log]) as made:
            late.offer("SecurityConfig", endpoint=other.url, api_key=other.api_key)
            emit(made, "a")
            server.wait_for_events(1)
        assert other.requests == []


def test_a_late_setting_is_no_reason_to_wait_for_a_request_that_hangs() -> None:
    with guard_server() as server, exporting(**{**server.settings, "shutdown_timeout": 0.2}) as (made, log, _):
        server.answer(delay=3600.0, times=1)
        emit(made, "a")
        server.wait_for_requests(1)
        offering = threading.Thread(target=late.offer, args=("AgentConfig",), kwargs={"timeout": 30, "batch_size": 5})
        offering.start()
        offering.join(WATCHDOG)
        assert not offering.is_alive()
        assert log.delivery is not None
        assert log.delivery.config.batch_size == 5


def test_a_store_that_comes_late_and_cannot_be_loaded_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry_guard.queue import url

    monkeypatch.setitem(url.BUILT_IN, "broken", "no_such_module:Store")
    with guard_server() as server, exporting(**{**server.settings, "queue_url": None}) as (made, log, _):
        late.offer("initialize_redis", queue_url="broken://x")
        emit(made, "a")
        server.wait_for_events(1)
        assert log.delivery is not None
        assert isinstance(log.delivery.queue, SqliteQueue)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_fresh_exporter_has_the_late_settings_from_the_start() -> None:
    with guard_server() as server:
        late.offer("SecurityConfig", endpoint=server.url, api_key=server.api_key, project_id="p", status_interval=0)
        with exporting() as (made, log, _):
            emit(made, "a")
            server.wait_for_events(1)
            assert log.delivery is not None
            assert log.delivery.config == GuardConfig.resolve(status_interval=0)


def test_exporters_that_shared_a_delivery_part_where_one_has_its_destination_in_code() -> None:
    with guard_server() as server, guard_server() as other:
        common = {"project_id": "p", "queue_url": "memory://", "status_interval": 0}
        late.offer("AgentConfig", endpoint=server.url)
        log = GuardLogExporter(endpoint=server.url, **common)
        span = GuardSpanExporter(**common)
        late.forget()
        with pipeline(logs=[log], spans=[span]) as made:
            assert log.delivery is span.delivery
            late.offer("SecurityConfig", endpoint=other.url, api_key=server.api_key)
            assert log.delivery is not span.delivery
            emit(made, "a")
            server.wait_for_events(1)
            other.wait_for_events(1)
        assert registry.everyone() == []


def test_rows_of_every_store_there_was_are_delivered_in_the_end() -> None:
    with guard_server() as server, exporting(endpoint=server.url) as (made, log, _):
        for number, settings in enumerate(
            [{"queue_max_bytes": 100_000}, {"timeout": 30}, {"project_id": "p"}, {"queue_url": "memory://"}]
        ):
            emit(made, f"{number}")
            late.offer(f"part {number}", **settings)
        emit(made, "4")
        late.offer("the last part", api_key=server.api_key)
        server.wait_for_events(5)
        assert log.force_flush(20_000)
        assert reasons(server) == ["0", "1", "2", "3", "4"]
        assert log.delivery is not None
        ledger = log.delivery.stats().ledger["events"]
        assert (ledger.accepted, ledger.delivered) == (5, 5)


def test_late_settings_for_the_same_backend_leave_it_at_one_status_at_the_start_and_one_at_the_end() -> None:
    with guard_server() as server:
        with exporting(**{**server.settings, "status_interval": 300}) as (made, log, _):
            late.offer("AgentConfig", batch_size=5, timeout=7)
            server.wait_until(lambda: len(server.statuses) == 1, "a status")
            late.offer("initialize_redis", backoff_factor=0.5)
            emit(made, "a")
            assert log.force_flush(20_000)
        assert len(server.statuses) == 2


def test_a_key_that_comes_late_brings_the_first_status_about() -> None:
    with guard_server() as server:
        with exporting(endpoint=server.url, status_interval=300):
            late.offer("SecurityConfig", api_key=server.api_key)
            server.wait_until(lambda: len(server.statuses) == 1, "a status")
        assert len(server.statuses) == 2
