"""Token buckets that all processes of a database draw from, a portion at a time.

A process that may let through a hundred requests of a key a second asks the database once a second, and not for each
of them. It spends what it has drawn and nothing else, so no number of processes lets through more than the bucket
gives; what one of them has drawn and not yet spent, no other one can spend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert

from .database import Database
from .tables import rate_buckets

_SET_BACK_SECONDS = 60.0
"""A bucket that was last drawn from so far ahead of now was drawn from before a clock was set back."""

_FORGETTING_SECONDS = 60.0
"""Seconds between two looks for buckets that are full, which are as good as none."""


def portion_of(per_minute: int) -> int:
    """Return how many tokens are drawn at once: a second's worth, and one at least."""
    return max(1, per_minute // 60)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a bucket gave: so many `tokens`, or none for so many seconds (`wait`)."""

    tokens: int
    wait: float = 0.0


class StoredBuckets:
    """The buckets of a database; safe to call from any thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        """Keep them in `database`; `clock` returns Unix seconds."""
        self._database, self._clock = database, clock
        self._forgot = float("-inf")

    def draw(self, name: str, per_minute: float, most: int | None = None) -> Drawn:
        """Take a portion from the bucket `name`.

        Args:
            name: whose bucket.
            per_minute: tokens that come in a minute.
            most: tokens that it holds when it is full; None: a minute's.
        """
        room = float(per_minute if most is None else most)
        portion = min(portion_of(int(per_minute)), int(room))
        now = self._clock()
        with self._database.writing() as connection:
            known = select(rate_buckets.c.tokens, rate_buckets.c.since).where(rate_buckets.c.name == name)
            left, since = connection.execute(known).one_or_none() or (room, now)
            set_back = since > now + _SET_BACK_SECONDS
            since = now if set_back else since
            left = min(left + max(0.0, now - since) * per_minute / 60, room)
            tokens = min(int(left), portion)
            if tokens or set_back:
                left -= tokens
                values = {"tokens": left, "since": max(since, now), "full_at": now + (room - left) * 60 / per_minute}
                row = insert(rate_buckets).values(name=name, **values)
                connection.execute(row.on_conflict_do_update(index_elements=rate_buckets.primary_key, set_=values))
                self._forget(connection, now)
        return Drawn(tokens, 0.0 if tokens else (portion - left) * 60 / per_minute)

    def _forget(self, connection: Connection, now: float) -> None:
        if abs(now - self._forgot) >= _FORGETTING_SECONDS:
            self._forgot = now
            connection.execute(delete(rate_buckets).where(rate_buckets.c.full_at < now))
