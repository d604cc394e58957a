"""Running an example of the repository as its README says, beside the local backend that it brings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import requests
from support.backend import ROOT
from support.commands import environment

from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules

T = TypeVar("T")

PATIENCE = 60.0


def command_of(folder: Path) -> str:
    """Return the one command that a folder's README names."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1, f"{folder.name} names {len(blocks)} commands"
    return blocks[0].strip()


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T | None], told: Callable[[], str] = str) -> T:
    """Return what `look` finds, asked again and again until it is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)
    return found


class Example:
    """An example that runs."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, database: Path, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.http = requests.Session()
        self.http.trust_env = False
        self._output = output
        self._database = database

    def output(self) -> str:
        """Return what it has printed so far, on standard output and standard error."""
        return self._output.read_text(errors="replace")

    def backend(self) -> str:
        """Return the address of the local backend, once it is printed."""
        pattern = re.compile(r"Local backend and dashboard: (\S+)\n")
        return eventually(lambda: pattern.search(self.output()), self.output).group(1)

    def request(self, path: str, method: str = "GET", **more: Any) -> requests.Response:
        """Send a request to the application, once it listens."""

        def answer() -> list[requests.Response]:
            assert self.process.poll() is None, self.output()
            try:
                return [self.http.request(method, self.url + path, timeout=10, **more)]
            except requests.ConnectionError:
                return []

        return eventually(answer, self.output)[0]

    def event(self, event_type: str) -> dict[str, Any]:
        """Return the first event of a type that has arrived at the backend."""
        parameters = {"event_type": event_type}

        def stored() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self.http.get(
                f"{self.backend()}/local/events", params=parameters, timeout=10
            ).json()["events"]
            return found

        event: dict[str, Any] = eventually(stored, self.output)[0]["event"]
        return event

    def set_rules(self, rules: DynamicRules) -> None:
        """Change the rules, as the dashboard does."""
        store = Store(self._database)
        try:
            store.set_rules("default", rules)
        finally:
            store.close()


@contextmanager
def running_example(name: str, directory: Path, **variables: str) -> Iterator[Example]:
    """Run an example's command in a copy of its folder, and end it with the block."""
    folder, output, database = directory / name, directory / "output", directory / "backend.db"
    shutil.copytree(ROOT / "examples" / name, folder)
    port = free_port()
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "UVICORN_PORT": str(port),
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port}",
        "OTEL_GUARD_BACKEND_PORT": "0",
        "OTEL_GUARD_BACKEND_DB": str(database),
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        **variables,
    }
    with output.open("wb") as written:
        process = subprocess.Popen(
            ["sh", "-c", command_of(folder)],
            cwd=folder,
            env=environment(directory, **settings),
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Example(process, output, database, port)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the shell and what it has started, which are one process group of ours."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
