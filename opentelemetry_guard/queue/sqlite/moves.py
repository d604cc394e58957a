"""The moves of batches, as statements on a connection: each is a transaction of its own and happens wholly or not.

What a look has found may have changed before the statement that acts on it: whatever that needs to be true is in its
own condition.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

from ..base import (
    DROPPED_DEAD_LETTER_OVERFLOW,
    DROPPED_OVERFLOW,
    Batch,
    DeadLetter,
    Kind,
    Lease,
    Ledger,
    QueueOptions,
)
from .schema import LIVE

Direction = Literal["ASC", "DESC"]
"""From the oldest on, or from the newest on."""

CLAIM_BATCHES = 64
"""Batches of dead owners that one `lease` takes over at most."""
PROMOTE_BATCHES = 1000
"""Deferred batches that one `lease` finds due at most."""
EVICT_BATCHES = 100
"""Batches that one statement evicts at most."""
NAMED_BATCHES = 500
"""Batches that one statement names at most; SQLite takes 999 parameters at least."""
DROPPED = "dropped."
"""What the states of the ledger begin with that count dropped rows; the reason follows."""

COLUMNS = "batch_id, kind, rows, size, content_encoding, encrypted, created_at, checksum"
"""What is stored about a batch and never changes: see `values_of`."""
BATCH = "batch_id, kind, rows, body, content_encoding, encrypted, created_at"
"""What `batch_of` takes."""


def fetch(connection: sqlite3.Connection, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Return all rows of a statement."""
    return connection.execute(statement, values).fetchall()


def marks(values: Collection[object]) -> str:
    """Return as many parameters."""
    return ", ".join("?" * len(values))


def portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield as many names at a time as one statement can name."""
    for first in range(0, len(names), NAMED_BATCHES):
        yield names[first : first + NAMED_BATCHES]


def insert(
    connection: sqlite3.Connection, batch: Batch, more: tuple[str, int, float], adopted: bool, max_bytes: int
) -> bool:
    """Store a batch with `more`: its owner, its attempts, and the end of the owner's lease, which that renews.

    False when there is no room or the batch is known, one that is `adopted` also where it was finished here.
    """
    before = connection.total_changes
    connection.execute(
        f"INSERT INTO incoming ({COLUMNS}, body, owner, state, attempts, lease_until) "
        "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'ready', ?11, ?12 "
        "WHERE NOT EXISTS (SELECT 1 FROM batches WHERE batch_id = ?1) "
        "AND NOT (?14 AND EXISTS (SELECT 1 FROM finished WHERE batch_id = ?1)) "
        f"AND (SELECT total(bytes) FROM ledger WHERE state IN {LIVE}) + ?4 <= ?13",
        (*values_of(batch), batch.body, *more, max_bytes, adopted),
    )
    return connection.total_changes > before


def insert_adopted(
    connection: sqlite3.Connection, batches: Sequence[tuple[Batch, bool]], more: tuple[str, float], max_bytes: int
) -> None:
    """Store batches with whether each has begun, and `more`: their owner and the end of its lease.

    Those that are known, or were finished here, are left out; all of them where there is no room for all.
    """
    row = f"({marks(range(10))})"
    taken = ", ".join(f"column{number}" for number in range(1, 10))
    connection.execute(
        f"INSERT INTO incoming ({COLUMNS}, body, owner, state, attempts, lease_until) "
        f"SELECT {taken}, ?, 'ready', column10, ? FROM (VALUES {', '.join([row] * len(batches))}) "
        "WHERE NOT EXISTS (SELECT 1 FROM batches WHERE batch_id = column1) "
        "AND NOT EXISTS (SELECT 1 FROM finished WHERE batch_id = column1) "
        f"AND (SELECT total(bytes) FROM ledger WHERE state IN {LIVE}) + ? <= ?",
        (
            *more,
            *(value for batch, begun in batches for value in (*values_of(batch), batch.body, int(begun))),
            sum(len(batch.body) for batch, _ in batches),
            max_bytes,
        ),
    )


def look_for_room(
    connection: sqlite3.Connection, batch_id: str, adopted: bool
) -> tuple[bool, dict[tuple[Kind, str], int]]:
    """Return whether a batch is known, and the bytes that are not delivered yet by kind and state."""
    found = fetch(
        connection,
        "SELECT kind, state, bytes, EXISTS (SELECT 1 FROM batches WHERE batch_id = ?1) "
        "OR (?2 AND EXISTS (SELECT 1 FROM finished WHERE batch_id = ?1)) "
        f"FROM ledger WHERE state IN {LIVE}",
        batch_id,
        adopted,
    )
    return bool(found[0][3]), {(kind, state): size for kind, state, size, _ in found}


def eviction(
    batch: Batch, stored: Mapping[tuple[Kind, str], int], options: QueueOptions
) -> tuple[int, list[tuple[Kind, Direction]]] | None:
    """Return how many bytes have to go for an incoming batch, and which queued ones may: kinds in order, from an end.

    The last kind goes first, and none for the sake of a later one; then by age, as the policy says; what is in flight
    never goes. None when that makes no room: the batch has to go itself, and nothing is evicted in vain.
    """
    later = options.kinds[options.kinds.index(batch.kind) + 1 :] if batch.kind in options.kinds else ()
    order: list[tuple[Kind, Direction]]
    if options.overflow == "drop_oldest":
        order = [*((kind, "ASC") for kind in reversed(later)), (batch.kind, "ASC")]
    else:
        order = [(kind, "DESC") for kind in reversed(later)]
    size = len(batch.body)
    excess = sum(stored.values()) + size - options.max_bytes
    kinds = [kind for kind, _ in order]
    evictable = sum(count for (kind, state), count in stored.items() if kind in kinds and state != "in flight")
    return None if size > options.max_bytes or evictable < excess else (excess, order)


def evict(connection: sqlite3.Connection, kind: Kind, direction: Direction, excess: int) -> tuple[int, int]:
    """Drop queued batches of a kind from one end until `excess` bytes have gone; return how many batches and bytes."""
    found = fetch(
        connection,
        "SELECT seq, size FROM batches WHERE kind = ? AND state <> 'dead' AND state <> 'in flight' "
        f"ORDER BY created_at {direction}, seq {direction} LIMIT {EVICT_BATCHES}",
        kind,
    )
    victims, freed = [], 0
    for seq, size in found:
        if freed >= excess:
            break
        victims.append(seq)
        freed += size
    if not victims:
        return 0, 0
    changed = connection.execute(
        f"UPDATE batches SET state = ? WHERE seq IN ({marks(victims)}) AND state IN ('ready', 'deferred')",
        (f"{DROPPED}{DROPPED_OVERFLOW}", *victims),
    )
    return changed.rowcount, freed


def count_dropped(connection: sqlite3.Connection, kind: Kind, reason: str, rows: int) -> None:
    """Count rows as dropped that are in no batch."""
    connection.execute(
        "INSERT INTO ledger VALUES (?, ?, ?, 0, 0) ON CONFLICT (kind, state) DO UPDATE SET rows = rows + excluded.rows",
        (kind, f"{DROPPED}{reason}", rows),
    )


def renew(connection: sqlite3.Connection, owner: str, lease_until: float) -> None:
    """Set the end of an owner's lease."""
    connection.execute(
        "INSERT INTO owners VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until",
        (owner, lease_until),
    )


def release(connection: sqlite3.Connection, owner: str) -> None:
    """End an owner's lease."""
    connection.execute("UPDATE owners SET lease_until = ? WHERE owner = ?", (float("-inf"), owner))
    _forget_if_empty(connection, owner)


def look(connection: sqlite3.Connection, owner: str, kind: Kind, now: float) -> tuple[float, bool, bool, bool]:
    """Return the end of an owner's lease, and whether it has a batch that is ready, or due, or that it may claim."""
    ((lease_until, *found),) = fetch(
        connection,
        "SELECT (SELECT lease_until FROM owners WHERE owner = ?1), "
        "EXISTS (SELECT 1 FROM batches WHERE owner = ?1 AND kind = ?2 AND state = 'ready'), "
        "EXISTS (SELECT 1 FROM batches WHERE owner = ?1 AND kind = ?2 AND state = 'deferred' AND due <= ?3), "
        "EXISTS (SELECT 1 FROM owners WHERE lease_until < ?3 AND owner <> ?1 AND "
        "EXISTS (SELECT 1 FROM batches WHERE batches.owner = owners.owner AND kind = ?2))",
        owner,
        kind,
        now,
    )
    ready, due, left = map(bool, found)
    return float("-inf") if lease_until is None else lease_until, ready, due, left


