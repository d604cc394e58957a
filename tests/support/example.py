"""Running an example of the repository as its README says, beside the local backend that it brings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import requests
from support.backend import ROOT
from support.commands import environment
from support.ports import free_port
from support.redis import eventually

from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules

T = TypeVar("T")

PATIENCE = 60.0
SHARED = "zero-code"
"""The example whose application others run."""


def command_of(folder: Path) -> str:
    """Return the one command that a folder's README names."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1, f"{folder.name} names {len(blocks)} commands"
    return blocks[0].strip()


class Example:
    """An example that runs."""

    dashboard: str | None = None
    """The address of the backend, where another terminal runs it."""

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

    def eventually(self, look: Callable[[], T | None]) -> T:
        """Return what `look` finds, once it is something; where it never is, say what the example has printed."""
        return eventually(look, PATIENCE, told=self.output)

    def backend(self) -> str:
        """Return the address of the local backend, once it is printed."""
        if self.dashboard is not None:
            return self.dashboard
        pattern = re.compile(r"Local backend and dashboard: (\S+)\n")
        return self.eventually(lambda: pattern.search(self.output())).group(1)

    def request(self, path: str, method: str = "GET", **more: Any) -> requests.Response:
        """Send a request to the application, once it listens."""

        def answer() -> list[requests.Response]:
            assert self.process.poll() is None, self.output()
            try:
                return [self.http.request(method, self.url + path, timeout=60, **more)]
            except requests.ConnectionError:
                return []

        return self.eventually(answer)[0]

    def event(self, event_type: str) -> dict[str, Any]:
        """Return the first event of a type that has arrived at the backend."""
        parameters = {"event_type": event_type}

        def stored() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self.http.get(
                f"{self.backend()}/local/events", params=parameters, timeout=10
            ).json()["events"]
            return found

        event: dict[str, Any] = self.eventually(stored)[0]["event"]
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
    for copied in {name, SHARED}:
        shutil.copytree(ROOT / "examples" / copied, directory / copied)
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
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a shell and what it has started, which are one process group of ours: politely, and for good where it stays.

    The shell is gone at once; `run` ends its backend first.
    """
    deadline = time.monotonic() + PATIENCE / 2
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)  # nobody tells when the last one of a group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
