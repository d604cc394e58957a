"""``opentelemetry-guard run``: a command under ``opentelemetry-instrument``, set up for security events."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from .backend import USUAL_PORT
from .database import ENVIRONMENT_PREFIX, default_database
from .local import check_extras, child, destination, local_backend
from .output import fail

DEFAULTS: Mapping[str, str] = {
    "OTEL_TRACES_EXPORTER": "guard",
    "OTEL_LOGS_EXPORTER": "guard",
    "OTEL_METRICS_EXPORTER": "guard",
    # An event arrives within 300 ms; a security event is worth a smaller batch.
    "OTEL_BLRP_SCHEDULE_DELAY": "50",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    # The SDK drops the oldest beyond 2,048 records, which is four seconds of an attack.
    "OTEL_BLRP_MAX_QUEUE_SIZE": "16384",
    "OTEL_BSP_MAX_QUEUE_SIZE": "16384",
    "OTEL_METRIC_EXPORT_INTERVAL": "10000",
    # The old names give each Host header that a client makes up a series of its own.
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
}
"""What is set where it is not set yet."""

ENFORCE = "OTEL_PYTHON_GUARD_ENFORCE_RULES"
"""The switch of `GuardOptions.enforce_rules`."""


def run(
    command: Annotated[
        list[str], typer.Argument(help="The command and its arguments, for example: -- uvicorn main:app")
    ],
    show: Annotated[bool, typer.Option("--show", help="Print what would be set and run, and run nothing.")] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Send to a local backend that runs as long as the command does.")
    ] = False,
    enforce: Annotated[
        bool, typer.Option("--enforce", help="Enforce the backend's rules in FastAPI and Starlette applications.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Instrument nothing: the command sets OpenTelemetry up by itself.")
    ] = False,
) -> None:
    """Run a command under opentelemetry-instrument, with the Guard exporters switched on.

    Variables that are set already stay as they are; with --local the backend's address and key take their place.
    """
    added = {} if plain else {name: value for name, value in DEFAULTS.items() if not os.environ.get(name)}
    if enforce:
        if plain:
            fail("--enforce needs instrumentation, which --plain leaves out: add GuardRulesMiddleware in code instead.")
        added[ENFORCE] = "true"
    program, *arguments = command
    executable = _find(program)
    if executable is None:
        fail(f"The command {program!r} was not found, or may not be run: check its name, path and mode.")
    line = [executable, *arguments] if plain else [_instrument(), executable, *arguments]
    if show:
        for name, value in added.items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        typer.echo(shlex.join(line))
        return
    environment = {**os.environ, **added}
    if local:
        raise typer.Exit(_beside_a_backend(line, environment))
    sys.stdout.flush()
    os.execve(line[0], line, environment)  # noqa: S606  the command is the user's own


def _beside_a_backend(line: list[str], environment: dict[str, str]) -> int:
    """Run `line` with a local backend beside it, and return its exit code; the backend takes its last events."""
    check_extras("A local backend")
    project = environment.get("OTEL_EXPORTER_GUARD_PROJECT_ID") or "default"
    database = Path(os.environ.get(ENVIRONMENT_PREFIX + "DB") or default_database()).expanduser()
    with local_backend(database, project, _port()) as address:
        typer.echo(f"Local backend and dashboard: {address}", err=True)
        with child(line, {**environment, **destination(address, project)}) as process:
            # A terminal's Ctrl+C reaches the command by itself, and it decides what that means.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda received, _: process.send_signal(received))
            status = process.wait()
    return status if status >= 0 else 128 - status


def _port() -> int:
    """Return the port that is asked for, else the backend's usual one, else 0 for a free one where that is taken."""
    asked = os.environ.get(ENVIRONMENT_PREFIX + "PORT", "")
    if asked:
        if not asked.isdecimal() or int(asked) > 65535:
            fail(f"{ENVIRONMENT_PREFIX}PORT is {asked!r}: a port from 0 to 65535 is needed.")
        return int(asked)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
        except OSError:
            return 0
    return USUAL_PORT


def _instrument() -> str:
    """Return the path of opentelemetry-instrument."""
    instrument = _find("opentelemetry-instrument")
    if instrument is None or importlib.util.find_spec("opentelemetry.distro") is None:
        fail("A program is instrumented by opentelemetry-distro: pip install 'opentelemetry-guard[auto]'.")
    return instrument


def _find(program: str) -> str | None:
    """Return the path of a program, from the environment that is active, else from the one that this command is of."""
    if os.path.dirname(program):
        return shutil.which(program)
    beside = str(Path(sys.executable).parent / program)
    first, second = (program, beside) if os.environ.get("VIRTUAL_ENV") else (beside, program)
    return shutil.which(first) or shutil.which(second)
