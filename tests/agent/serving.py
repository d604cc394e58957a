"""Applications and scripts of the documents in processes of their own, under a plain uvicorn or none at all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from support.ports import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without OpenTelemetry's variables, with `settings`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    clean["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**clean, **settings}


class Served:
    """An application's process and address."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        self.http = requests.Session()
        self.http.trust_env = False

    def post(self, path: str, **query: str) -> dict[str, Any]:
        """POST to the application and return its answer."""
        return self._body(self.http.post(self.url + path, params=query, timeout=30))

    def get(self, path: str) -> dict[str, Any]:
        """GET from the application and return its answer."""
        return self._body(self.http.get(self.url + path, timeout=30))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process by a signal and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def _body(self, answer: requests.Response) -> dict[str, Any]:
        assert answer.ok, (answer.status_code, answer.text, self.log.read_text())
        body: dict[str, Any] = answer.json()
        return body


@contextmanager
def served(document: str, settings: Mapping[str, str], directory: Path) -> Iterator[Served]:
    """Run a document's application under uvicorn; it is ended with the block."""
    port = free_port()
    log = directory / f"{document}.log"
    command = [sys.executable, "-m", "uvicorn", f"agent.documents.{document}:app", "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment(settings), cwd=ROOT / "tests", stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_for_port(port, process, log)
        yield Served(process, f"http://127.0.0.1:{port}", log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def run_script(document: str, settings: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run a document's script and return what it prints last, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", f"agent.documents.{document}", *arguments],
        env=environment(settings),
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "never awaited" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    for _ in range(int(START_SECONDS / 0.05)):
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)  # the system tells nobody when a port begins to listen
    raise AssertionError(f"nothing listens on port {port} after {START_SECONDS} s: {log.read_text()}")
