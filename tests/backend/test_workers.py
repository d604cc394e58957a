"""Several processes behind one socket: all serve, one that dies or hangs is started again, and all end together."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import requests
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.commands import COMMAND, environment, run
from support.ingesting import Senders, keys
from support.redis import eventually
from support.sending import batch, event, post

from opentelemetry_guard.backend.workers import Workers

pytestmark = pytest.mark.slow

WATCHDOG = 120.0


def workers_of(backend: RunningBackend) -> list[psutil.Process]:
    return psutil.Process(backend.pid).children()


def serving(process: psutil.Process) -> bool:
    """Whether a worker is there, and has come as far as to its event loop."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any(
            Path(file).name == "anon_inode:[eventpoll]" for file in descriptors(process)
        )
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


def descriptors(process: psutil.Process) -> list[str]:
    return [str(one.readlink()) for one in Path(f"/proc/{process.pid}/fd").iterdir()]


def replaced(backend: RunningBackend, former: list[psutil.Process], number: int) -> list[psutil.Process]:
    """Return the workers as soon as there are `number` that serve, and none of the `former`."""

    def look() -> list[psutil.Process] | None:
        found = [one for one in workers_of(backend) if serving(one)]
        return found if len(found) == number and not set(found) & set(former) else None

    return eventually(look, WATCHDOG, told=backend.stderr)


def test_it_says_that_it_listens_once_and_when_all_do(database: Path | URL) -> None:
    with running_backend(db=database, workers="3") as backend:
        assert sum(serving(one) for one in workers_of(backend)) == 3
        sent = [event() for _ in range(5)]
        for one in sent:
            assert post(backend, "/api/v1/events", batch(events=[one])).status_code == 200
        assert [row["idempotency_key"] for row in backend.events()] == [row["idempotency_key"] for row in sent]
        assert backend.stop() == 0
        assert backend.stdout().count("listening on") == 1
        assert backend.stderr() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_ends_all_of_them_with_0_and_in_silence(number: signal.Signals) -> None:
    with running_backend(workers="2") as backend:
        workers = workers_of(backend)
        assert post(backend, "/api/v1/events", batch(events=[event()])).status_code == 200
        assert backend.stop(number) == 0
        assert backend.stderr() == ""
        assert psutil.wait_procs(workers, WATCHDOG)[1] == []


def test_none_outlives_the_process_that_started_them() -> None:
    with running_backend(workers="2") as backend:
        workers = workers_of(backend)
        backend.kill()
        assert psutil.wait_procs(workers, WATCHDOG)[1] == []


