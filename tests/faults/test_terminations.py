"""Terminations of gunicorn with uvicorn's workers under load: all end in time, and what they hold arrives."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import requests
from support.application import PORT, ZERO_CODE, RunningApplication, running_command
from support.faults import SCALE
from support.guard_server import guard_server

pytestmark = pytest.mark.faults

TERMINATIONS = 200 if SCALE >= 1 else 3
WORKERS = 2
CLIENTS = 4
DEADLINE = 25.0
"""Seconds that a termination may take: 10 for open connections, 5 for telemetry. gunicorn kills workers after 30."""
WATCHDOG = 90.0
SHOP = "opentelemetry_guard.cli.demo.shop:app"


class Load:
    """Clients that fail to log in, each over a connection of its own, until the server is gone."""

    def __init__(self, shop: RunningApplication) -> None:
        self.answered: Counter[int] = Counter()
        self.last_answer = 0.0
        self.began = threading.Event()
        self._url = f"{shop.url}/login"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        session = requests.Session()
        session.trust_env = False
        while not self._stop.is_set():
            try:
                answer = session.post(self._url, json={"user": f"user{number}", "password": "guess"}, timeout=10)
            except requests.RequestException:
                return
            self.answered[answer.status_code] += 1
            self.last_answer = time.monotonic()
            if self.answered.total() >= 20 * CLIENTS:
                self.began.set()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def children(pid: int) -> list[int]:
    said = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in said.stdout.split()]


def terminated(shop: RunningApplication) -> float:
    """End it as an operator does; return the seconds. Workers that hang for too long tell where, on standard error."""
    workers = children(shop.process.pid)
    began = time.monotonic()
    shop.process.send_signal(signal.SIGTERM)
    try:
        shop.process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        for worker in workers:
            try:
                os.kill(worker, signal.SIGABRT)  # faulthandler writes the stacks of all threads
            except ProcessLookupError:
                continue
        shop.process.wait(WATCHDOG)
    return time.monotonic() - began


def test_every_termination_under_load_ends_in_time_and_loses_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    settings = {**ZERO_CODE, "XDG_STATE_HOME": str(tmp_path), "PYTHONFAULTHANDLER": "1"}
    command = ("gunicorn", "-k", "support.patient_worker.Worker", "-w", str(WORKERS), "-b", f"127.0.0.1:{PORT}", SHOP)
    seconds: list[float] = []
    answered = 0
    said = ""
    with guard_server() as server:
        for _ in range(TERMINATIONS):
            with running_command({**server.environment, **settings}, *command) as shop:
                load = Load(shop)
                try:
                    assert load.began.wait(WATCHDOG)
                    seconds.append(terminated(shop))
                finally:
                    load.end()
                answered += load.answered[401]
            said += capfd.readouterr().err
            assert seconds[-1] < DEADLINE, said[-20_000:]
        server.wait_for_events(answered, WATCHDOG)
        kinds = Counter(event["event_type"] for event in server.events)
    ordered = sorted(seconds)
    busy = [line for line in said.splitlines() if "busy" in line or "queue can't be" in line]
    with capfd.disabled():
        print(
            f"{len(seconds)} terminations: median {ordered[len(ordered) // 2]:.2f} s, longest {ordered[-1]:.2f} s; "
            f"{answered} failed logins, {len(busy)} complaints about the queue {busy[:3]}"
        )
    # Whoever's connection was cut has no answer, though the event was emitted.
    assert answered <= kinds["authentication_failed"] <= answered + CLIENTS * len(seconds)
    assert len({event["idempotency_key"] for event in server.events}) == len(server.events)
