"""``opentelemetry-guard backend``: the local Guard backend, and its API keys."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .failure import fail
from .help import examples
from .output import print_columns, print_json

if TYPE_CHECKING:
    from ..backend.settings import BackendSettings
    from ..backend.storage.keys import KeyRecord
    from ..backend.storage.store import Store

ENVIRONMENT_PREFIX = "OTEL_GUARD_BACKEND_"
"""Each option can come from the variable of this prefix and its own name; a secret is better placed there."""


_PACKAGES = frozenset({"fastapi", "starlette", "uvicorn", "jinja2"})
"""What the extra ``backend`` brings."""

backend_commands = typer.Typer(help="Run a Guard backend on this machine, and manage its API keys.")
keys_commands = typer.Typer(
    help="API keys of the backend's database: each belongs to one project, and only its hash is kept.",
    no_args_is_help=True,
)
backend_commands.add_typer(keys_commands, name="keys")


def default_database() -> Path:
    """Return the backend's file under ``$XDG_STATE_HOME``, or under ``~/.local/state`` where that is unset."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "opentelemetry-guard" / "backend.db"


DatabaseOption = Annotated[
    Path | None,
    typer.Option(
        envvar=ENVIRONMENT_PREFIX + "DB",
        help="The SQLite file.",
        show_default="$XDG_STATE_HOME/opentelemetry-guard/backend.db",
    ),
]


@backend_commands.callback(invoke_without_command=True)
def backend(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "HOST",
            help="The address to listen on; any but a loopback one needs a password.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar=ENVIRONMENT_PREFIX + "PORT", min=0, max=65535, help="0 takes a free one.")
    ] = 8317,
    db: DatabaseOption = None,
    password: Annotated[
        str | None,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "PASSWORD", help="Ask for this password before showing the dashboard."
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "API_KEY",
            help="The key that senders must have.",
            show_default="a new one at every start",
        ),
    ] = None,
    project: Annotated[
        str, typer.Option(envvar=ENVIRONMENT_PREFIX + "PROJECT", help="The project that the key belongs to.")
    ] = "default",
    signing_secret: Annotated[
        str | None,
        typer.Option(envvar=ENVIRONMENT_PREFIX + "SIGNING_SECRET", help="Accept only bodies signed with this secret."),
    ] = None,
    encryption_key: Annotated[
        str | None,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "ENCRYPTION_KEY", help="Accept encrypted batches: urlsafe base64 of 32 bytes."
        ),
    ] = None,
    rate_limit: Annotated[
        int,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "RATE_LIMIT",
            min=0,
            help="Requests a minute of each key that has no limit of its own; 0 is no limit.",
        ),
    ] = 6000,
    keep_days: Annotated[
        float | None,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "KEEP_DAYS", min=0, help="Delete rows after so many days.", show_default="never"
        ),
    ] = None,
    keep_rows: Annotated[
        int | None,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "KEEP_ROWS",
            min=1,
            help="Keep no more than so many events, and as many metrics; the oldest go.",
            show_default="all",
        ),
    ] = None,
    trace_url: Annotated[
        str | None,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "TRACE_URL",
            help="Link events to their traces: http://localhost:16686/trace/{trace_id}, also with {span_id}.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every request.")] = False,
) -> None:
    """Run a Guard backend on this machine, with a dashboard.

    Example: opentelemetry-guard backend --port 8317
    """
    if context.invoked_subcommand is not None:
        return
    try:
        from ..backend.app import create_app
        from ..backend.server import ListenError, listen, serve, url_of
        from ..backend.storage.keys import generate_key
        from ..backend.storage.retention import Retention, RetentionThread
    except ModuleNotFoundError as error:
        _fail_without(error)

    key = api_key or generate_key()
    settings = _settings(key, project, signing_secret, encryption_key, password, trace_url, rate_limit)
    try:
        listener = listen(host, port, beyond_loopback=settings.password is not None)
    except ListenError as error:
        fail(str(error))
    with listener, _opened(db) as store:
        url = url_of(listener)
        retention = RetentionThread(store.database, Retention(keep_days, keep_rows))
        try:
            serve(
                create_app(store, settings),
                listener,
                lambda: _announce(url, store.path, project, None if api_key else key),
                verbose,
            )
        finally:
            retention.stop()


def _fail_without(error: ModuleNotFoundError) -> NoReturn:
    if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
        raise error
    fail(f"The backend needs {error.name}: pip install 'opentelemetry-guard[backend]'")


