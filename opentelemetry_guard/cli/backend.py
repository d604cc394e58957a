"""``opentelemetry-guard backend``: the options of the local Guard backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .database import Database, Project, fail_without, option
from .keys import keys_commands
from .output import fail
from .serving import WORKER, Serving

USUAL_PORT = 8317
"""Where it listens unless told otherwise."""

backend_commands = typer.Typer(help="Run a Guard backend on this machine, and manage its API keys.")
backend_commands.add_typer(keys_commands, name="keys")


def _shared_rate_limit(of: str) -> Any:
    """Return the option of how often an address or a project may send, which several keys may share."""
    meaning = f"Requests a minute of each {of}; 0 is no limit."
    return option(f"{of.upper()}_RATE_LIMIT", meaning, min=0, show_default="ten times that of a key")


Host = Annotated[str, option("HOST", "The address to listen on; any but a loopback one needs a password.")]
Port = Annotated[int, option("PORT", "0 takes a free one.", min=0, max=65535)]
DashboardPassword = Annotated[str | None, option("PASSWORD", "Ask for this password before showing the dashboard.")]
ApiKey = Annotated[
    str | None,
    option("API_KEY", "The key that senders must have.", show_default="one of the database's, made at the first start"),
]
SigningSecret = Annotated[str | None, option("SIGNING_SECRET", "Accept only bodies signed with this secret.")]
EncryptionKey = Annotated[str | None, option("ENCRYPTION_KEY", "Accept encrypted batches: urlsafe base64 of 32 bytes.")]
RateLimit = Annotated[
    int, option("RATE_LIMIT", "Requests a minute of each key that has no limit of its own; 0 is no limit.", min=0)
]
AddressRateLimit = Annotated[int | None, _shared_rate_limit("address")]
ProjectRateLimit = Annotated[int | None, _shared_rate_limit("project")]
MaxBodyBytes = Annotated[
    int, option("MAX_BODY_BYTES", "Refuse bodies of more bytes, before and after decompression.", min=1)
]
WindowDays = Annotated[
    float | None,
    option(
        "WINDOW_DAYS",
        "Drop events, and count them in the answer, that are older, or 300 seconds ahead of this clock.",
        min=0,
        show_default="all are taken",
    ),
]
KeepDays = Annotated[float | None, option("KEEP_DAYS", "Delete rows after so many days.", min=0, show_default="never")]
KeepRows = Annotated[
    int | None,
    option(
        "KEEP_ROWS",
        "Keep no more than so many events, and as many metrics; the oldest go.",
        min=1,
        show_default="all",
    ),
]
TraceUrl = Annotated[
    str | None,
    option("TRACE_URL", "Link events to their traces: http://localhost:16686/trace/{trace_id}, also with {span_id}."),
]
AlertsFile = Annotated[
    Path | None,
    option("ALERTS", "The file of alert rules and channels, TOML or JSON.", show_default="nobody is told"),
]
Workers = Annotated[int, option("WORKERS", "Processes that serve; each runs Python on one core.", min=1, max=64)]
WorkerTimeout = Annotated[
    int,
    option(
        "WORKER_TIMEOUT",
        "Kill and replace one of several processes whose event loop has not run for so many seconds; 0 is never.",
        min=0,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log every request.")]
UNTIL_INPUT_ENDS = "--until-input-ends"
"""The option of a backend that is started as a child, and is not to outlive who started it."""
UntilInputEnds = Annotated[bool, typer.Option(UNTIL_INPUT_ENDS, hidden=True)]
WorkerOf = Annotated[int | None, typer.Option(WORKER, hidden=True)]


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
    workers: Workers = 1,
    worker_timeout: WorkerTimeout = 30,
    verbose: Verbose = False,
    until_input_ends: UntilInputEnds = False,
    worker_of: WorkerOf = None,
) -> None:
    """Run a Guard backend on this machine, with a dashboard."""
    if context.invoked_subcommand is not None:
        return
    try:
        from ..backend import app  # noqa: F401  here, where a package that is missing is told
        from ..backend.alerts.file import read_alerts
        from ..backend.dashboard.sessions import Password
        from ..backend.server import ListenError, inherited, listen
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
        listener = listen(host, port, settings.password is not None) if worker_of is None else inherited(worker_of)
    except (ValueError, ListenError) as error:
        fail(str(error))
    serving = Serving(settings, db, listener, Retention(keep_days, keep_rows), not api_key, verbose, worker_timeout)
    with listener:
        serving.run(0 if worker_of is not None else workers, until_input_ends)
