"""The typer application: its own options and the list of its commands."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ..settings.shown import visible
from ..version import __version__
from .alerts import alerts_commands
from .backend import backend_commands
from .bans import ban, unban
from .demo.tour import demo
from .doctor import doctor
from .drain import drain
from .events import events
from .init import init
from .lists import lists_commands
from .output import examples
from .queue import queue_commands
from .rules import rules_commands
from .run import run

NAME = "opentelemetry-guard"

app = typer.Typer(
    help="Security events of FastAPI services, delivered through OpenTelemetry.",
    no_args_is_help=True,
    epilog=examples(
        "opentelemetry-guard run -- uvicorn main:app",
        "opentelemetry-guard doctor",
        "opentelemetry-guard COMMAND --help",
    ),
    # Rich's help cuts the names of variables off on a narrow terminal, and frames an error over several lines.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Security events of FastAPI services, delivered through OpenTelemetry."""


app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command with the Guard exporters switched on.",
    epilog=examples(
        "opentelemetry-guard run -- uvicorn main:app --port 8000",
        "opentelemetry-guard run --local -- uvicorn main:app",
        "OTEL_TRACES_EXPORTER=otlp,guard opentelemetry-guard run -- uvicorn main:app",
        "opentelemetry-guard run --show -- uvicorn main:app",
    ),
)(run)
app.command(
    short_help="Write the files that a service begins with.",
    epilog=examples(
        "opentelemetry-guard init",
        "opentelemetry-guard init /srv/shop --service shop --systemd",
    ),
)(init)
app.command(
    short_help="Attack services on this machine, ban an attacker, and show what arrives.",
    epilog=examples("opentelemetry-guard demo", "opentelemetry-guard demo --keep"),
)(demo)
app.command(
    short_help="Find out why events don't arrive.",
    epilog=examples(
        "opentelemetry-guard doctor",
        "opentelemetry-guard doctor --no-send",
        "OTEL_EXPORTER_GUARD_API_KEY=... opentelemetry-guard doctor --json",
    ),
)(doctor)
queue_commands.command(
    short_help="Deliver what a service that is gone has left behind.",
    epilog=examples(
        "opentelemetry-guard queue drain", "opentelemetry-guard queue drain --url redis://host:6379/0 --timeout 60"
    ),
)(drain)
app.command(
    short_help="List and follow the events of a local backend, as a table, OCSF, ECS or CEF.",
    epilog=examples(
        "opentelemetry-guard events --follow",
        "opentelemetry-guard events --follow --format ocsf | vector --config siem.yaml",
        "opentelemetry-guard events --all --type penetration_attempt --format cef > attacks.cef",
    ),
)(events)
app.add_typer(queue_commands, name="queue")
app.add_typer(rules_commands, name="rules")
backend_commands.command(
    epilog=examples("opentelemetry-guard backend ban 203.0.113.7", "opentelemetry-guard backend ban 2001:db8::/32")
)(ban)
backend_commands.add_typer(alerts_commands, name="alerts")
backend_commands.add_typer(lists_commands, name="lists")
backend_commands.command(epilog=examples("opentelemetry-guard backend unban 203.0.113.7"))(unban)
app.add_typer(
    backend_commands,
    name="backend",
    epilog=examples(
        "opentelemetry-guard backend",
        "opentelemetry-guard backend --port 0 --db /tmp/guard.db --keep-days 30",
        "opentelemetry-guard backend keys create --project shop",
    ),
)


def call() -> int:
    """Run what the arguments ask for and return the exit code: 0, 1 for what went wrong, 2 for wrong arguments.

    Wrong arguments are said in one line, where typer alone would take four.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a variable may hold what no encoding has
    if len(sys.argv) > 2 and sys.argv[1] in ("--show-completion", "--install-completion"):
        # Typer's options take the name of a shell then; without it they guess from the processes above, and ignore it.
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    try:
        status = typer.main.get_command(app).main(prog_name=NAME, standalone_mode=False)
    except typer.Abort:
        typer.echo("Aborted.", err=True)
        return 1
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _say_what_is_wrong(message(), error)
    finally:
        if "--install-completion" in sys.argv[1:2]:  # typer leaves by SystemExit then
            _complete_at_the_first_tab()
    return status if isinstance(status, int) else 0


def _complete_at_the_first_tab() -> None:
    """Mend what typer has installed for zsh, which loads the script at the first Tab, and typer's completes nothing."""
    script = Path.home() / ".zfunc" / f"_{NAME}"
    call = f'[[ $funcstack[1] == _{NAME} ]] && _{NAME.replace("-", "_")}_completion "$@"\n'
    with suppress(FileNotFoundError):
        if call not in (text := script.read_text()):
            script.write_text(f"{text.rstrip()}\n{call}")


def _say_what_is_wrong(message: str, error: Exception) -> int:
    """Print a mistake in the arguments with where to read on; a group that was called alone has its help as message."""
    context = getattr(error, "ctx", None)
    if context is not None and "\n" not in message:
        message = (
            f"Error: {message.rstrip('.?')}{'?' if message.endswith('?') else '.'} See {context.command_path} --help"
        )
    typer.echo(visible(message), err=True)
    return int(getattr(error, "exit_code", 1))
