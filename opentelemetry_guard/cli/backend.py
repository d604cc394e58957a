"""``opentelemetry-guard backend``: the local Guard backend."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .failure import fail

if TYPE_CHECKING:
    from ..backend.settings import BackendSettings

ENVIRONMENT_PREFIX = "OTEL_GUARD_BACKEND_"
"""Each option can come from the variable of this prefix and its own name; a secret is better placed there."""


def default_database() -> Path:
    """Return the backend's file under ``$XDG_STATE_HOME``, or under ``~/.local/state`` where that is unset."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "opentelemetry-guard" / "backend.db"


def backend(
    host: Annotated[
        str, typer.Option(envvar=ENVIRONMENT_PREFIX + "HOST", help="A loopback address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar=ENVIRONMENT_PREFIX + "PORT", min=0, max=65535, help="0 takes a free one.")
    ] = 8317,
    db: Annotated[
        Path | None,
        typer.Option(
            envvar=ENVIRONMENT_PREFIX + "DB",
            help="The SQLite file.",
            show_default="$XDG_STATE_HOME/opentelemetry-guard/backend.db",
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
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every request.")] = False,
) -> None:
    """Run a Guard backend on this machine.

    Example: opentelemetry-guard backend --port 8317
    """
    try:
        from ..backend.app import create_app
        from ..backend.keys import generate_key
        from ..backend.server import ListenError, listen, serve, url_of
        from ..backend.store import Store, StoreError
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"fastapi", "starlette", "uvicorn"}:
            raise
        fail(f"The backend needs {error.name}: pip install 'opentelemetry-guard[backend]'")

    key = api_key or generate_key()
    settings = _settings(key, project, signing_secret, encryption_key)
    try:
        listener = listen(host, port)
    except ListenError as error:
        fail(str(error))
    with listener:
        path = (db or default_database()).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            store = Store(path)
        except OSError as error:
            fail(f"The directory {path.parent} cannot be used: {error.strerror}. Choose another --db.")
        except StoreError as error:
            fail(str(error))
        url = url_of(listener)
        try:
            serve(
                create_app(store, settings),
                listener,
                lambda: _announce(url, path, project, None if api_key else key),
                verbose,
            )
        finally:
            store.close()


def _settings(key: str, project: str, signing_secret: str | None, encryption_key: str | None) -> BackendSettings:
    from ..backend.keys import ApiKeys
    from ..backend.settings import BackendSettings, decode_encryption_key

    try:
        return BackendSettings(
            keys=ApiKeys({key: project}),
            signing_secret=signing_secret.encode() if signing_secret else None,
            encryption_key=decode_encryption_key(encryption_key) if encryption_key else None,
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
