"""How a batch is written in a script's arguments and read in its answers, and values that both sides write as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..base import KINDS, Batch, Kind, WaitingBatch


def arguments_of(batch: Batch) -> tuple[str | int | bytes, ...]:
    """Return a batch as the arguments of a script."""
    return (
        batch.batch_id,
        batch.kind,
        batch.rows,
        batch.content_encoding,
        int(batch.encrypted),
        repr(float(batch.created_at)),
        batch.body,
    )


def claimed_of(kind: Kind, fields: list[bytes]) -> tuple[Batch, bool]:
    """Return the batch of an entry that CLAIM has returned, and whether its delivery may have been begun."""
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    batch = Batch(
        text(values[b"batch_id"]),
        kind,
        int(values[b"rows"]),
        values[b"body"],
        text(values[b"encoding"]),
        values[b"encrypted"] == b"1",
        float(values[b"created_at"]),
    )
    return batch, values[b"begun"] != b"0"


def keys_of(destination: str, kinds: Sequence[Kind] = KINDS) -> list[str]:
    """Return the keys of a destination, in the order in which the scripts expect them: a stream for each kind first."""
    names = (*kinds, "index", "owners", "done", "bytes", "epoch", "claims")
    return [f"{{guard:{destination}}}:{name}" for name in names]


def waiting_of(fields: list[bytes]) -> WaitingBatch:
    """Return what LIST tells of an entry."""
    kind, batch_id, rows, size, created_at, encrypted = map(text, fields)
    return WaitingBatch(
        batch_id,
        kind,
        int(rows),
        int(size),
        float(created_at),
        encrypted=encrypted == "1",
        elsewhere=True,
    )


def text(value: object) -> str:
    """Return an answer as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def milliseconds(seconds: float) -> int:
    """Return a time as scripts take it."""
    return round(seconds * 1000)
