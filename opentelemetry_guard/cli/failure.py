"""How a command fails: one line that names the thing and the remedy, and exit code 1."""

from __future__ import annotations

from typing import NoReturn

import typer

from .output import one_line


def fail(message: str) -> NoReturn:
    """Print `message` on standard error and leave with exit code 1."""
    typer.echo(f"Error: {one_line(message)}", err=True)
    raise typer.Exit(1)
