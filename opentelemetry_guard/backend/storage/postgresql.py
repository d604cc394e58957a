"""What is particular to a PostgreSQL database: one writer among all processes, parts by the day, and COPY."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, Table, create_engine, delete, func, select, text
from sqlalchemy.exc import DBAPIError

from .tables import DAY_SECONDS, events, metrics, stored_rows, without_nul

_WRITING = 0x6F74656C67756172
"""The key of the advisory lock of who writes, "otelguar" in ASCII: other programs may have their own."""

_CONNECT_SECONDS = 10

_DROP_WAITS = "2s"
"""How long senders wait at most for readers of a day that is dropped; it is tried again in a minute."""

_PARTED = (events, metrics)


class PostgresqlDatabase:
    """A database of a PostgreSQL server, of release 14 or later."""

    in_days = True
    """Whether rows are kept by the day on which they came, so that a day can be dropped."""

    path: Path | None = None
    """There is no file."""

    def __init__(self, url: URL) -> None:
        """Keep rows in the database that `url` names."""
        self.name = url.render_as_string(hide_password=True)
        self._url = url.set(drivername="postgresql+psycopg")

    def engine(self, connections: int, *, reading: bool) -> Engine:
        """Return an engine of so many connections at most, each of which commits every statement until told otherwise.

        What is read isn't prepared: of a prepared statement the server makes one plan for all values before long.

        Raises:
            RuntimeError: the driver isn't installed.
        """
        unprepared = {"prepare_threshold": None} if reading else {}
        try:
            engine = create_engine(
                self._url,
                isolation_level="AUTOCOMMIT",
                pool_size=connections,
                max_overflow=0,
                pool_timeout=60,
                pool_use_lifo=True,
                # A server that was started again costs nobody an answer.
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": _CONNECT_SECONDS,
                    "application_name": "opentelemetry-guard",
                    **unprepared,
                },
            )
        except ModuleNotFoundError as error:
            raise RuntimeError(f"it needs {error.name}: pip install 'opentelemetry-guard[postgresql]'") from error
        # Many rows are one statement, also where it returns nothing.
        engine.dialect.use_insertmanyvalues_wo_returning = True
        return engine

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that nobody else writes during; what was committed before can be seen in it."""
        connection.exec_driver_sql("BEGIN")
        connection.execute(select(func.pg_advisory_xact_lock(_WRITING)))

    def make_room(self, connection: Connection, day: int) -> None:
        """Make the parts for rows that come on `day`, where there are none."""
        missing = select(*(func.to_regclass(_part(table, day)).is_(None) for table in _PARTED))
        for table, is_missing in zip(_PARTED, connection.execute(missing).one(), strict=True):
            if is_missing:
                bounds = f"FROM ({day * DAY_SECONDS}) TO ({(day + 1) * DAY_SECONDS})"
                connection.execute(
                    text(f"CREATE TABLE {_part(table, day)} PARTITION OF {table.name} FOR VALUES {bounds}")
                )

    def insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Insert many rows, each with its values in the order of `columns`, by COPY."""
        quoted = ", ".join(map(connection.dialect.identifier_preparer.quote, columns))
        driver = connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - the connection is in use
        statement = f"COPY {table.name} ({quoted}) FROM STDIN"
        errors = connection.dialect.loaded_dbapi.Error
        try:
            with driver.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(_copied(rows, len(columns)))
        except errors as error:
            # As SQLAlchemy tells of it: this statement goes past it.
            raise DBAPIError.instance(statement, None, error, errors, dialect=connection.dialect) from error


def _copied(rows: Sequence[Sequence[object]], width: int) -> str:
    """Write rows of numbers and texts, each of `width` values, in COPY's text format.

    No text has a NUL by then, so that all values can be made one text by it, and what has to be escaped is at once.
    """
    written = "\0".join([without_nul(str(value)) or "" for row in rows for value in row])
    for plain, escaped in _ESCAPES:
        if plain in written:
            written = written.replace(plain, escaped)
    values = written.split("\0")
    return "".join(["\t".join(values[at : at + width]) + "\n" for at in range(0, len(values), width)])


_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
"""What means something in COPY's text format, the backslash first, and how it is written there."""


def drop_days(connection: Connection, table: Table, days: Sequence[int]) -> None:
    """Delete all that came on some days, and its count, within the transaction under way: a day takes no time.

    Raises:
        sqlalchemy.exc.OperationalError: somebody reads one of them for so long that senders can't wait.
    """
    connection.execute(text(f"SET LOCAL lock_timeout = '{_DROP_WAITS}'"))
    for day in days:
        connection.execute(text(f"DROP TABLE IF EXISTS {_part(table, day)}"))
    connection.execute(delete(stored_rows).where(stored_rows.c.content == table.name, stored_rows.c.day.in_(days)))


def _part(table: Table, day: int) -> str:
    return f"{table.name}_{day}"
