"""Writing many rows with few statements, whose text is made once.

SQLAlchemy looks at each value of each row on its way to the driver, which takes longer than the database does. Here it
writes the statement, and the values go to the driver as they are. A statement of many rows is one step for SQLite,
which it makes without holding up this process's other threads, and one question for PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.dml import Insert, ReturningInsert

from .results import AnyRow
from .tables import Words, without_nul

_SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement: few sizes, so that drivers and databases keep each of them prepared."""

_STYLES = {"sqlite": "qmark", "postgresql": "format"}
"""How a place for a value is written, by dialect: those that are filled in by position."""


class ManyRows:
    """An INSERT, whatever it does on a conflict, for any number of rows."""

    def __init__(self, statement: Insert | ReturningInsert[Any], columns: Sequence[str]) -> None:
        """Write rows by `statement`, which has no values yet, each row in the order of `columns`.

        Raises:
            ValueError: that is another order than the table's, in which values are written.
        """
        self._statement, self._columns = statement, tuple(columns)
        declared = [column for column in statement.table.c if column.name in columns]
        if [column.name for column in declared] != list(columns):
            raise ValueError(f"The columns of {statement.table.name} are to be in the order of the table.")
        self._texts = [place for place, column in enumerate(declared) if isinstance(column.type, Words)]
        self._written: dict[tuple[str, int], str] = {}

    def run(self, connection: Connection, rows: Sequence[Sequence[object]]) -> list[AnyRow]:
        """Write `rows`, and return what the statement returns of them, if anything."""
        returned: list[AnyRow] = []
        done = 0
        for size in _SIZES:
            while len(rows) - done >= size:
                result = connection.exec_driver_sql(
                    self._text(connection, size), self._values(rows[done : done + size])
                )
                if result.returns_rows:
                    returned += result.all()
                done += size
        return returned

    def _values(self, rows: Sequence[Sequence[object]]) -> tuple[object, ...]:
        values = [value for row in rows for value in row]
        width = len(self._columns)
        for place in self._texts:
            values[place::width] = map(_as_stored, values[place::width])
        return tuple(values)

    def _text(self, connection: Connection, size: int) -> str:
        dialect = connection.dialect
        known = self._written.get((dialect.name, size))
        if known is None:
            # Made for a dialect of the same kind: the connection's own fills in values by name, where it can.
            by_position = type(dialect)(paramstyle=_STYLES[dialect.name])  # type: ignore[call-arg]
            several = self._statement.values([dict.fromkeys(self._columns)] * size)
            compiled = several.compile(dialect=by_position)
            known = self._written[dialect.name, size] = str(compiled)
        return known


def _as_stored(value: object) -> object:
    return without_nul(value) if isinstance(value, str) else value
