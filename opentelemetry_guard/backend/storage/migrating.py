"""Bringing a database to this release's tables, whatever it holds: nothing, an earlier release's, or a file of old."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from . import legacy
from .tables import metadata

SCRIPTS = Path(__file__).parent / "migrations"
"""Where Alembic's revisions are."""

_VERSION_TABLE = "alembic_version"


def bring_up_to_date(connection: Connection) -> None:
    """Run the revisions that the database lacks, in the writing transaction that is under way: nobody else does.

    Raises:
        legacy.UnknownVersion: a later release has been here.
    """
    version = _version(connection)
    if version == newest_version():
        return
    set_aside = legacy.set_aside(connection) if version is None and connection.dialect.name == "sqlite" else None
    if version is not None and version not in known_versions():
        raise legacy.UnknownVersion(f"has version {version}, which this release doesn't know")
    _upgrade(connection)
    if set_aside is not None:
        legacy.take_over(connection, set_aside)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608


@lru_cache(maxsize=1)
def known_versions() -> frozenset[str]:
    """Return the revisions that this release has: their files are called like them, and in their order.

    Alembic reads them when there is something to do; importing it takes longer than opening a database.
    """
    return frozenset(path.stem for path in (SCRIPTS / "versions").glob("[0-9]*.py"))


def newest_version() -> str:
    """Return the last revision."""
    return max(known_versions())


def _upgrade(connection: Connection) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(SCRIPTS))
    # As Alembic's own command does; its file `env.py` would be a module that can't be imported.
    with EnvironmentContext(Config(), scripts, fn=lambda revision, _: scripts._upgrade_revs("head", revision)) as run:
        run.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
        run.run_migrations()