@contextmanager
def _opened(db: Path | None) -> Iterator[Store]:
    """Open the database at `db`, or at its usual place, for the block."""
    from ..backend.storage.store import Store, StoreError

    path = (db or default_database()).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = Store(path)
    except OSError as error:
        fail(f"The directory {path.parent} cannot be used: {error.strerror}. Choose another --db.")
    except StoreError as error:
        fail(str(error))
    try:
        yield store
    finally:
        store.close()


def _settings(
    key: str,
    project: str,
    signing_secret: str | None,
    encryption_key: str | None,
    password: str | None,
    trace_url: str | None,
    rate_limit: int,
) -> BackendSettings:
    from ..backend.dashboard.sessions import Password
    from ..backend.settings import BackendSettings, TraceLink, decode_encryption_key
    from ..backend.storage.keys import ApiKeys

    try:
        return BackendSettings(
            keys=ApiKeys({key: project}),
            signing_secret=signing_secret.encode() if signing_secret else None,
            encryption_key=decode_encryption_key(encryption_key) if encryption_key else None,
            requests_per_minute=rate_limit,
            password=Password(password) if password else None,
            trace_link=TraceLink(trace_url) if trace_url else None,
        )
    except ValueError as error:
        fail(str(error))


def _announce(url: str, database: Path, project: str, generated_key: str | None) -> None:
    """Print where the backend is and, when its key is new, what a sender needs. A key that was given is not shown."""
    lines = [f"listening on {url}", f"storing in {database}"]
    if generated_key is not None:
        lines += [
            "The API key is new and shown only now. For the application that sends:",
            f"  export OTEL_EXPORTER_GUARD_ENDPOINT={url}",
            f"  export OTEL_EXPORTER_GUARD_API_KEY={generated_key}",
            f"  export OTEL_EXPORTER_GUARD_PROJECT_ID={shlex.quote(project)}",
            "  export OTEL_TRACES_EXPORTER=guard OTEL_LOGS_EXPORTER=guard OTEL_METRICS_EXPORTER=guard",
        ]
    typer.echo("\n".join(lines))


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys_commands.command(
    "create",
    epilog=examples('opentelemetry-guard backend keys create --project shop --label "shop, production"'),
)
def create_key(
    project: Annotated[str, typer.Option(help="The project that the key is for.")],
    label: Annotated[str, typer.Option(help="What the list is to call it.")] = "",
    rate_limit: Annotated[
        int | None,
        typer.Option(min=1, help="Requests a minute that the key may send.", show_default="the backend's setting"),
    ] = None,
    db: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key for a project. It is shown once; a backend that runs takes it at once."""
    from ..backend.storage.keys import StoredKeys

    with _opened(db) as store:
        try:
            record, key = StoredKeys(store.database).create(project, label, rate_limit)
        except ValueError as error:
            fail(str(error))
    if as_json:
        print_json({**_as_json(record), "key": key})
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
    db: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys; what a key reads is not known any more."""
    from ..backend.storage.keys import StoredKeys

    with _opened(db) as store:
        records = StoredKeys(store.database).records(project)
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
            _day(record.created_at),
            str(record.per_minute or "default"),
            "valid" if record.revoked_at is None else f"revoked {_day(record.revoked_at)}",
            record.label,
        )
        for record in records
    ]
    print_columns(("id", "project", "created", "requests/min", "state", "label"), rows)


@keys_commands.command(
    "revoke",
    epilog=examples("opentelemetry-guard backend keys revoke 3"),
)
def revoke_key(
    key_id: Annotated[int, typer.Argument(help="The number of the key, as the list shows it.")],
    db: DatabaseOption = None,
) -> None:
    """Take a key back: a backend that runs refuses it from now on."""
    from ..backend.storage.keys import StoredKeys

    with _opened(db) as store:
        revoked = StoredKeys(store.database).revoke(key_id)
    if not revoked:
        fail(f"There is no valid key {key_id}: see opentelemetry-guard backend keys list")
    typer.echo(f"Key {key_id} is revoked.")


def _as_json(record: KeyRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "project": record.project_id,
        "label": record.label,
        "created_at": _day(record.created_at),
        "revoked_at": None if record.revoked_at is None else _day(record.revoked_at),
        "requests_per_minute": record.per_minute,
    }


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
