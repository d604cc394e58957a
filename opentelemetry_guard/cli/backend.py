"""``opentelemetry-guard backend``: the local Guard backend, and its API keys."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..settings.state import state_directory
from .output import AsJson, examples, fail, print_columns, print_json
from .running import noted

if TYPE_CHECKING:
    import socket

    from sqlalchemy import URL

    from ..backend.settings import BackendSettings
    from ..backend.storage.keys import KeyRecord, StoredKeys
    from ..backend.storage.retention import Retention
    from ..backend.storage.store import Store

ENVIRONMENT_PREFIX = "OTEL_GUARD_BACKEND_"
"""Each option can come from the variable of this prefix and its own name; a secret is better placed there."""

USUAL_PORT = 8317
"""Where it listens unless told otherwise."""

_PACKAGES = frozenset(
    {"alembic", "fastapi", "google", "jinja2", "opentelemetry", "sqlalchemy", "starlette", "tomli", "uvicorn"}
)
"""What the extra ``backend`` brings."""

backend_commands = typer.Typer(help="Run a Guard backend on this machine, and manage its API keys.")
keys_commands = typer.Typer(
    help="API keys of the backend's database: each belongs to one project, and only its hash is kept.",
    no_args_is_help=True,
)
backend_commands.add_typer(keys_commands, name="keys")


def default_database() -> Path:
    """Return the backend's file in this user's state directory; fail where there is none."""
    directory = state_directory()
    if directory is None:
        fail("There is no home directory for the database: set HOME or XDG_STATE_HOME, or choose a --db.")
    return directory / "backend.db"


def _option(name: str, meaning: str, **more: Any) -> Any:
    """Return an option that comes from the variable `name` too."""
    return typer.Option(envvar=ENVIRONMENT_PREFIX + name, help=meaning, **more)


def _shared_rate_limit(of: str) -> Any:
    """Return the option of how often an address or a project may send, which several keys may share."""
    meaning = f"Requests a minute of each {of}; 0 is no limit."
    return _option(f"{of.upper()}_RATE_LIMIT", meaning, min=0, show_default="ten times that of a key")


Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        "--database",
        envvar=[f"{ENVIRONMENT_PREFIX}DB", f"{ENVIRONMENT_PREFIX}DATABASE"],
        help="The SQLite file, or the URL of a PostgreSQL database: postgresql+psycopg://user@host/database.",
        show_default="$XDG_STATE_HOME/opentelemetry-guard/backend.db",
    ),
]
Host = Annotated[str, _option("HOST", "The address to listen on; any but a loopback one needs a password.")]
Port = Annotated[int, _option("PORT", "0 takes a free one.", min=0, max=65535)]
DashboardPassword = Annotated[str | None, _option("PASSWORD", "Ask for this password before showing the dashboard.")]
ApiKey = Annotated[
    str | None,
    _option(
        "API_KEY", "The key that senders must have.", show_default="one of the database's, made at the first start"
    ),
]
Project = Annotated[str, _option("PROJECT", "The project that the key belongs to.")]
SigningSecret = Annotated[str | None, _option("SIGNING_SECRET", "Accept only bodies signed with this secret.")]
EncryptionKey = Annotated[
    str | None, _option("ENCRYPTION_KEY", "Accept encrypted batches: urlsafe base64 of 32 bytes.")
]
RateLimit = Annotated[
    int, _option("RATE_LIMIT", "Requests a minute of each key that has no limit of its own; 0 is no limit.", min=0)
]
AddressRateLimit = Annotated[int | None, _shared_rate_limit("address")]
ProjectRateLimit = Annotated[int | None, _shared_rate_limit("project")]
MaxBodyBytes = Annotated[
    int, _option("MAX_BODY_BYTES", "Refuse bodies of more bytes, before and after decompression.", min=1)
]
WindowDays = Annotated[
    float | None,
    _option(
        "WINDOW_DAYS",
        "Drop events, and count them in the answer, that are older, or 300 seconds ahead of this clock.",
        min=0,
        show_default="all are taken",
    ),
]
KeepDays = Annotated[float | None, _option("KEEP_DAYS", "Delete rows after so many days.", min=0, show_default="never")]
KeepRows = Annotated[
    int | None,
    _option(
        "KEEP_ROWS",
        "Keep no more than so many events, and as many metrics; the oldest go.",
        min=1,
        show_default="all",
    ),
]
TraceUrl = Annotated[
    str | None,
    _option("TRACE_URL", "Link events to their traces: http://localhost:16686/trace/{trace_id}, also with {span_id}."),
]
AlertsFile = Annotated[
    Path | None,
    _option("ALERTS", "The file of alert rules and channels, TOML or JSON.", show_default="nobody is told"),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log every request.")]
UNTIL_INPUT_ENDS = "--until-input-ends"
"""The option of a backend that is started as a child, and is not to outlive who started it."""
UntilInputEnds = Annotated[bool, typer.Option(UNTIL_INPUT_ENDS, hidden=True)]


@backend_commands.callback(invoke_without_command=True)
def backend(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = USUAL_PORT,
    db: Database = None,
    password: DashboardPassword = None,
    api_key: ApiKey = None,
    project: Project = "default",
    signing_secret: SigningSecret = None,
    encryption_key: EncryptionKey = None,
    rate_limit: RateLimit = 6000,
    address_rate_limit: AddressRateLimit = None,
    project_rate_limit: ProjectRateLimit = None,
    max_body_bytes: MaxBodyBytes = 262_144,
    window_days: WindowDays = None,
    keep_days: KeepDays = None,
    keep_rows: KeepRows = None,
    trace_url: TraceUrl = None,
    alerts: AlertsFile = None,
    verbose: Verbose = False,
    until_input_ends: UntilInputEnds = False,
) -> None:
    """Run a Guard backend on this machine, with a dashboard."""
    if context.invoked_subcommand is not None:
        return
    try:
        from ..backend import app  # noqa: F401  here, where a package that is missing is told
        from ..backend.alerts.file import read_alerts
        from ..backend.dashboard.sessions import Password
        from ..backend.server import ListenError, end_with_standard_input, listen, url_of
        from ..backend.settings import BackendSettings, TraceLink, decode_encryption_key
        from ..backend.storage.keys import ApiKeys
        from ..backend.storage.retention import Retention
    except ModuleNotFoundError as error:
        fail_without(error)

    try:
        settings = BackendSettings(
            keys=ApiKeys({api_key: project} if api_key else {}),
            project=project,
            signing_secret=signing_secret.encode() if signing_secret else None,
            encryption_key=decode_encryption_key(encryption_key) if encryption_key else None,
            requests_per_minute=rate_limit,
            address_per_minute=address_rate_limit,
            project_per_minute=project_rate_limit,
            max_body_bytes=max_body_bytes,
            window_seconds=None if window_days is None else window_days * 86_400,
            password=Password(password) if password else None,
            trace_link=TraceLink(trace_url) if trace_url else None,
            alerts=read_alerts(alerts) if alerts else None,
        )
        listener = listen(host, port, beyond_loopback=settings.password is not None)
    except (ValueError, ListenError) as error:
        fail(str(error))
    if until_input_ends:
        end_with_standard_input()
    with listener, opened(db) as store:
        told = [] if api_key else _told_of_keys(store, url_of(listener), project)
        _serve(settings, store, listener, Retention(keep_days, keep_rows), told, verbose)


def _serve(
    settings: BackendSettings,
    store: Store,
    listener: socket.socket,
    retention: Retention,
    told: Sequence[str],
    verbose: bool,
) -> None:
    from ..backend.alerts.watch import WatchThread
    from ..backend.app import create_app
    from ..backend.lists.refreshing import RefreshThread
    from ..backend.server import serve, url_of
    from ..backend.storage.retention import RetentionThread

    app = create_app(store, settings)
    lines = [f"listening on {url_of(listener)}", f"storing in {store.name}", *told]
    threads: list[RetentionThread | RefreshThread | WatchThread] = [
        RetentionThread(store.database, retention),
        RefreshThread(store.lists),
    ]
    if settings.alerts is not None:
        threads.append(WatchThread(store.database, settings.alerts))
    try:
        with noted(store.path, url_of(listener)):
            serve(app, listener, lambda: typer.echo("\n".join(lines)), verbose, app.state.streams.end)
    finally:
        for thread in threads:
            thread.stop()


def fail_without(error: ModuleNotFoundError) -> NoReturn:
    """Say that a package of the extra ``backend`` is missing, and how to get it; raise `error` where it is none."""
    if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
        raise error
    fail(f"The backend needs {error.name}: pip install 'opentelemetry-guard[backend]'")


@contextmanager
def opened(db: str | None) -> Iterator[Store]:
    """Open the database `db`, a file or a URL, or the one at its usual place, for the block."""
    from ..backend.storage.store import Store, StoreError

    try:
        store = Store(_place_of(db))
    except StoreError as error:
        fail(str(error))
    try:
        yield store
    finally:
        store.close()


def _place_of(db: str | None) -> Path | URL:
    if db is not None and "://" in db:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            return make_url(db)
        except (ArgumentError, ValueError):
            # What it says would repeat a password.
            fail("The --database is no URL: write postgresql+psycopg://user:password@host:5432/database")
    path = (Path(db) if db is not None else default_database()).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        fail(f"The directory {path.parent} cannot be used: {error.strerror}. Choose another --db.")
    return path


def _told_of_keys(store: Store, url: str, project: str) -> list[str]:
    """Say what a sender needs. A project without a valid key gets one, which is shown this once and kept hashed."""
    from ..backend.storage.keys import SENDER, StoredKeys

    keys = StoredKeys(store.database)
    known = [record for record in keys.records(project) if record.revoked_at is None and record.role == SENDER]
    if known:
        shown = f"<the key {known[-1].id} of {_day(known[-1].created_at)}>"
        another = shlex.join(
            ["opentelemetry-guard", "backend", "keys", "create", "--project", project, "--db", str(store.name)]
        )
        told = f"The project {project} has a key already, which is not known any more; for another one: {another}"
    else:
        _, shown = keys.create(project, "made at the first start")
        told = "The API key is new, it lasts, and it is shown only now. For the application that sends:"
    return [
        told,
        f"  export OTEL_EXPORTER_GUARD_ENDPOINT={url}",
        f"  export OTEL_EXPORTER_GUARD_API_KEY={shlex.quote(shown)}",
        f"  export OTEL_EXPORTER_GUARD_PROJECT_ID={shlex.quote(project)}",
        "  export OTEL_TRACES_EXPORTER=guard OTEL_LOGS_EXPORTER=guard OTEL_METRICS_EXPORTER=guard",
    ]


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
            _day(record.created_at),
            str(record.per_minute or "default"),
            "valid" if record.revoked_at is None else f"revoked {_day(record.revoked_at)}",
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
        "created_at": _day(record.created_at),
        "revoked_at": None if record.revoked_at is None else _day(record.revoked_at),
        "requests_per_minute": record.per_minute,
    }


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
