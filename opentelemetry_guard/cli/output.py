"""What commands print: aligned columns for people, JSON for programs, one line where they fail, examples in help."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Annotated, NoReturn

import typer

from ..settings import once  # noqa: F401  see `hush`
from ..settings.shown import visible

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(message: str) -> NoReturn:
    """Print `message`, which names the thing and the remedy, on standard error, and leave with exit code 1."""
    typer.echo(f"Error: {one_line(message)}", err=True)
    raise typer.Exit(1)


def examples(*lines: str) -> str:
    """Return the end of a command's help with a line for each example, never wrapped, so that each can be copied."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def hush() -> None:
    """Keep logs off the terminal: the command says itself what is wrong, in one line."""
    for name in ("opentelemetry", "opentelemetry_guard"):
        logger = logging.getLogger(name)
        # In the place of the last resort of `once`, which prints to standard error, and is there once that is imported.
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 batch, 2 batches, 1 row."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{ending}"


def one_line(text: str) -> str:
    """Return text in one line, without characters that would command a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))


def print_json(value: object) -> None:
    """Print a value as indented JSON, in which what would command a terminal is escaped."""
    typer.echo(visible(json.dumps(value, indent=2, ensure_ascii=False)))


def print_columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns as wide as their widest cell; the last one runs on."""
    cells = [list(head), *([one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head) - 1)]
    for line in cells:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        typer.echo("  ".join([*padded, line[-1]]).rstrip())


def time_text(seconds: float | None) -> str:
    """Return Unix seconds as a UTC time to the second, a dash for None."""
    if seconds is None:
        return "-"
    return moment_text(datetime.fromtimestamp(seconds, timezone.utc))


def moment_text(moment: datetime) -> str:
    """Return a time in UTC to the second."""
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
