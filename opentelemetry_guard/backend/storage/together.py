"""Batches that arrive together are stored together: one transaction, which waits once for the disk.

A disk needs milliseconds to have something for good, as long as a batch of some hundred rows takes to be written. Who
comes while somebody stores waits for the next turn, and all who wait have one turn.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError, TimeoutError

from .arriving import Offered, add_batches
from .database import Database

_MOST_ROWS = 2_000
"""Rows of one turn, but for those of a batch that has more by itself: others who write wait for a turn at most."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that somebody waits for: how many of its rows were new, or why it can't be stored.

    Who waits is called when it is one of those, or when it is to store what waits.
    """

    offered: Offered
    called: threading.Event = field(default_factory=threading.Event)
    accepted: int | None = None
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.accepted is not None or self.error is not None


class Together:
    """Stores batches of any threads in the order in which they came."""

    def __init__(self, database: Database) -> None:
        """Store into `database`."""
        self._database = database
        # The lock guards both: those who wait, the one that came first at the beginning, and whether somebody stores.
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._storing = False

    def add(self, offered: Offered) -> int:
        """Store a batch, and return how many of its rows are new; when this returns they are on the disk.

        Raises:
            sqlalchemy.exc.DBAPIError: the database can't store it now.
        """
        mine = _Waiting(offered)
        with self._lock:
            self._waiting.append(mine)
            must_wait, self._storing = self._storing, True
        if must_wait:
            mine.called.wait()
        if not mine.is_done:
            self._have_turn()
        if mine.error is not None:
            raise mine.error
        return mine.accepted or 0

    def _have_turn(self) -> None:
        """Store what waits, and call whose turn is next first: others have nothing to do but to answer."""
        group = self._take()
        try:
            self._store(group)
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._storing = bool(following)
            for one in following + group:
                one.called.set()

    def _take(self) -> list[_Waiting]:
        with self._lock:
            rows = taken = 0
            for one in self._waiting:
                rows += one.offered.size
                if taken and rows > _MOST_ROWS:
                    break
                taken += 1
            group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    def _store(self, group: list[_Waiting]) -> None:
        try:
            with self._database.writing() as connection:
                accepted = add_batches(self._database, connection, [one.offered for one in group])
        except BaseException as error:
            is_of_one = isinstance(error, Exception) and not isinstance(error, (OperationalError, TimeoutError))
            if is_of_one and len(group) > 1:
                # One of them can't be stored, whenever it comes: the others can.
                for one in group:
                    self._store([one])
                return
            # Those who wait are told, whatever it is: nobody else stores what is theirs.
            for one in group:
                one.error = error
            if not isinstance(error, Exception):
                raise
        else:
            for one, number in zip(group, accepted, strict=True):
                one.accepted = number
