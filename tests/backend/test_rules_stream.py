"""Rules at once, with real backends and real processes: told to all, over several backends, and kept when they go."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.backend import ROOT, RunningBackend, running_backend
from support.redis import eventually

from opentelemetry_guard.backend.ingest import connections
from opentelemetry_guard.models import DynamicRules

pytestmark = pytest.mark.slow

SECRET = "the signing secret"
CLIENTS = 10
WATCHDOG = 60.0
BAN = DynamicRules(ip_blacklist=["192.0.2.1"])


@contextmanager
def listeners(number: int, directory: Path, environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes that listen for rules."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    variables |= {**environment, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(directory)}
    command = [sys.executable, str(ROOT / "tests" / "support" / "rules_listener.py")]
    processes: list[subprocess.Popen[str]] = []
    try:
        processes.extend(
            subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(number)
        )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process; the suite's own watchdog ends a wait without end."""
    assert process.stdout is not None
    return process.stdout.readline()


def state(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Return the version that is in force in a process, and how many documents it has refused."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    version, refused = map(int, line(process).split())
    return version, refused


@contextmanager
def stream(backend: RunningBackend, **headers: str) -> Iterator[socket.SocketIO]:
    """A connection on which rules are told, with all of the answer that comes until the first event."""
    port = int(backend.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG) as connection:
        told = {"Host": "127.0.0.1", "X-API-Key": backend.api_key, **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        connection.sendall(f"GET /api/v1/rules/stream HTTP/1.1\r\n{head}\r\n".encode())
        with connection.makefile("rb") as file:
            yield file  # type: ignore[misc]


def test_a_ban_reaches_every_process_and_stays_when_the_backend_is_gone(tmp_path: Path, database: Path | URL) -> None:
    with (
        running_backend(db=database, signing_secret=SECRET) as backend,
        listeners(
            CLIENTS, tmp_path, {**backend.environment, "OTEL_EXPORTER_GUARD_SIGNING_SECRET": SECRET}
        ) as processes,
    ):
        for process in processes:
            assert line(process).split()[0] == "0"
        version = backend.set_rules(BAN).version
        for process in processes:
            told, _, bans = line(process).split()
            assert (int(told), bans) == (version, "192.0.2.1")
        backend.kill()
        assert [state(process) for process in processes] == [(version, 0)] * CLIENTS


def test_a_document_with_another_secret_changes_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        backend = stack.enter_context(running_backend(signing_secret=SECRET))
        environment = {**backend.environment, "OTEL_EXPORTER_GUARD_SIGNING_SECRET": SECRET}
        [process] = stack.enter_context(listeners(1, tmp_path, environment))
        line(process)
        backend.set_rules(BAN.model_copy(update={"ttl": 1}))
        line(process)
        backend.stop()
        # Somebody else has the address and the database, and not the secret.
        backend._settings["SIGNING_SECRET"] = "a guess"
        backend.start()
        backend.set_rules(DynamicRules(ip_blacklist=[]))
        eventually(lambda: state(process)[1] > 0, WATCHDOG)
        assert state(process)[0] == 1
        backend.stop()
        backend._settings["SIGNING_SECRET"] = SECRET
        backend.start()
        assert line(process).split()[0] == "2"


def test_two_backends_on_one_database_tell_of_each_others_changes(tmp_path: Path, database: Path | URL) -> None:
    with ExitStack() as stack:
        backends = [stack.enter_context(running_backend(db=database)) for _ in range(2)]
        processes = [
            process
            for backend in backends
            for process in stack.enter_context(listeners(1, tmp_path, backend.environment))
        ]
        assert [line(process).split()[0] for process in processes] == ["0", "0"]
        backends[0].set_rules(BAN)
        assert [line(process).split()[0] for process in processes] == ["1", "1"]


def test_open_streams_shut_nobody_out_and_let_the_process_end_quietly() -> None:
    with running_backend() as backend, ExitStack() as stack:
        for _ in range(connections.MOST_OF_ONE_CLIENT + 20):
            answer = stack.enter_context(stream(backend))
            assert b" 200 " in answer.readline()
        assert backend.http.get(f"{backend.url}/local/summary", timeout=WATCHDOG).status_code == 200
        assert backend.stop() == 0
        assert backend.stderr() == ""


@pytest.mark.parametrize(("headers", "status"), [({"X-API-Key": "another"}, 401), ({"X-Project-ID": "another"}, 403)])
def test_a_stream_wants_the_key_that_everything_wants(headers: dict[str, str], status: int) -> None:
    with running_backend() as backend, stream(backend, **headers) as answer:
        assert f" {status} ".encode() in answer.readline()


def test_the_dashboard_knows_who_listens() -> None:
    with running_backend() as backend, stream(backend, **{"X-Agent-Install-Id": "one", "Last-Event-ID": '"v0-x"'}) as a:
        assert b" 200 " in a.readline()
        while b"data: " not in a.readline():
            pass
        with stream(backend, **{"X-Agent-Install-Id": "one"}) as again:
            while not (row := again.readline()).startswith(b"id: "):
                pass
            tag = row.decode().removeprefix("id: ").strip()
        with stream(backend, **{"X-Agent-Install-Id": "one", "Last-Event-ID": tag}) as known:
            while b": here" not in known.readline():
                pass
            page = backend.http.get(f"{backend.url}/rules", timeout=WATCHDOG).text
    assert "1 running application asks for rules: a change is in force there within 1 s" in page
