"""``opentelemetry-guard backend alerts``: the file of alerts, looked at before a backend reads it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .database import fail_without
from .output import examples, fail, one_line, plural

if TYPE_CHECKING:
    from ..backend.alerts.file import Alerts

alerts_commands = typer.Typer(help="Alerts of the backend: the file of rules and channels.", no_args_is_help=True)


@alerts_commands.command(
    "check",
    epilog=examples(
        "opentelemetry-guard backend alerts check alerts.toml",
        "opentelemetry-guard backend alerts check alerts.toml --send",
    ),
)
def check(
    file: Annotated[Path, typer.Argument(help="The file, TOML or JSON.")],
    send: Annotated[bool, typer.Option("--send", help="Send a test by each channel, too.")] = False,
) -> None:
    """Say what a file of alerts says, or what is wrong with it. Exit code 1: a mistake, or a channel that fails."""
    alerts = _read(file)
    typer.echo(f"{file}: {plural(len(alerts.rules), 'rule')}, {plural(len(alerts.channels), 'channel')}")
    for rule in alerts.rules:
        told_by = ", ".join(alerts.channels_of(rule.name)) or "no channel: it shows on the dashboard alone"
        typer.echo(f"  {one_line(rule.name)} ({rule.when}, {rule.severity}): {one_line(told_by)}")
    sent = [_try(name, alerts) for name in alerts.channels] if send else []
    if False in sent:
        raise typer.Exit(1)


def _read(file: Path) -> Alerts:
    """Read a file of alerts; end the command where it can't be used."""
    try:
        from ..backend.alerts.file import AlertsError, read_alerts
    except ModuleNotFoundError as error:
        fail_without(error)
    try:
        return read_alerts(file)
    except AlertsError as error:
        fail(str(error))


def _try(name: str, alerts: Alerts) -> bool:
    """Send a test by a channel, and say what came of it."""
    from ..backend.alerts.notice import example_notice
    from ..backend.alerts.sending import Channel

    settings = alerts.channels[name]
    failure = Channel(settings).send(example_notice(time.time()), 0)
    result = "sent" if failure is None else f"failed: {failure.reason}"
    typer.echo(f"{one_line(name)} ({one_line(settings.shown)}): {result}")
    return failure is None
