"""Real processes that are killed, and a real backend that goes away and comes back."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
from support.backend import ROOT, running_backend
from support.emitting_app import emitting_app
from support.guard_server import guard_server

from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.settings.delivery import GuardConfig

pytestmark = pytest.mark.slow

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


class SetClock:
    """A clock of processes that is set while they run; `environment` makes a Python process go by it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set_by(0.0)
        shim = ROOT / "tests" / "support" / "set_clock"
        self.environment = {"PYTHONPATH": f"{shim}:{ROOT}", "TESTS_CLOCK": str(file)}

    def set_by(self, seconds: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


@pytest.mark.parametrize("jump", [-3600.0, -86_400.0, 86_400.0])
def test_a_clock_that_is_set_keeps_nothing_waiting(tmp_path: Path, jump: float) -> None:
    clock = SetClock(tmp_path / "clock")
    with guard_server() as server:
        server.answer(503, times=None)
        with emitting_app({**server.environment, **clock.environment}, "simple") as app:
            app.tell("emit a 10")
            server.wait_for_requests(2)
            clock.set_by(jump)
            server.answer(times=None)
            server.wait_for_events(10, WATCHDOG)
            assert app.end() == 0
        assert Counter(event["reason"] for event in server.events) == Counter(f"a{n}" for n in range(10))


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 86_400.0])
def test_a_clock_that_is_set_takes_nothing_from_a_process_that_lives(tmp_path: Path, jump: float) -> None:
    clock = SetClock(tmp_path / "clock")
    with guard_server() as server:
        environment = {**server.environment, **clock.environment, "OTEL_EXPORTER_GUARD_ENABLE_METRICS": "false"}
        server.answer(delay=4.0)
        with emitting_app(environment, "simple") as slow, emitting_app(environment, "simple") as sibling:
            slow.tell("emit a 1")
            server.wait_for_requests(1)
            clock.set_by(jump)
            for number in range(8):
                sibling.tell(f"emit b{number} 1")
            server.wait_for_events(9, WATCHDOG)
            assert (slow.end(), sibling.end()) == (0, 0)
        assert [count for count in Counter(event["reason"] for event in server.events).values() if count > 1] == []
