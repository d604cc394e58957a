"""``opentelemetry-guard backend keys``: the API keys of the backend's database."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from .database import Database, opened
from .output import AsJson, examples, fail, print_columns, print_json

if TYPE_CHECKING:
    from ..backend.storage.keys import KeyRecord, StoredKeys

keys_commands = typer.Typer(
    help="API keys of the backend's database: each belongs to one project, and only its hash is kept.",
    no_args_is_help=True,
)


@contextmanager
def _opened_keys(db: str | None) -> Iterator[StoredKeys]:
    from ..backend.storage.keys import StoredKeys

    with opened(db) as store:
        yield StoredKeys(store.database)


@keys_commands.command(
    "create",
    epilog=examples(
        'opentelemetry-guard backend keys create --project shop --label "shop, production"',
        "opentelemetry-guard backend keys create --project shop --role viewer",
    ),
)
def create_key(
    project: Annotated[str, typer.Option(help="The project that the key is for.")],
    label: Annotated[str, typer.Option(help="What the list is to call it.")] = "",
    rate_limit: Annotated[
        int | None,
        typer.Option(min=1, help="Requests a minute that the key may send.", show_default="the backend's setting"),
    ] = None,
    role: Annotated[
        str, typer.Option(help="sender, for an application, or viewer, who may look at the dashboard alone.")
    ] = "sender",
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for a project. It is shown once; a backend that runs takes it at once."""
    with _opened_keys(db) as keys:
        try:
            record, key = keys.create(project, label, rate_limit, role)
        except ValueError as error:
            fail(str(error))
    if as_json:
        print_json({**_as_json(record), "key": key})
        return
    if role == "viewer":
        typer.echo(
            f"Key {record.id} shows the project {project}, and changes nothing. It is shown only now; sign in with it\n"
            f"instead of the password, where the backend has one:\n  {key}"
        )
        return
    typer.echo(
        f"Key {record.id} of the project {project}. It is shown only now:\n"
        f"  export OTEL_EXPORTER_GUARD_API_KEY={key}\n"
        f"  export OTEL_EXPORTER_GUARD_PROJECT_ID={shlex.quote(project)}"
    )


@keys_commands.command(
    "list",
    epilog=examples("opentelemetry-guard backend keys list --project shop"),
)
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only the keys of this project.")] = None,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """List the keys; what a key reads is not known any more."""
    with _opened_keys(db) as keys:
        records = keys.records(project)
    if as_json:
        print_json([_as_json(record) for record in records])
        return
    if not records:
        typer.echo("There is no key: make one with opentelemetry-guard backend keys create --project NAME")
        return
    rows = [
        (
            str(record.id),
            record.project_id,
            record.role,
            day_text(record.created_at),
            str(record.per_minute or "default"),
            "valid" if record.revoked_at is None else f"revoked {day_text(record.revoked_at)}",
            record.label,
        )
        for record in records
    ]
    print_columns(("id", "project", "role", "created", "requests/min", "state", "label"), rows)


@keys_commands.command(
    "revoke",
    epilog=examples("opentelemetry-guard backend keys revoke 3"),
)
def revoke_key(
    key_id: Annotated[int, typer.Argument(help="The number of the key, as the list shows it.")],
    db: Database = None,
) -> None:
    """Take a key back: a backend that runs refuses it from now on."""
    with _opened_keys(db) as keys:
        revoked = keys.revoke(key_id)
    if not revoked:
        fail(f"There is no valid key {key_id}: see opentelemetry-guard backend keys list")
    typer.echo(f"Key {key_id} is revoked.")


def _as_json(record: KeyRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "project": record.project_id,
        "role": record.role,
        "label": record.label,
        "created_at": day_text(record.created_at),
        "revoked_at": None if record.revoked_at is None else day_text(record.revoked_at),
        "requests_per_minute": record.per_minute,
    }


def day_text(moment: float) -> str:
    """Return Unix seconds as the list of keys shows them: in UTC, to the second."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