def promote(connection: sqlite3.Connection, owner: str, kind: Kind, now: float) -> None:
    """Make an owner's deferred batches that are due ready."""
    connection.execute(
        "UPDATE batches SET state = 'ready' WHERE seq IN (SELECT seq FROM batches "
        f"WHERE owner = ? AND kind = ? AND state = 'deferred' AND due <= ? ORDER BY due LIMIT {PROMOTE_BATCHES})",
        (owner, kind, now),
    )


def claim(connection: sqlite3.Connection, owner: str, kind: Kind, now: float, direction: Direction) -> None:
    """Take over batches of owners whose lease has run out, ready at once."""
    room = CLAIM_BATCHES
    lost = fetch(
        connection, "SELECT owner FROM owners WHERE lease_until < ? AND owner <> ? ORDER BY lease_until", now, owner
    )
    for (other,) in lost:
        for state in ("ready", "in flight", "deferred"):
            room -= connection.execute(
                "UPDATE batches SET owner = ?, state = 'ready' WHERE seq IN (SELECT seq FROM batches "
                f"WHERE owner = ? AND kind = ? AND state = ? ORDER BY created_at {direction}, seq {direction} LIMIT ?) "
                "AND EXISTS (SELECT 1 FROM owners WHERE owner = ? AND lease_until < ?)",
                (owner, other, kind, state, room, other, now),
            ).rowcount
        _forget_if_empty(connection, other)
        if room <= 0:
            return


def _forget_if_empty(connection: sqlite3.Connection, owner: str) -> None:
    """Remove the row of an owner that has given up or lost its lease and has nothing left."""
    connection.execute(
        "DELETE FROM owners WHERE owner = ? AND owner <> '' "
        "AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.owner = owners.owner)",
        (owner,),
    )


def choose(
    connection: sqlite3.Connection, owner: str, kind: Kind, direction: Direction, bounds: tuple[int, int, int]
) -> tuple[dict[int, Lease], dict[int, str]]:
    """Return which of an owner's ready batches come next, from one end, and which corrupt ones were met, by `seq`.

    One that was attempted comes alone; several that were not come together within the `bounds`: batches, bytes, rows.
    """
    max_batches, max_bytes, max_rows = bounds
    chosen: dict[int, Lease] = {}
    corrupt: dict[int, str] = {}
    size = rows = 0
    found = connection.execute(
        f"SELECT {BATCH}, seq, checksum, attempts, refusals, size "
        "FROM batches LEFT JOIN bodies USING (seq) WHERE owner = ? AND kind = ? AND state = 'ready' "
        f"ORDER BY created_at {direction}, seq {direction} LIMIT ?",
        (owner, kind, max_batches),
    )
    # It may end before its last row, and a statement that isn't closed keeps what it reads from being written to
    with closing(found):
        for *columns, seq, checksum, attempts, refusals, length in found:
            batch = batch_of(columns)
            if checksum != checksum_of(batch):
                corrupt[seq] = batch.batch_id
                continue
            size += length
            rows += batch.rows
            if chosen and (attempts or 0 < max_bytes < size or 0 < max_rows < rows):
                break
            chosen[seq] = Lease(batch, attempts, refusals)
            if attempts:
                break
    return chosen, corrupt


def take(connection: sqlite3.Connection, owner: str, chosen: Sequence[int]) -> bool:
    """Put an owner's ready batches in flight: all of them, or none when one is not there any more."""
    theirs = f"seq IN ({marks(chosen)})"
    changed = connection.execute(
        f"UPDATE batches SET state = 'in flight', attempts = attempts + 1 WHERE {theirs} AND "
        f"? = (SELECT count(*) FROM batches WHERE {theirs} AND owner = ? AND state = 'ready')",
        (*chosen, len(chosen), *chosen, owner),
    )
    return changed.rowcount > 0


def held(connection: sqlite3.Connection, owner: str, batch_ids: Sequence[str]) -> list[Batch]:
    """Return those of the batches that are in flight and the owner's, without their bodies."""
    found = fetch(
        connection,
        f"SELECT batch_id, kind, rows FROM batches WHERE batch_id IN ({marks(batch_ids)}) AND owner = ? "
        "AND state = 'in flight'",
        *batch_ids,
        owner,
    )
    return [Batch(batch_id, kind, rows, b"") for batch_id, kind, rows in found]


def coming(batch: Batch, owner: str | None, state: str) -> tuple[object, ...]:
    """Return what `exchange` stores of a batch, which counts as attempted once."""
    return (*values_of(batch), batch.body, owner, state, 1, None, None, None)


