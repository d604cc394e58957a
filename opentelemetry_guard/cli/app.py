"""The typer application: its own options and the list of its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from ..version import __version__
from .backend import backend_commands
from .demo import demo
from .doctor import doctor
from .queue import queue_commands
from .run import run

app = typer.Typer(
    help="Security events of FastAPI services, delivered through OpenTelemetry.",
    no_args_is_help=True,
    # Rich's help cuts the names of variables off on a narrow terminal, and frames an error over several lines.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"opentelemetry-guard {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Security events of FastAPI services, delivered through OpenTelemetry."""


app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(run)
app.command()(demo)
app.command()(doctor)
app.add_typer(queue_commands, name="queue")
app.add_typer(backend_commands, name="backend")
