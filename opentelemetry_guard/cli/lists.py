"""``opentelemetry-guard backend lists``: ban lists of others, whose bans a project's rules have besides its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .database import Database, Project, opened
from .output import AsJson, examples, fail, print_columns, print_json, time_text

if TYPE_CHECKING:
    from ..backend.storage.ban_lists import BanList

lists_commands = typer.Typer(
    help="Ban lists of others, by URL: a backend that runs fetches them, and hands their bans out with the rules.",
    no_args_is_help=True,
)

Url = Annotated[str, typer.Argument(help="Where the list is: text or JSON, over http or https.")]


@lists_commands.command(
    "add",
    epilog=examples(
        "opentelemetry-guard backend lists add https://www.spamhaus.org/drop/drop_v4.json",
        "opentelemetry-guard backend lists add https://api.abuseipdb.com/api/v2/blacklist --every 86400 "
        "--header Key=ABUSEIPDB_KEY",
    ),
)
def add_list(
    url: Url,
    project: Project = "default",
    every: Annotated[float, typer.Option(min=60, max=30 * 86_400, help="Seconds between two questions for it.")] = 3600,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VARIABLE", help="A header to send, and the backend's variable that has its value."),
    ] = None,
    db: Database = None,
) -> None:
    """Add a list to a project's rules; a backend that runs fetches it within seconds."""
    from ..backend.lists.fetching import checked_url
    from ..backend.storage.ban_lists import shown_url

    try:
        checked = checked_url(url)
        headers = dict(_read_header(text) for text in header or ())
    except ValueError as error:
        fail(str(error))
    with opened(db) as store:
        store.lists.add(project, checked, every, headers)
    typer.echo(f"The list {shown_url(checked)} belongs to the project {project}, and is asked for every {every:g} s.")


def _read_header(text: str) -> tuple[str, str]:
    name, _, variable = text.partition("=")
    if not name.strip().replace("-", "").isalnum() or not variable.strip().isidentifier():
        raise ValueError(f"The header {text!r} must be a name and a variable: --header Key=ABUSEIPDB_KEY")
    return name.strip(), variable.strip()


@lists_commands.command("remove", epilog=examples("opentelemetry-guard backend lists remove https://example.com/list"))
def remove_list(url: Url, project: Project = "default", db: Database = None) -> None:
    """Remove a list, and with it its bans."""
    with opened(db) as store:
        removed = store.lists.remove(project, url.strip())
    if not removed:
        fail(f"The project {project} has no such list: see opentelemetry-guard backend lists show")
    typer.echo("The list is removed, and so are its bans.")


@lists_commands.command("show", epilog=examples("opentelemetry-guard backend lists show --json"))
def show_lists(db: Database = None, as_json: AsJson = False) -> None:
    """Show the lists, how many bans each has, and why one can't be had."""
    with opened(db) as store:
        lists = store.lists.of()
    if as_json:
        print_json([_as_json(one) for one in lists])
        return
    if not lists:
        typer.echo("There is no list: add one with opentelemetry-guard backend lists add URL")
        return
    rows: Sequence[Sequence[object]] = [
        (*(one["project"], one["bans"], one["passed_over"], time_text(found.changed_at or None)), _state(found))
        for one, found in ((_as_json(found), found) for found in lists)
    ]
    print_columns(("project", "bans", "passed over", "changed", "list"), rows)


def _state(found: BanList) -> str:
    from ..backend.storage.ban_lists import shown_url

    problem = f" ({found.problem})" if found.problem else "" if found.checked_at else " (not asked for yet)"
    return shown_url(found.url) + problem


def _as_json(found: BanList) -> dict[str, object]:
    from ..backend.storage.ban_lists import shown_url

    return {
        "project": found.project_id,
        "list": shown_url(found.url),
        "every": found.every,
        "bans": found.size,
        "passed_over": found.passed_over,
        "changed_at": found.changed_at or None,
        "seconds_since_asked": round(time.time() - found.checked_at) if found.checked_at else None,
        "problem": found.problem or None,
    }
