"""Writing many rows with few statements, whose text is made once.

SQLAlchemy looks at each value of each row on its way to the driver, which takes longer than the database does. Here it
writes the statement, and the values go to the driver as they are. SQLite is given some hundred rows in one statement,
which is one step that it makes without holding up this process's other threads. PostgreSQL is given all of them as one
JSON text: of a value by itself its driver and server would each have to find out again what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, LargeBinary, column, select, text
from sqlalchemy.sql.dml import Insert, ReturningInsert

from .results import AnyRow, AnySelect
from .tables import Words, without_nul

_SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement: few sizes, so that driver and database keep each of them prepared."""


class ManyRows:
    """An INSERT, whatever it does on a conflict, for any number of rows."""

    def __init__(self, statement: Insert | ReturningInsert[Any], columns: Sequence[str]) -> None:
        """Write rows by `statement`, which has no values yet, each row in the order of `columns`.

        Raises:
            ValueError: that is another order than the table's, in which values are written.
        """
        # SQLAlchemy has names that are more than texts, which JSON has not.
        self._statement, self._columns = statement, tuple(map(str, columns))
        declared = [column for column in statement.table.c if column.name in columns]
        if [column.name for column in declared] != list(columns):
            raise ValueError(f"The columns of {statement.table.name} are to be in the order of the table.")
        self._texts = [place for place, column in enumerate(declared) if isinstance(column.type, Words)]
        self._bytes = [place for place, column in enumerate(declared) if isinstance(column.type, LargeBinary)]
        self._written: dict[int, str] = {}

    def run(self, connection: Connection, rows: Sequence[Sequence[object]]) -> list[AnyRow]:
        """Write `rows`, and return what the statement returns of them, if anything."""
        if not rows:
            return []
        if connection.dialect.name == "postgresql":
            return list(self._run(connection, 0, (self._json(rows),)))
        returned: list[AnyRow] = []
        done = 0
        for size in _SIZES:
            while len(rows) - done >= size:
                returned += self._run(connection, size, self._values(rows[done : done + size]))
                done += size
        return returned

    def _run(self, connection: Connection, size: int, values: tuple[object, ...]) -> Sequence[AnyRow]:
        result = connection.exec_driver_sql(self._text(connection, size), values)
        return result.all() if result.returns_rows else []

    def _values(self, rows: Sequence[Sequence[object]]) -> tuple[object, ...]:
        return tuple([value for row in zip(*self._columns_of(rows), strict=True) for value in row])

    def _columns_of(self, rows: Sequence[Sequence[object]]) -> list[Sequence[Any]]:
        """Return the values of each column, texts as they are stored."""
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place in self._texts:
            # Of thousands of texts hardly one has it.
            if "\0" in "".join(columns[place]):
                columns[place] = [without_nul(value) for value in columns[place]]
        return columns

    def _json(self, rows: Sequence[Sequence[object]]) -> str:
        columns = self._columns_of(rows)
        for place in self._bytes:
            columns[place] = [f"\\x{value.hex()}" for value in columns[place]]
        return orjson.dumps([dict(zip(self._columns, row, strict=True)) for row in zip(*columns, strict=True)]).decode()

    def _text(self, connection: Connection, size: int) -> str:
        """Return the statement for `size` rows; for any number of them, in one JSON text, where it is 0."""
        known = self._written.get(size)
        if known is None:
            known = self._written[size] = self._of_values(connection, size) if size else self._of_json(connection)
        return known

    def _of_values(self, connection: Connection, size: int) -> str:
        # Made for a dialect of the same kind: the connection's own fills in values by name, where it can.
        by_position = type(connection.dialect)(paramstyle="qmark")  # type: ignore[call-arg]
        several = self._statement.values([dict.fromkeys(self._columns)] * size)
        return str(several.compile(dialect=by_position))

    def _of_json(self, connection: Connection) -> str:
        by_position = type(connection.dialect)(paramstyle="format")  # type: ignore[call-arg]
        given = text(f"json_populate_recordset(CAST(NULL AS {self._statement.table.name}), CAST(:rows AS json))")
        chosen: AnySelect = select(*map(column, self._columns)).select_from(given)
        return str(
            self._statement.from_select(self._columns, chosen, include_defaults=False).compile(dialect=by_position)
        )
