"""``opentelemetry-guard run``: a command under ``opentelemetry-instrument``, set up for security events."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

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


def run(
    command: Annotated[
        list[str], typer.Argument(help="The command and its arguments, for example: -- uvicorn main:app")
    ],
    show: Annotated[bool, typer.Option("--show", help="Print what would be set and run, and run nothing.")] = False,
) -> None:
    """Run a command under opentelemetry-instrument, with the Guard exporters switched on.

    Variables that are set already stay as they are.
    """
    added = {name: value for name, value in DEFAULTS.items() if not os.environ.get(name)}
    program, *arguments = command
    executable = _find(program)
    instrument = _find("opentelemetry-instrument")
    if instrument is None or importlib.util.find_spec("opentelemetry.distro") is None:
        fail("A program is instrumented by opentelemetry-distro: pip install 'opentelemetry-guard[auto]'.")
    if executable is None:
        fail(f"The command {program!r} was not found, or may not be run: check its name, path and mode.")
    line = [instrument, executable, *arguments]
    if show:
        for name, value in added.items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        typer.echo(shlex.join(line))
        return
    environment = {**os.environ, **added}
    sys.stdout.flush()
    os.execve(instrument, line, environment)  # noqa: S606  the command is the user's own


def _find(program: str) -> str | None:
    """Return the path of a program, from the environment that is active, else from the one that this command is of."""
    if os.path.dirname(program):
        return shutil.which(program)
    beside = str(Path(sys.executable).parent / program)
    first, second = (program, beside) if os.environ.get("VIRTUAL_ENV") else (beside, program)
    return shutil.which(first) or shutil.which(second)
