"""A local backend as a child process, and a command that runs beside it: for ``run --local`` and the demonstration."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .backend import UNTIL_INPUT_ENDS
from .output import fail

BIN = Path(sys.executable).parent
"""Where the commands of this environment are."""

KEY = "local-key"
"""The API key of a backend that lives as long as the command beside it, and listens on loopback alone."""

GRACE = 15.0
"""Seconds that a child has to end after a polite signal."""


def check_extras(purpose: str) -> None:
    """End with the remedy where a package is missing that the local backend or instrumentation needs."""
    for package, extra in (
        ("uvicorn", "backend"),
        ("fastapi", "backend"),
        ("jinja2", "backend"),
        ("opentelemetry.distro", "auto"),
    ):
        if not installed(package):
            fail(f"{purpose} needs {package}: pip install 'opentelemetry-guard[{extra}]'.")


def installed(package: str) -> bool:
    """Whether a package can be imported here."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):  # the package above is missing, or it is kept from being imported
        return False


@contextmanager
def local_backend(database: Path, project: str, port: int = 0) -> Iterator[str]:
    """Run the local backend on loopback while the block runs, and give its address.

    Args:
        database: its SQLite file.
        project: the project of its key `KEY`.
        port: where to listen; 0 takes a free one.
    """
    given = ["--port", str(port), "--db", str(database)]
    command = [str(BIN / "opentelemetry-guard"), "backend", UNTIL_INPUT_ENDS, *given]
    variables = {"OTEL_GUARD_BACKEND_API_KEY": KEY, "OTEL_GUARD_BACKEND_PROJECT": project}
    # A session of its own: Ctrl+C is for the command beside it, whose last events it has to take.
    # It reads a pipe that this process holds, so that it ends even where this one is killed.
    with child(command, bare(variables), subprocess.PIPE, subprocess.PIPE, start_new_session=True) as process:
        line = process.stdout.readline().decode() if process.stdout else ""
        if not line.startswith("listening on "):
            fail("The local backend did not start; what it says is above.")
        yield line.removeprefix("listening on ").strip()


def destination(address: str, project: str) -> dict[str, str]:
    """Return the variables of an application that sends to a `local_backend`."""
    return {
        "OTEL_EXPORTER_GUARD_ENDPOINT": address,
        "OTEL_EXPORTER_GUARD_API_KEY": KEY,
        "OTEL_EXPORTER_GUARD_PROJECT_ID": project,
        # A person waits for the ban that he has just made.
        "OTEL_PYTHON_GUARD_RULES_INTERVAL": "1",
        **{name: ",".join(filter(None, [os.environ.get(name), "127.0.0.1"])) for name in ("NO_PROXY", "no_proxy")},
    }


def bare(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the telemetry of the user's own, and with `variables`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return environment | {"PATH": f"{BIN}{os.pathsep}{environment.get('PATH', '')}", "NO_PROXY": "*", **variables}


@contextmanager
def child(
    command: list[str],
    environment: Mapping[str, str],
    stdin: int | None = None,
    stdout: int | None = None,
    start_new_session: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the block runs; end it as a service manager would, politely and then for good."""
    process = subprocess.Popen(  # noqa: S603  our own commands, or the user's
        command, env=dict(environment), stdin=stdin, stdout=stdout, start_new_session=start_new_session
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM and return when the process is gone, which it is after `GRACE` at the latest."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
