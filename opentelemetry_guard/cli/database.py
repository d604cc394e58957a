"""The backend's database, as commands name and open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..settings.state import state_directory
from .output import fail

if TYPE_CHECKING:
    from sqlalchemy import URL

    from ..backend.storage.store import Store

ENVIRONMENT_PREFIX = "OTEL_GUARD_BACKEND_"
"""Each option can come from the variable of this prefix and its own name; a secret is better placed there."""

_PACKAGES = frozenset(
    {"alembic", "fastapi", "google", "jinja2", "opentelemetry", "sqlalchemy", "starlette", "tomli", "uvicorn"}
)
"""What the extra ``backend`` brings."""


def option(name: str, meaning: str, **more: Any) -> Any:
    """Return an option that comes from the variable `name` too."""
    return typer.Option(envvar=ENVIRONMENT_PREFIX + name, help=meaning, **more)


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
Project = Annotated[str, option("PROJECT", "The project that the key belongs to.")]


def default_database() -> Path:
    """Return the backend's file in this user's state directory; fail where there is none."""
    directory = state_directory()
    if directory is None:
        fail("There is no home directory for the database: set HOME or XDG_STATE_HOME, or choose a --db.")
    return directory / "backend.db"


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
