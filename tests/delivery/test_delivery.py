"""A delivery from `submit` to what a backend has stored, with real stores."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from support.guard_server import Answer, GuardServer, guard_server
from support.redis import eventually

from opentelemetry_guard.delivery import registry
from opentelemetry_guard.delivery.breaker import BreakerState
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.process.end import CLOCK
from opentelemetry_guard.queue.base import Batch, QueueOptions, QueueUnavailable
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.settings.delivery import MAX_BODY_BYTES, GuardConfig

WATCHDOG = 60.0


def events(*reasons: str) -> list[Any]:
    return [complete(to_row({"event_type": "ip_blocked", "reason": reason})[0]) for reason in reasons]


def metrics(count: int) -> list[Any]:
    row = {"timestamp": "2026-01-02T03:04:05Z", "metric_type": "request_count", "endpoint": None, "tags": {}}
    return [{**row, "value": float(number)} for number in range(count)]


def delivery(server: GuardServer, queue: Any = None, **settings: object) -> Delivery:
    return Delivery(GuardConfig.resolve({}, **{**server.settings, **settings}), queue)


def reasons(server: GuardServer) -> list[str]:
    return [event["reason"] for event in server.events]


def test_what_is_submitted_is_delivered() -> None:
    with guard_server() as server:
        made = delivery(server)
        made.submit("events", events("a", "b"))
        made.submit("metrics", metrics(3))
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert reasons(server) == ["a", "b"]
        assert [row["value"] for row in server.metrics] == [0.0, 1.0, 2.0]


def test_nothing_is_opened_before_the_first_row(tmp_path: Path) -> None:
    with guard_server() as server:
        made = delivery(server, queue_url=f"sqlite://{tmp_path}/queue/guard.db")
        made.start()
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert not server.requests
    assert not list(tmp_path.iterdir())


def test_an_event_that_comes_twice_is_delivered_once() -> None:
    with guard_server() as server:
        made = delivery(server)
        rows = events("a", "b")
        made.submit("events", [rows[0], rows[0]])
        made.submit("events", rows)
        made.submit("metrics", metrics(1))
        made.submit("metrics", metrics(1))
        made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert sorted(reasons(server)) == ["a", "b"]
        assert len(server.metrics) == 2
        assert made.stats().ledger["events"].accepted == 2


class Unreliable(MemoryQueue):
    """A store of a user's own."""

    error: Exception | None = None
    appends = 0

    def append(self, batch: Batch) -> None:
        self.appends += 1
        if self.error is not None:
            raise self.error
        super().append(batch)

    def exists(self) -> bool:
        if self.error is not None:
            raise self.error
        return super().exists()

    def close(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [QueueUnavailable("disk full"), ConnectionError("gone"), ZeroDivisionError()])
