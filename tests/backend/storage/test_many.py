"""Many rows go into a database by few statements."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from opentelemetry_guard.backend.storage.many import ManyRows
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.backend.storage.tables import event_keys, leases


@pytest.mark.parametrize("amount", [0, 1, 2, 3, 255, 256, 257, 1000])
def test_any_number_of_rows_is_written_and_returned_once(store: Store, amount: int) -> None:
    claim = ManyRows(
        insert(event_keys).on_conflict_do_nothing().returning(event_keys.c.key), ("project_id", "key", "day")
    )
    rows = [("p", number.to_bytes(16, "big"), 1) for number in range(amount)]
    with store.database.writing() as connection:
        returned = claim.run(connection, rows)
        again = claim.run(connection, rows)
    assert sorted(key for (key,) in returned) == [key for _, key, _ in rows]
    assert again == []


def test_texts_are_stored_as_words_are(store: Store) -> None:
    with store.database.writing() as connection:
        ManyRows(insert(leases), ("name", "holder", "until")).run(connection, [("a\0b", "it's 100 %", 1.0)])
    assert [tuple(row) for row in store.database.read(select(leases))] == [("a\ufffdb", "it's 100 %", 1.0)]


def test_columns_in_another_order_than_the_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="the order of the table"):
        ManyRows(insert(leases), ("until", "name", "holder"))
