"""``opentelemetry-guard rules study``: what a change of the rules would have done, before it is enforced."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from pydantic import ValidationError

from .database import Database, Project, opened
from .output import AsJson, examples, fail, hush, plural, print_columns, print_json, time_text

if TYPE_CHECKING:
    from ..backend.study import Client, Study
    from ..models import DynamicRules

rules_commands = typer.Typer(help="Dynamic rules of a local backend.", no_args_is_help=True)

_DAY = 86_400.0
_SHOWN = 20
"""Clients that are listed for people."""


@rules_commands.command(
    short_help="Say whom a change of the rules would have blocked.",
    epilog=examples(
        "opentelemetry-guard rules study change.json",
        "opentelemetry-guard rules study change.json --project shop --days 30 --json",
    ),
)
def study(
    rules: Annotated[
        Path, typer.Argument(metavar="RULES.json", help="The fields that change; all others stay as they are now.")
    ],
    project: Project = "default",
    db: Database = None,
    days: Annotated[float, typer.Option(min=0.001, help="Events of so many days.")] = 7.0,
    most: Annotated[int, typer.Option(min=1, help="The latest events at most, of all that there are.")] = 200_000,
    as_json: AsJson = False,
) -> None:
    """Replay stored events against a change of the rules, and say who would have been blocked.

    Nothing is saved. Each event is judged by the rules of now and by the changed ones, as applications enforce them.
    """
    from ..backend.storage.search import EventFilter, EventSearch
    from ..backend.study import study as judge

    hush()
    change = _read(rules)
    with opened(db) as store:
        now = store.rules(project)
        changed = _changed(rules, now, change)
        wanted = EventFilter(project, since=time.time() - days * _DAY)
        judged = (store.lists.merged(project, now), store.lists.merged(project, changed))
        found = judge(EventSearch(store.database).everything(wanted), *judged, most=most)
    if as_json:
        told = {"requests": found.requests, "through": found.through}
        with_ = {"with_successes": found.with_successes, "with_logins": found.with_logins}
        print_json({**asdict(found), **told, **with_})
        return
    _tell(found, project, days, most)


def _read(path: Path) -> dict[str, object]:
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        fail(f"The file {path} can't be read: {error.strerror}.")
    except orjson.JSONDecodeError as error:
        fail(f"The file {path} is not JSON: {error}.")
    if not isinstance(content, dict):
        fail(f'The file {path} has to hold an object, such as {{"ip_blacklist": ["192.0.2.0/24"]}}.')
    return content


def _changed(path: Path, now: DynamicRules, change: dict[str, object]) -> DynamicRules:
    kind = type(now)
    if unknown := sorted(change.keys() - kind.model_fields):
        # A field with a slip in its name would block nobody, and look harmless.
        fail(f"The file {path} has {unknown[0]!r}, which is no field of rules: {', '.join(kind.model_fields)}.")
    try:
        return kind.model_validate({**now.model_dump(), **change})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        fail(f"The file {path} has wrong rules: {'.'.join(map(str, first['loc']))}: {first['msg']}.")


def _tell(found: Study, project: str, days: float, most: int) -> None:
    bound = f", the latest of more (--most {most})" if found.cut_short else ""
    events = plural(found.events, "event")
    typer.echo(f"Looked at {events} of the project {project} in the last {days:g} days{bound}.")
    if not found.blocked:
        typer.echo("The change would have blocked none of their clients.")
    else:
        blocked, requests = plural(len(found.blocked), "client"), plural(found.requests, "request")
        typer.echo(
            f"The change would have blocked {blocked} with {requests}, of which {found.through} got through then. "
            f"{found.with_successes} of these clients had successful requests, {found.with_logins} logged in."
        )
        _list(found.blocked)
    if found.let_in:
        typer.echo(f"It would no longer have blocked {plural(len(found.let_in), 'client')}:")
        _list(found.let_in)
    for note in found.notes:
        typer.echo(note)


def _list(clients: list[Client]) -> None:
    head = ("client", "requests", "successful", "logins", "last", "rule")
    rows = [
        (
            *(client.address, client.requests, client.successes, client.logins, time_text(client.last_seen)),
            " ".join(filter(None, (client.rule, client.matched, client.ban_list))),
        )
        for client in clients[:_SHOWN]
    ]
    print_columns(head, rows)
    if len(clients) > _SHOWN:
        typer.echo(f"and {len(clients) - _SHOWN} more; --json lists all")
