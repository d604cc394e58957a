"""How long rows are kept: a policy, and the thread that applies it while requests go on."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .database import Database
from .overview import WINDOWS
from .rollups import SPAN_SECONDS

logger = logging.getLogger(__name__)

_DAY = 86_400.0
_ROWS_AT_A_TIME = 2_000
"""Rows of one transaction: a sender waits no longer than that many deletions take."""

_INTERVAL_SECONDS = 60.0

_SHOWN_SECONDS = max(window.minutes for window in WINDOWS) * 60.0 + _DAY
"""What the overview can look back on, and a day more."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Rows are kept for `days` after they came, and no more than `rows` of each table; None is no bound."""

    days: float | None = None
    rows: int | None = None


def _never() -> bool:
    return False


def apply_retention(database: Database, retention: Retention, now: float, stopped: Callable[[], bool] = _never) -> int:
    """Delete the rows that `retention` doesn't keep at `now` (Unix seconds), oldest first; return how many.

    As soon as `stopped` says so, the rest is left for another time.
    """
    cutoff = None if retention.days is None else now - retention.days * _DAY
    deleted = 0
    for table in ("events", "metrics"):
        if cutoff is not None:
            deleted += _delete(database, table, "received_at < ?", cutoff, stopped)
        if retention.rows is not None:
            surplus = _count(database, table) - retention.rows
            if surplus > 0:
                found = database.read(f"SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET ?", (surplus - 1,))  # noqa: S608
                deleted += _delete(database, table, "id <= ?", found[0][0], stopped)
    if cutoff is not None:
        # By these ids batches of metrics are known that come again.
        _forget(database, "metric_batches", "received_at < ?", cutoff)
    # The ids grow in the order of arrival, in which events are deleted: an incident goes with the last of its events.
    _forget(database, "incidents", "last_event < (SELECT COALESCE(MIN(id), ?) FROM events)", 2.0**62)
    # Figures that are older than the longest window are of no use to anybody.
    shown = now - _SHOWN_SECONDS
    _forget_figures(database, shown if cutoff is None else max(shown, cutoff))
    return deleted


def _count(database: Database, table: str) -> int:
    return int(database.read("SELECT COALESCE(SUM(amount), 0) FROM stored_rows WHERE content = ?", (table,))[0][0])


def _delete(database: Database, table: str, condition: str, bound: float, stopped: Callable[[], bool]) -> int:
    total = 0
    while not stopped():
        with database.writing() as connection:
            gone = connection.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {condition} LIMIT {_ROWS_AT_A_TIME})",  # noqa: S608
                (bound,),
            ).rowcount
        total += gone
        if gone < _ROWS_AT_A_TIME:
            break
    return total


def _forget_figures(database: Database, cutoff: float) -> None:
    """Delete rollups from before `cutoff` (Unix seconds)."""
    minute = int(cutoff // 60)
    for table in ("event_minutes", "metric_minutes", "latency_minutes"):
        _forget(database, table, "minute < ?", minute)
    for seconds in SPAN_SECONDS:
        _forget(database, "event_tops", f"seconds = {seconds} AND span < ?", int(cutoff // seconds))


def _forget(database: Database, table: str, condition: str, bound: float) -> None:
    with database.writing() as connection:
        connection.execute(f"DELETE FROM {table} WHERE {condition}", (bound,))  # noqa: S608


class RetentionThread:
    """Applies a policy at once and then every minute, until it is stopped."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Start; without a bound in `retention` there is nothing to do, and no thread."""
        self._database = database
        self._retention = retention
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="OtelGuardRetention", daemon=True)
        if retention != Retention():
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                deleted = apply_retention(self._database, self._retention, time.time(), self._stop.is_set)
            except sqlite3.OperationalError as error:
                logger.error(
                    "Old rows of %s could not be deleted: %s. Next try in a minute.", self._database.path, error
                )
            else:
                if deleted:
                    logger.info("%s rows are older or more than the backend keeps, and were deleted.", deleted)
            if self._stop.wait(_INTERVAL_SECONDS):
                return

    def stop(self) -> None:
        """End the thread, and return when it has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