def test_while_the_store_fails_rows_wait_in_memory_and_are_delivered_from_there(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with guard_server() as server:
        queue = Unreliable(QueueOptions("x"))
        made = delivery(server, queue)
        queue.error = error
        made.submit("events", events("a"))
        made.submit("events", events("b"))
        server.wait_for_events(2)
        assert len([record for record in caplog.records if "can't be written" in record.message]) == 1
        queue.error = None
        made.submit("events", events("c"))
        made.flush(WATCHDOG)
        assert sorted(reasons(server)) == ["a", "b", "c"]
        assert queue.stats().ledger["events"].delivered == 1
        assert made.stats().ledger["events"].delivered == 3
        made.close(WATCHDOG)


class Noted(Unreliable):
    """A store that fails until it is told otherwise, and notes whose thread brings it rows."""

    def __init__(self) -> None:
        super().__init__(QueueOptions("x"))
        self.threads: list[str] = []

    def append(self, batch: Batch) -> None:
        super().append(batch)
        self.threads.append(threading.current_thread().name)


def test_whoever_exports_after_an_outage_brings_its_own_rows_and_the_sender_the_others() -> None:
    with guard_server() as server:
        server.answer(503, times=None)
        queue = Noted()
        made = delivery(server, queue, breaker_failures=1, breaker_recovery=3600, breaker_max_recovery=3600)
        queue.error = QueueUnavailable("locked")
        for number in range(300):
            made.submit("events", events(str(number)))
        queue.error = None
        made.submit("events", events("own"))
        assert not made.flush(WATCHDOG)

        def are_stored() -> bool:
            stats = made.stats()
            ledger = stats.ledger["events"]
            # One may have been on its way meanwhile.
            return stats.depth - queue.stats().depth <= 1 and (ledger.accepted, ledger.queued) == (301, 301)

        eventually(are_stored)
        ours = threading.current_thread().name
        assert queue.threads.count(ours) == 1
        assert set(queue.threads) == {ours, "OtelGuardSender"}
        made.close(0.0)


def test_a_store_that_fails_again_on_the_way_back_loses_nothing() -> None:
    with guard_server() as server:
        server.answer(503, times=None)
        queue = Noted()
        made = delivery(server, queue)
        queue.error = QueueUnavailable("locked")
        made.submit("events", events(*map(str, range(50))))
        assert made._stores.move_back(1.0) is False
        assert made.stats().ledger["events"].accepted == 50
        queue.error = None
        server.answer(times=None)
        made.flush(WATCHDOG)
        server.wait_for_events(50)
        made.close(WATCHDOG)


def test_a_store_that_fails_is_asked_once_a_submit() -> None:
    with guard_server() as server:
        queue = Unreliable(QueueOptions("x"))
        queue.error = QueueUnavailable("locked")
        made = delivery(server, queue, api_key=None)
        made.submit("events", events(*["x" * MAX_BODY_BYTES] * 4))
        assert queue.appends == 1
        made.close(0.0)


def test_a_store_that_fails_at_the_end_does_not_break_the_shutdown() -> None:
    with guard_server() as server:
        queue = Unreliable(QueueOptions("x"))
        made = delivery(server, queue)
        queue.error = ZeroDivisionError()
        assert not made.flush(WATCHDOG)
        made.close(WATCHDOG)


def test_a_locked_database_costs_no_row(tmp_path: Path) -> None:
    with guard_server() as server:
        made = delivery(server, queue_url=f"sqlite://{tmp_path}/queue/guard.db")
        made.submit("events", events("before"))
        server.wait_for_events(1)
        [file] = (tmp_path / "queue").glob("*.db")
        blocker = sqlite3.connect(file, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        made.submit("events", events("meanwhile"))
        server.wait_for_events(2)
        blocker.execute("ROLLBACK")
        blocker.close()
        made.submit("events", events("after"))
        server.wait_for_events(3)
        made.close(WATCHDOG)
    assert sorted(reasons(server)) == ["after", "before", "meanwhile"]


def test_submit_returns_while_the_backend_hangs() -> None:
    with guard_server() as server:
        server.answer(delay=3600.0, times=None)
        made = delivery(server)
        submitting = threading.Thread(target=lambda: [made.submit("events", events("a")) for _ in range(50)])
        submitting.start()
        submitting.join(WATCHDOG)
        assert not submitting.is_alive()
        assert made.stats().ledger["events"].accepted == 50
        made.close(0.0)


def test_statistics_say_where_every_row_is_and_how_the_routes_are() -> None:
    with guard_server() as server:
        made = delivery(server)
        made.submit("events", events("taken"))
        made.flush(WATCHDOG)
        server.answer(422, {"detail": "bad row"})
        server.answer(401, b"unknown key")
        made.submit("events", events("refused"))
        made.flush(WATCHDOG)
        made.submit("events", events("waiting"))
        assert not made.flush(WATCHDOG)
        stats = made.stats()
        ledger = stats.ledger["events"]
        assert (ledger.accepted, ledger.dead_lettered, ledger.queued) == (3, 1, 1)
        assert stats.depth == 1
        assert stats.bytes > 0
        assert stats.oldest is not None
        assert stats.routes["events"].breaker is BreakerState.CLOSED
        assert stats.routes["events"].last_error == "401 unknown key"
        assert stats.routes["metrics"].last_error is None
        made.close(0.0)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>default backend - 404</html>"),
        (404, b'{"detail": "Not Found"}'),
        (400, b"<html>400 Bad Request</html>"),
        (405, b"<html>405 Not Allowed</html>"),
        (410, b""),
        (422, b'{"message": "upstream is away"}'),
        (422, b'{"detail": "another service than the backend"}'),
    ],
)
def test_what_a_proxy_answers_in_the_backends_place_costs_no_row_and_few_requests(
    status: int, body: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with guard_server() as server:
        server.answer(status, body, times=None)
        server.control = Answer(status, body)
        url = f"sqlite://{tmp_path}/queue/guard.db"
        first = delivery(server, queue_url=url)
        for number in range(20):
            first.submit("events", events(*(f"{number}-{row}" for row in range(10))))
            first.flush(WATCHDOG)
        ledger, told = first.stats().ledger["events"], first.status()
        assert (ledger.queued, ledger.dead_lettered) == (200, 0)
        assert len(server.requests) == 1
        assert told.status == "failed"
        assert "OTEL_EXPORTER_GUARD_ENDPOINT" in told.errors[0]
        first.close(WATCHDOG)
        errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert len(errors) == 1
        assert f"{status} " in errors[0]

        server.answer(200, times=None)
        server.control = None
        second = delivery(server, queue_url=url)
        second.start()
        assert second.flush(WATCHDOG)
        second.close(WATCHDOG)
        assert len(set(reasons(server))) == len(reasons(server)) == 200


def test_who_takes_a_status_report_is_the_backend_whose_refusals_count() -> None:
    with guard_server() as server:
        server.answer(422, {"detail": "bad row"})
        made = delivery(server)
        made.submit("events", events("refused"))
        made.flush(WATCHDOG)
        assert made.stats().ledger["events"].dead_lettered == 1
        assert len(server.statuses) == 1
        made.close(WATCHDOG)


def test_what_waits_in_memory_at_the_end_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with guard_server() as server:
        made = delivery(server, api_key=None)
        made.submit("events", events("a"))
        made.close(1.0)
    assert "1 batches for the Guard backend end with this process" in caplog.text


def test_rows_that_come_after_the_end_wait_for_the_next_start(tmp_path: Path) -> None:
    with guard_server() as server:
        url = f"sqlite://{tmp_path}/queue/guard.db"
        first = delivery(server, queue_url=url)
        first.submit("events", events("a"))
        first.close(WATCHDOG)
        first.submit("events", events("late"))
        assert first.stats().ledger["events"].queued == 1
        second = delivery(server, queue_url=url)
        second.start()
        server.wait_for_events(2)
        second.close(WATCHDOG)
    assert reasons(server) == ["a", "late"]


def test_the_backlog_of_an_earlier_process_is_sent_at_once(tmp_path: Path) -> None:
    with guard_server() as server:
        url = f"sqlite://{tmp_path}/queue/guard.db"
        server.answer(503, headers={"Retry-After": "200"})
        first = delivery(server, queue_url=url)
        first.submit("events", events("left"))
        first.flush(WATCHDOG)
        first.close(WATCHDOG)
        assert not server.events
        second = delivery(server, queue_url=url)
        second.start()
        assert server.wait_for_events(1)[0]["reason"] == "left"
        assert second.flush(WATCHDOG)
        second.close(WATCHDOG)
        assert second.stats().ledger["events"].delivered == 1


def test_a_rotated_key_finds_its_backlog() -> None:
    with guard_server(api_key="new-key") as server:
        settings: dict[str, object] = {"queue_url": None, "project_id": "test-project"}
        old = delivery(server, **settings, api_key="old-key")
        old.submit("events", events("a"))
        old.close(WATCHDOG)
        assert not server.events
        new = delivery(server, **settings)
        new.start()
        server.wait_for_events(1)
        new.close(WATCHDOG)


def test_two_projects_of_one_home_never_send_each_others_rows() -> None:
    with guard_server() as server:
        first = delivery(server, queue_url=None, project_id="one", api_key="not-yet-valid")
        first.submit("events", events("ones"))
        first.close(WATCHDOG)
        second = delivery(server, queue_url=None, project_id="two")
        second.submit("events", events("twos"))
        assert second.flush(WATCHDOG)
        second.close(WATCHDOG)
        assert reasons(server) == ["twos"]
        assert first.stats().ledger["events"].queued == 1


def test_a_destination_is_endpoint_and_project_and_the_key_only_where_there_is_no_project() -> None:
    def destination(**settings: object) -> str:
        return GuardConfig.resolve({}, **{"endpoint": "http://g", "api_key": "k", **settings}).destination

    assert destination(project_id="p") == destination(project_id="p", api_key="other")
    assert destination(project_id="p") != destination(project_id="q")
    assert destination(project_id="p") != destination(project_id="p", endpoint="http://h")
    assert destination() != destination(api_key="other")
    assert destination() != destination(project_id="k")


# The registry: one delivery per destination.


def config(server: GuardServer, **settings: object) -> GuardConfig:
    return GuardConfig.resolve({}, **{**server.settings, **settings})


def test_exporters_of_one_destination_share_a_delivery_until_the_last_gives_it_back() -> None:
    with guard_server() as server:
        logs, spans = (registry.acquire(config(server), user) for user in ("logs", "spans"))
        assert logs is spans
        registry.release(logs, "logs", WATCHDOG)
        assert not logs.closed
        assert registry.had_user(logs, "logs")
        assert not registry.had_user(logs, "metrics")
        registry.release(spans, "spans", WATCHDOG)
        assert logs.closed
        again = registry.acquire(config(server), "logs")
        assert again is not logs
        registry.release(again, "logs", WATCHDOG)


def test_two_exporters_of_one_signal_are_counted_each() -> None:
    with guard_server() as server:
        made = [registry.acquire(config(server), "logs") for _ in range(2)]
        registry.release(made[0], "logs", WATCHDOG)
        assert not made[1].closed
        registry.release(made[1], "logs", WATCHDOG)
        assert made[1].closed


def test_other_destinations_have_deliveries_of_their_own() -> None:
    with guard_server() as server:
        one = registry.acquire(config(server, project_id="one"), "logs")
        two = registry.acquire(config(server, project_id="two"), "logs")
        assert one is not two
        registry.release(one, "logs", WATCHDOG)
        assert not two.closed
        registry.release(two, "logs", WATCHDOG)


def test_differing_settings_are_named_once_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with guard_server() as server:
        users = ("logs", "spans", "metrics")
        made = [
            registry.acquire(config(server, timeout=5 + number, api_key=f"secret-{number}"), user)
            for number, user in enumerate(users)
        ]
        for user in users:
            registry.release(made[0], user, 0.0)
    [warning] = [record.message for record in caplog.records if "share one delivery" in record.message]
    assert "api_key, timeout" in warning
    assert "secret-" not in caplog.text


def test_an_exporter_made_after_a_shutdown_starts_the_clock_anew() -> None:
    with guard_server() as server:
        assert CLOCK.remaining(0.0) == CLOCK.remaining(100.0) == 0.0
        made = registry.acquire(config(server), "logs")
        assert CLOCK.remaining(100.0) > 0.0
        registry.release(made, "logs", 0.0)
