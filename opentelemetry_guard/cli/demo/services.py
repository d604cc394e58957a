"""The processes of the demonstration: services, set up by environment variables alone, and a ban by the command."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..local import BIN, bare, child, destination

PROJECT = "demo"
PATIENCE = 60.0
"""Seconds after which something that should have happened is called a failure."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs."""

    name: str
    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def service(
    name: str, directory: Path, backend: str, *, options: Sequence[str] = (), server: Sequence[str] = ()
) -> Iterator[Service]:
    """Run one of the applications of this package under ``opentelemetry-guard run`` while the block runs.

    Args:
        name: the module of the application, and the name of the service.
        directory: where its state goes.
        backend: the backend's address.
        options: of ``run``.
        server: options of uvicorn.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "OTEL_SERVICE_NAME": name,
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.0,deployment.environment=demo",
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        # The agents page is alive with it.
        "OTEL_EXPORTER_GUARD_STATUS_INTERVAL": "2",
        "OTEL_PYTHON_GUARD_TRUSTED_PROXIES": "127.0.0.1",
        # Each is an installation of its own.
        "XDG_STATE_HOME": str(directory / name),
        **destination(backend, PROJECT),
    }
    uvicorn = ["uvicorn", f"opentelemetry_guard.cli.demo.{name}:app", "--port", str(port), "--log-level", "warning"]
    uvicorn += server
    with child([str(BIN / "opentelemetry-guard"), "run", *options, "--", *uvicorn], bare(environment)) as process:
        _wait_for_port(name, port, process)
        yield Service(name, f"http://127.0.0.1:{port}", process)


def ban(address: str, database: Path) -> None:
    """Ban an address by the command that anybody would use."""
    command = [str(BIN / "opentelemetry-guard"), "backend", "ban", address, "--project", PROJECT, "--db", str(database)]
    subprocess.run(command, env=bare({}), check=True, stdout=subprocess.DEVNULL)  # noqa: S603  our own command


def patiently() -> Iterator[None]:
    """Give a turn ten times a second until patience ends."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.1)):
        yield
        pause.wait(0.1)


def listens(address: str) -> bool:
    """Whether something listens at an address of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0


def _wait_for_port(name: str, port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the service listens on its loopback port."""
    for _ in patiently():
        if process.poll() is not None:
            raise SystemExit(f"the service {name} ended with status {process.returncode}")
        if listens(f"http://127.0.0.1:{port}"):
            return
    raise SystemExit(f"nothing listens on port {port}")
