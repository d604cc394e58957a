"""Observers of calls: told of every one, of every delivery, after what it carried was dealt with."""

from __future__ import annotations

from typing import Any

import pytest
from support.guard_server import guard_server
from support.redis import eventually

from opentelemetry_guard.delivery.calls import Call, observe
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.delivery.outcome import Verdict
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.settings.delivery import GuardConfig

WATCHDOG = 60.0


def event() -> list[Any]:
    return [complete(to_row({"event_type": "ip_blocked"})[0])]


def test_an_observer_is_told_of_rows_and_reports_with_batch_and_outcome() -> None:
    calls: list[Call] = []
    leave = observe(calls.append)
    with guard_server() as server:
        made = Delivery(GuardConfig.resolve({}, **{**server.settings, "status_interval": 300}))
        made.start()
        eventually(lambda: [call.route for call in calls] == ["status"])
        server.answer(503, b"not now", times=1)
        made.submit("events", event())
        eventually(lambda: [call for call in calls if call.outcome.verdict is Verdict.ACCEPTED and call.batch])
        leave()
        made.submit("events", event())
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
    told = [(call.outcome.verdict, call.batch.rows) for call in calls if call.route == "events" and call.batch]
    assert told == [(Verdict.RETRY, 1), (Verdict.ACCEPTED, 1)]
    assert all(call.batch is None for call in calls if call.route == "status")
    assert {call.destination for call in calls} == {made.config.destination}


def test_an_observer_that_raises_is_logged_and_keeps_nothing_from_being_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(call: Call) -> None:
        raise RuntimeError("a defect of the observer")

    leave = observe(fail)
    with guard_server() as server:
        made = Delivery(GuardConfig.resolve({}, **{**server.settings, "status_interval": 0}))
        made.start()
        made.submit("events", event())
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
    leave()
    assert made.stats().ledger["events"].delivered == 1
    assert "a defect of the observer" in caplog.text
