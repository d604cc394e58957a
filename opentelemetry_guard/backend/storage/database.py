"""The database behind the store: who may write when, who may read meanwhile, and which statements there are for it.

One transaction writes at a time, in all processes together: what it reads stays true until its end, ids are in the
order in which they can be seen, and no two wait for each other. Readers see the last commit, and wait for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, Executable, Table
from sqlalchemy.exc import DBAPIError, TimeoutError

from .legacy import UnknownVersion
from .migrating import bring_up_to_date
from .postgresql import PostgresqlDatabase
from .results import AnyRow
from .sqlite import SqliteFile

_READERS = 4
"""Reading connections: so many pages can be under way before one waits."""

DATABASE_ERRORS = (DBAPIError, TimeoutError)
"""What a statement raises that can't be run now: the database is gone, full, locked or damaged."""


class StoreError(Exception):
    """The database cannot be opened or is of another version; the text names it and the remedy."""


def reason_of(error: Exception) -> str:
    """Return what the database itself said, without the statement and its parameters."""
    return str(error.orig if isinstance(error, DBAPIError) else error).strip()


class Kind(Protocol):
    """What is particular to a kind of databases."""

    @property
    def name(self) -> str:
        """The database, as it may be shown."""

    @property
    def path(self) -> Path | None:
        """The file; None where there is none."""

    @property
    def in_days(self) -> bool:
        """Whether rows are kept by the day on which they came, so that a day can be dropped."""

    def engine(self, connections: int, *, reading: bool) -> Engine:
        """Return an engine of so many connections at most, each of which commits every statement.

        Where they are for `reading`, a statement is planned for the values that it has: an hour is another thing than a
        week.
        """

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that nobody else writes during."""

    def make_room(self, connection: Connection, day: int) -> None:
        """See to it that rows which come on `day` can be stored."""

    def insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Insert many rows, each with its values in the order of `columns`, which is the table's."""


class Database:
    """One SQLite file, or one PostgreSQL database. Every method is safe to call from any thread."""

    def __init__(self, where: Path | URL) -> None:
        """Open the database `where`, and bring it to this release's version; a new file is its owner's alone.

        Raises:
            StoreError: it cannot be opened, is no database, or is of a version this release doesn't know.
        """
        self.kind = _kind_of(where)
        # Who holds the lock is the only one of this process to write: others would wait for it on a connection.
        self._write_lock = threading.Lock()
        try:
            self._writer = self.kind.engine(1, reading=False)
            self._readers = self.kind.engine(_READERS, reading=True)
            with self.writing() as connection:
                bring_up_to_date(connection)
        except UnknownVersion as error:
            self.close()
            raise StoreError(f"The database {self.name} {error}: use another one, or a later release.") from error
        except (OSError, RuntimeError, *DATABASE_ERRORS) as error:
            raise StoreError(
                f"The database {self.name} cannot be opened: {reason_of(error)}. "
                "Name one of this backend's, or a new one, that can be written."
            ) from error

    @property
    def name(self) -> str:
        """The file or URL, without a password."""
        return self.kind.name

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection inside the one writing transaction, which ends with the block; then it is on the disk."""
        with self._write_lock, self._writer.connect() as connection:
            try:
                self.kind.begin(connection)
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a reading connection for the block."""
        with self._readers.connect() as connection:
            yield connection

    def read(self, statement: Executable) -> Sequence[AnyRow]:
        """Return all rows of one statement; the columns' types are those of the tables."""
        with self.reading() as connection:
            return connection.execute(statement).all()

    def close(self) -> None:
        """Close all connections that nobody uses; to be called when everybody is done."""
        with self._write_lock:
            self._writer.dispose()
            self._readers.dispose()


def _kind_of(where: Path | URL) -> Kind:
    if isinstance(where, Path):
        return SqliteFile(where)
    if where.get_backend_name() == "postgresql":
        return PostgresqlDatabase(where)
    raise StoreError(
        f"The database {where.render_as_string()} is of no known kind: name an SQLite file, or a URL such as "
        "postgresql+psycopg://user@host/database."
    )