def test_a_worker_ends_with_the_process_that_started_it_also_where_that_had_not_read_what_it_said(
    tmp_path: Path,
) -> None:
    ours, its = socket.socketpair()
    ours.settimeout(WATCHDOG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = subprocess.Popen(
            [*COMMAND, "backend", "--db", str(tmp_path / "guard.db"), "--worker-of", str(listener.fileno())],
            stdin=its.fileno(),
            pass_fds=(listener.fileno(),),
            env=environment(tmp_path),
        )
        try:
            its.close()
            assert ours.recv(1024, socket.MSG_PEEK) == b"listening"
            ours.close()
            assert worker.wait(WATCHDOG) == 0
        finally:
            worker.kill()
            worker.wait()


def assert_all_is_kept_once(backend: RunningBackend, senders: Senders) -> None:
    """Stop the senders, and send what had no answer once more."""
    senders.stop()
    for body in senders.unanswered:
        assert post(backend, "/api/v1/events", body).status_code == 200
    kept = [row["idempotency_key"] for row in backend.events()]
    assert len(kept) == len(set(kept))
    assert set(kept) == keys(senders.acknowledged + senders.unanswered)


def test_a_worker_that_is_killed_under_load_is_started_again_and_loses_nothing_acknowledged(
    database: Path | URL,
) -> None:
    with running_backend(db=database, workers="2", rate_limit="0") as backend:
        before = workers_of(backend)
        senders = Senders(backend, goes_on=True)
        assert senders.enough.wait(WATCHDOG)
        for one in before:
            one.kill()
            eventually(lambda: len([w for w in workers_of(backend) if serving(w)]) == 2, WATCHDOG, told=backend.stderr)
        replaced(backend, before, 2)
        assert_all_is_kept_once(backend, senders)
        assert Counter(re.findall(r"ended with -9: another one is started", backend.stderr())).total() == 2


def test_a_worker_that_is_stopped_is_replaced_and_loses_nothing_acknowledged(database: Path | URL) -> None:
    with running_backend(db=database, workers="2", worker_timeout="4", rate_limit="0") as backend:
        stopped = workers_of(backend)[0]
        senders = Senders(backend, goes_on=True)
        assert senders.enough.wait(WATCHDOG)
        stopped.suspend()
        replaced(backend, [stopped], 2)
        assert_all_is_kept_once(backend, senders)
        told = [line for line in backend.stderr().splitlines() if str(stopped.pid) in line]
        assert len(told) == 1
        assert f"Worker {stopped.pid} has not answered for 4 seconds" in told[0]


def test_a_stopped_worker_does_not_keep_sighup_from_the_others() -> None:
    with running_backend(workers="2", worker_timeout="4") as backend:
        before = workers_of(backend)
        before[0].suspend()
        psutil.Process(backend.pid).send_signal(signal.SIGHUP)
        replaced(backend, before, 2)


def test_a_machine_that_sleeps_is_no_worker_that_hangs() -> None:
    with running_backend(workers="2", worker_timeout="4") as backend:
        workers = workers_of(backend)
        everybody = [psutil.Process(backend.pid), *workers]
        for one in everybody:
            one.suspend()
        time.sleep(5)  # for longer than any of them may be silent
        for one in everybody:
            one.resume()
        assert post(backend, "/api/v1/events", batch(events=[event()])).status_code == 200
        assert set(workers_of(backend)) == set(workers)
        assert backend.stop() == 0
        assert backend.stderr() == ""


class Script:
    """Runs workers that count those before them, and then do what a test says when they listen."""

    _BEGINNING = """
import asyncio, os, signal, socket, sys, time
from pathlib import Path

from opentelemetry_guard.backend.server import serve
from opentelemetry_guard.backend.workers import tell_of_listening

listener, timeout, started = socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), Path(sys.argv[3])
before = len(list(started.iterdir()))
(started / str(os.getpid())).touch()

async def app(scope, receive, send):
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})

def end_all():
    os.kill(os.getppid(), signal.SIGTERM)
"""

    def __init__(self, directory: Path, on_listening: str) -> None:
        self._started = directory / "started"
        self._started.mkdir()
        self._text = self._BEGINNING + on_listening + "serve(app, listener, on_listening)\n"

    def run(self, timeout: float) -> bool:
        """Run one worker, until one calls `end_all`."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            words = [str(listener.fileno()), str(timeout), str(self._started)]
            return Workers([sys.executable, "-c", self._text, *words], listener, 1, lambda: None, timeout).run()

    def started(self) -> int:
        """Return how many workers there were."""
        return len(list(self._started.iterdir()))


def test_a_worker_whose_event_loop_is_blocked_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = Script(
        tmp_path,
        """
def on_listening():
    tell_of_listening(timeout)
    if not before:
        time.sleep(3600)  # until it is killed
    end_all()
""",
    )
    assert script.run(timeout=2)
    assert script.started() == 2
    assert ["has not answered for 2 seconds" in line for line in caplog.messages] == [True]


@pytest.mark.parametrize(
    "timeout", [pytest.param(5, id="never for as long as the timeout"), pytest.param(0, id="without a timeout")]
)
def test_a_worker_whose_event_loop_is_blocked_again_and_again_is_not_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, timeout: float
) -> None:
    script = Script(
        tmp_path,
        """
def on_listening():
    tell_of_listening(timeout)
    block(7)

def block(times):
    time.sleep(1)  # as code that blocks the loop does
    if times:
        # The event loop has a turn.
        asyncio.get_running_loop().call_later(0.01, block, times - 1)
    else:
        end_all()
""",
    )
    assert script.run(timeout)
    assert script.started() == 1
    assert caplog.messages == []


def test_sighup_replaces_every_worker_while_the_others_serve() -> None:
    with running_backend(workers="2", rate_limit="0") as backend:
        before = workers_of(backend)
        senders = Senders(backend, goes_on=True)
        psutil.Process(backend.pid).send_signal(signal.SIGHUP)
        replaced(backend, before, 2)
        assert_all_is_kept_once(backend, senders)
        assert backend.stop() == 0
        assert backend.stdout().count("listening on") == 1


def test_the_key_of_the_first_start_is_made_and_shown_once(tmp_path: Path) -> None:
    command = [*COMMAND, "backend", "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in range(4))
        [url] = re.findall(r"listening on (\S+)", printed)
        printed += process.stdout.readline()
        [key] = re.findall(r"API_KEY=(guard_\S+)", printed)
        with requests.Session() as http:
            http.trust_env = False
            answer = http.get(f"{url}/api/v1/status", headers={"X-API-Key": key}, timeout=WATCHDOG)
        assert answer.status_code == 200
        process.terminate()
        printed += process.stdout.read()
    assert process.returncode == 0
    assert len(re.findall("guard_", printed)) == 1
    assert len(run(tmp_path, "backend", "keys", "list").stdout.splitlines()) == 2


def test_workers_that_cannot_start_are_told_of_and_not_tried_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = Workers([sys.executable, "-c", "raise SystemExit(3)"], listener, 2, lambda: None).run()
    assert not started


@pytest.mark.parametrize("number", ["0", "65", "x"])
def test_a_number_that_can_be_none_of_workers_is_refused(tmp_path: Path, number: str) -> None:
    result = run(tmp_path, "backend", "--port", "0", "--workers", number)
    assert result.returncode == 2
    assert "--workers" in result.stderr
