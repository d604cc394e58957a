"""An application in a process of its own: a real uvicorn under ``opentelemetry-instrument``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import requests
from support.ports import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_SECONDS = 60.0
ZERO_CODE = {
    "OTEL_TRACES_EXPORTER": "guard",
    "OTEL_LOGS_EXPORTER": "guard",
    "OTEL_METRICS_EXPORTER": "guard",
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
}
"""What a service owner sets, besides where the backend is."""


class RunningApplication:
    """The application's process and address."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url
        self.http = requests.Session()
        self.http.trust_env = False

    def fail_to_log_in(self, user: str) -> int:
        """Send one failed login, which the shop emits as an event; return the answer's status."""
        return self.http.post(f"{self.url}/login", json={"user": user, "password": "guess"}, timeout=60).status_code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process with a signal and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def running_shop(settings: Mapping[str, str]) -> Iterator[RunningApplication]:
    """Run the shop of the demonstration with `settings` in its environment."""
    with running_application("opentelemetry_guard.cli.demo.shop:app", settings) as shop:
        yield shop


@contextmanager
def running_application(target: str, settings: Mapping[str, str], *arguments: str) -> Iterator[RunningApplication]:
    """Run an application of the repository or of the tests, with `settings` in its environment.

    Args:
        target: ``module:attribute``.
        settings: environment variables.
        *arguments: more of uvicorn's.
    """
    with running_command(settings, "uvicorn", target, "--log-level", "warning", *arguments, "--port", PORT) as running:
        yield running


PORT = "{port}"
"""Stands in a command for the port that is chosen."""


@contextmanager
def running_command(
    settings: Mapping[str, str], *command: str, output: Path | None = None
) -> Iterator[RunningApplication]:
    """Run a server under ``opentelemetry-instrument``, with `settings` in its environment.

    Args:
        settings: environment variables.
        *command: of the server, with `PORT` where its port belongs.
        output: file for what it says, for a test that reads it; it is shown at the end. Default: it is shown at once.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment |= settings
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    words = [word.replace(PORT, str(port)) for word in command]
    with output.open("wb") if output else nullcontext() as file:
        process = subprocess.Popen(
            [str(BIN / "opentelemetry-instrument"), *words], env=environment, cwd=ROOT, stdout=file, stderr=file
        )
    try:
        _wait_for_port(port, process)
        yield RunningApplication(process, f"http://127.0.0.1:{port}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if output:
            print(output.read_text())


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    for _ in range(int(START_SECONDS / 0.05)):
        assert process.poll() is None, f"the application ended with status {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)  # the system tells nobody when a port begins to listen
    raise AssertionError(f"nothing listens on port {port} after {START_SECONDS} s")
