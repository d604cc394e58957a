"""Real processes that are killed, and a real backend that goes away and comes back."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path

from support.backend import running_backend
from support.emitting_app import emitting_app
from support.guard_server import guard_server

from opentelemetry_guard.codec import complete, to_row
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.settings.delivery import GuardConfig

WATCHDOG = 60.0


def test_what_a_terminated_process_left_is_delivered_by_its_successor() -> None:
    with guard_server() as server:
        server.answer(503, headers={"Retry-After": "200"}, times=None)
        with emitting_app(server.environment, "simple", "polite") as app:
            app.tell("emit a 20")
            server.wait_for_requests(1)
            assert app.end(signal.SIGTERM) == -signal.SIGTERM
        server.answer(times=None)
        with emitting_app(server.environment, "simple") as app:
            server.wait_for_events(20, WATCHDOG)
            app.tell("emit b 1")
            assert app.end() == 0
        assert Counter(event["reason"] for event in server.events) == Counter([f"a{n}" for n in range(20)] + ["b0"])


def test_what_a_killed_process_left_is_delivered_once_its_lease_has_run_out() -> None:
    with guard_server() as server:
        server.answer(503, headers={"Retry-After": "200"}, times=None)
        with emitting_app(server.environment, "simple") as app:
            app.tell("emit a 20")
            server.wait_for_requests(1)
            assert app.end(signal.SIGKILL) == -signal.SIGKILL
        server.answer(times=None)
        with emitting_app(server.environment, "simple") as app:
            app.tell("emit b 1")
            server.wait_for_events(21, WATCHDOG)
            assert app.end() == 0
        assert Counter(event["reason"] for event in server.events) == Counter([f"a{n}" for n in range(20)] + ["b0"])


def test_killing_the_backend_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    with running_backend() as backend:
        settings = {name.removeprefix("OTEL_EXPORTER_GUARD_").lower(): v for name, v in backend.environment.items()}
        made = Delivery(GuardConfig.resolve({}, **settings, queue_url=f"sqlite://{tmp_path}/q/guard.db"))
        pace = threading.Event()
        for number in range(200):
            names = [str(number * 10 + n) for n in range(10)]
            made.submit("events", [complete(to_row({"event_type": "ip_blocked", "reason": name})[0]) for name in names])
            if number == 60:
                backend.kill()
            if number == 140:
                backend.start()
            pace.wait(0.01)
        stored = backend.wait_for_events(2000, WATCHDOG)
        made.close(WATCHDOG)
        assert Counter(event["reason"] for event in stored) == Counter(str(number) for number in range(2000))
        ledger = made.stats().ledger["events"]
        assert (ledger.accepted, ledger.delivered) == (2000, 2000)
