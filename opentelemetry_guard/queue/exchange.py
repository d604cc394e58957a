"""What `DeliveryQueue.replace` and `acknowledge` may exchange: the same rows in other places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .base import Batch, DeadLetter, Kind


def check_exchange(old: Sequence[Batch], batches: Sequence[Batch], letters: Sequence[DeadLetter]) -> None:
    """Raise ValueError unless both sides have the same rows of each kind and no batch_id appears twice on one side."""
    new = [*batches, *(letter.batch for letter in letters)]
    check_ids([batch.batch_id for batch in old])
    check_ids([batch.batch_id for batch in new])
    before, after = _rows_by_kind(old), _rows_by_kind(new)
    if before != after:
        raise ValueError(f"a replacement keeps the number of rows: {dict(before)} would become {dict(after)}")


def check_ids(batch_ids: Sequence[str]) -> None:
    """Raise ValueError when a batch_id is named twice."""
    for batch_id, count in Counter(batch_ids).items():
        if count > 1:
            raise ValueError(f"batch {batch_id!r} is named {count} times in one replacement; name it once")


def delivered_rows(rows: int, rejected: Mapping[str, int] | None, letters: Sequence[DeadLetter]) -> int:
    """Return how many of `rows` are delivered where the backend has not kept the others."""
    return rows - sum((rejected or {}).values()) - sum(letter.batch.rows for letter in letters)


def _rows_by_kind(batches: Sequence[Batch]) -> Counter[Kind]:
    rows: Counter[Kind] = Counter()
    for batch in batches:
        rows[batch.kind] += batch.rows
    return rows
