"""A real Guard backend in a process of its own, for tests that send to one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import URL
from support.ports import free_port

from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
"""When a start that prints nothing is given up."""


def place_of(database: Path | URL) -> str:
    """Return a database as the command line takes it."""
    return str(database) if isinstance(database, Path) else database.render_as_string(hide_password=False)


class RunningBackend:
    """A backend process, its address and what it has stored."""

    def __init__(
        self,
        directory: Path,
        db: Path | URL,
        api_key: str,
        project: str,
        settings: Mapping[str, str],
        arguments: Sequence[str] = (),
        root: Path = ROOT,
    ) -> None:
        self.db = db
        self.api_key = api_key
        self.project = project
        self.url = ""
        self._port = free_port()
        self._settings = {**settings, "API_KEY": api_key, "PROJECT": project, "DB": place_of(db)}
        self._arguments = arguments
        self._root = root
        self._errors = directory / "backend.stderr"
        self._printed = ""
        self._process: subprocess.Popen[str] | None = None
        self.http = requests.Session()
        self.http.trust_env = False

    @property
    def environment(self) -> dict[str, str]:
        """The variables of an exporter that sends here."""
        return {
            "OTEL_EXPORTER_GUARD_ENDPOINT": self.url,
            "OTEL_EXPORTER_GUARD_API_KEY": self.api_key,
            "OTEL_EXPORTER_GUARD_PROJECT_ID": self.project,
        }

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a sender by hand."""
        return {"X-API-Key": self.api_key, "X-Project-ID": self.project}

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None, "the backend is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the process and return when it listens; a second start takes the same port and database."""
        assert self._process is None, "the backend is running"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        environment |= {f"OTEL_GUARD_BACKEND_{name}": value for name, value in self._settings.items()}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self._root), environment.get("PYTHONPATH")]))
        with self._errors.open("a") as errors:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "opentelemetry_guard.cli",
                    "backend",
                    "--port",
                    str(self._port),
                    *self._arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                # Where a module is looked for first.
                cwd=self._root,
            )
        assert process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.start()
        line = process.stdout.readline()
        watchdog.cancel()
        self._printed += line
        if not line.startswith("listening on "):
            process.kill()
            process.wait()
            process.stdout.close()
            raise RuntimeError(f"the backend did not start: {line}{self.stderr()}")
        self._process = process
        self.url = line.removeprefix("listening on ").strip()
        self._port = int(self.url.rpartition(":")[2])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process with a polite signal and return its exit code."""
        assert self._process is not None, "the backend is not running"
        self._process.send_signal(number)
        return self._ended()

    def kill(self) -> None:
        """End the process with SIGKILL."""
        assert self._process is not None, "the backend is not running"
        self._process.kill()
        self._ended()

    def restart(self) -> None:
        """Stop what runs and start again on the same port and database."""
        if self._process is not None:
            self.stop()
        self.start()

    def close(self) -> None:
        """End the process if it runs."""
        if self._process is not None:
            self.kill()
        self.http.close()

    def _ended(self) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        try:
            code = process.wait(timeout=60)
        finally:
            process.kill()
        reading = threading.Thread(target=self._read_rest, args=(process,), daemon=True)
        reading.start()
        reading.join(60)
        assert not reading.is_alive(), "a process of the backend that has ended is still there, and holds its output"
        return code

    def _read_rest(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            self._printed += process.stdout.read()

    def stdout(self) -> str:
        """Return what processes that have ended wrote to standard output."""
        return self._printed

    def stderr(self) -> str:
        """Return what the process has written to standard error so far."""
        return self._errors.read_text()

    def events(self, event_type: str | None = None) -> list[dict[str, Any]]:
        """Return every stored event as it was sent, newest last."""
        return [entry["event"] for entry in self.stored("events", event_type=event_type)]

    def rules(self) -> DynamicRules:
        """Return the rules as applications are given them."""
        answer = self.http.get(f"{self.url}/api/v1/rules", headers=self.headers, timeout=60)
        return DynamicRules.model_validate(answer.json())

    def metrics(self) -> list[dict[str, Any]]:
        """Return every stored metric as it was sent, newest last."""
        return [entry["metric"] for entry in self.stored("metrics")]

    def stored(self, kind: str, **filters: str | None) -> list[dict[str, Any]]:
        """Return every stored row of `kind` with its id, batch_id, project_id and received_at, newest last."""
        entries: list[dict[str, Any]] = []
        while True:
            after = entries[-1]["id"] if entries else 0
            page = self._get(f"/local/{kind}", limit="1000", after=str(after), **filters)[kind]
            if not page:
                return entries
            entries += page

    def agents(self) -> list[dict[str, Any]]:
        """Return the stored agent statuses, the one seen last at the end."""
        found: list[dict[str, Any]] = self._get("/local/agents")["agents"]
        return found

    def summary(self) -> dict[str, Any]:
        """Return the counts by type."""
        return self._get("/local/summary")

    def wait_for_events(self, count: int, timeout: float = 20.0) -> list[dict[str, Any]]:
        """Return the events as soon as there are `count` of them, or AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while sum(self.summary()["events"].values()) < count:
            assert time.monotonic() < deadline, f"{self.summary()} after {timeout} s, expected {count} events"
            time.sleep(0.02)
        return self.events()

    def set_rules(self, rules: DynamicRules) -> DynamicRules:
        """Make `rules` the project's current ones."""
        store = Store(self.db)
        try:
            return store.set_rules(self.project, rules)
        finally:
            store.close()

    def _get(self, path: str, **parameters: str | None) -> dict[str, Any]:
        answer = self.http.get(self.url + path, params=parameters, timeout=60)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


@contextmanager
def running_backend(
    *,
    api_key: str = "test-key",
    project: str = "test-project",
    db: Path | URL | None = None,
    arguments: Sequence[str] = (),
    root: Path = ROOT,
    **settings: str,
) -> Iterator[RunningBackend]:
    """Start a backend on a free loopback port and end it with the block.

    `settings` are the command's other options by name, for example
    ``signing_secret="s"``; `arguments` go on its command line. Without `db`
    the data goes with the block. The package is the one in `root`.
    """
    with tempfile.TemporaryDirectory() as directory:
        options = {name.upper(): value for name, value in settings.items()}
        database = db or Path(directory, "backend.db")
        backend = RunningBackend(Path(directory), database, api_key, project, options, arguments, root)
        try:
            backend.start()
            yield backend
        finally:
            backend.close()