def coming_letter(letter: DeadLetter, bound: int) -> tuple[object, ...]:
    """Return what `exchange` stores of a dead letter, which is nobody's; one beyond the whole bound is dropped."""
    fits = len(letter.batch.body) <= bound
    state = "dead" if fits else f"{DROPPED}{DROPPED_DEAD_LETTER_OVERFLOW}"
    return (*coming(letter.batch, None, state)[:-3], letter.status, letter.reason, letter.time)


def exchange(
    connection: sqlite3.Connection,
    owner: str,
    batch_ids: Sequence[str],
    buried: Collection[str],
    rows: Sequence[tuple[object, ...]],
) -> bool:
    """Put rows in the place of batches that are in flight; False when one of these is not any more.

    Raises:
        ValueError: a new batch has the `batch_id` of one that is stored.
    """
    # With literal NULLs, since SQLite may take no more than 999 parameters
    leaving = f"(?, {', '.join(['NULL'] * 8)}, ?, ?{', NULL' * 4})"
    leavers = [(batch_id, owner, "buried" if batch_id in buried else "replaced") for batch_id in batch_ids]
    try:
        connection.execute(
            f"INSERT INTO incoming ({COLUMNS}, body, owner, state, attempts, status, reason, time) "
            f"VALUES {', '.join([leaving] * len(leavers) + [f'({marks(row)})' for row in rows])}",
            [value for row in (*leavers, *rows) for value in row],
        )
    except sqlite3.IntegrityError as error:
        if "not held" in str(error):
            return False
        names = ", ".join(str(row[0]) for row in rows)
        raise ValueError(
            f"one of the batches {names} is stored already; a new batch needs a batch_id of its own"
        ) from error
    return True


def letters(connection: sqlite3.Connection, batch_ids: Sequence[str] | None) -> list[int]:
    """Return the `seq` of the named dead letters, or of all of them, newest first."""
    wanted = None if batch_ids is None else set(batch_ids)
    found = fetch(connection, "SELECT seq, batch_id FROM batches WHERE state = 'dead' ORDER BY time DESC, seq DESC")
    return [seq for seq, batch_id in found if wanted is None or batch_id in wanted]


def evict_letters(connection: sqlite3.Connection, bound: int) -> None:
    """Drop the oldest dead letters until the others fit within `bound` bytes."""
    while connection.execute(
        "UPDATE batches SET state = ? WHERE seq = (SELECT seq FROM batches WHERE state = 'dead' "
        "ORDER BY time, seq LIMIT 1) AND (SELECT total(bytes) FROM ledger WHERE state = 'dead') > ?",
        (f"{DROPPED}{DROPPED_DEAD_LETTER_OVERFLOW}", bound),
    ).rowcount:
        pass


def values_of(batch: Batch) -> tuple[str | int | float, ...]:
    """Return what is stored about a batch, in the order of `COLUMNS`."""
    size, encrypted, created_at = len(batch.body), int(batch.encrypted), float(batch.created_at)
    known = (batch.batch_id, batch.kind, batch.rows, size, batch.content_encoding, encrypted, created_at)
    return (*known, checksum_of(batch))


def batch_of(columns: Sequence[Any]) -> Batch:
    """Return a batch as it is stored, in the order of `BATCH`; what is no body any more is an empty one."""
    batch_id, kind, rows, body, content_encoding, encrypted, created_at = columns
    body = body if isinstance(body, bytes) else b""
    return Batch(batch_id, kind, rows, body, content_encoding, bool(encrypted), created_at)


def checksum_of(batch: Batch) -> int:
    """Return the CRC-32 of a batch's body and of everything that is stored about it."""
    about = (
        batch.batch_id,
        batch.kind,
        batch.rows,
        batch.content_encoding,
        int(batch.encrypted),
        float(batch.created_at),
    )
    return zlib.crc32(repr(about).encode("utf-8", "backslashreplace"), zlib.crc32(batch.body))


def ledger_of(rows: Mapping[str, int]) -> Ledger:
    """Return the ledger of one kind from its rows by state; all that was accepted is in one of them."""
    return Ledger(
        accepted=sum(rows.values()),
        delivered=rows.get("delivered", 0),
        queued=rows.get("ready", 0) + rows.get("deferred", 0),
        in_flight=rows.get("in flight", 0),
        dead_lettered=rows.get("dead", 0),
        dropped={state[len(DROPPED) :]: count for state, count in rows.items() if state.startswith(DROPPED) and count},
    )
