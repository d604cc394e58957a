"""How long rows are kept: a policy, and the thread that applies it while requests go on."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, func, select, tuple_, update

from .database import DATABASE_ERRORS, Database, reason_of
from .leases import give_lease_back, take_lease
from .overview import WINDOWS
from .postgresql import drop_days
from .rollups import SPAN_SECONDS
from .tables import (
    DAY_SECONDS,
    day_of,
    event_keys,
    event_minutes,
    event_tops,
    events,
    incidents,
    latency_minutes,
    metric_batches,
    metric_minutes,
    metrics,
    stored_rows,
)

logger = logging.getLogger(__name__)

_ROWS_AT_A_TIME = 2_000
"""Rows of one transaction: a sender waits no longer than that many deletions take."""

_INTERVAL_SECONDS = 60.0

_LEASE = "retention"
_LEASE_SECONDS = 3 * _INTERVAL_SECONDS
"""Of several processes on one database one deletes; another one takes over when it was gone for so long."""

_BEYOND_IDS = 2**62

_SHOWN_SECONDS = max(window.minutes for window in WINDOWS) * 60.0 + DAY_SECONDS
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
    cutoff = None if retention.days is None else now - retention.days * DAY_SECONDS
    deleted = 0
    for table, kind in ((events, events.c.event_type), (metrics, metrics.c.metric_type)):
        if database.kind.in_days:
            deleted += _drop(database, table, retention, cutoff)
        elif cutoff is not None:
            deleted += _delete(database, table, kind, table.c.received_at < cutoff, stopped)
        if retention.rows is not None:
            surplus = _amount(database, table) - retention.rows
            if surplus > 0:
                last = database.read(select(table.c.id).order_by(table.c.id).offset(surplus - 1).limit(1))[0][0]
                deleted += _delete(database, table, kind, table.c.id <= last, stopped)
    _forget_keys(database, cutoff, stopped)
    # The ids grow in the order of arrival, in which events are deleted: an incident goes with the last of its events.
    oldest = select(func.coalesce(func.min(events.c.id), _BEYOND_IDS)).scalar_subquery()
    _forget(database, incidents, incidents.c.last_event < oldest)
    # Figures that are older than the longest window are of no use to anybody.
    shown = now - _SHOWN_SECONDS
    _forget_figures(database, shown if cutoff is None else max(shown, cutoff))
    return deleted


def _drop(database: Database, table: Table, retention: Retention, cutoff: float | None) -> int:
    """Drop the days of which nothing is kept; return how many rows they had. A day goes when its last row is to go."""
    by_day = select(stored_rows.c.day, func.sum(stored_rows.c.amount)).where(stored_rows.c.content == table.name)
    days = database.read(by_day.group_by(stored_rows.c.day).order_by(stored_rows.c.day))
    left = sum(int(amount) for _, amount in days)
    chosen: dict[int, int] = {}
    for day, amount in days:
        too_old = cutoff is not None and day < day_of(cutoff)
        if not too_old and (retention.rows is None or left - int(amount) < retention.rows):
            break
        chosen[day] = int(amount)
        left -= int(amount)
    if chosen:
        with database.writing() as connection:
            drop_days(connection, table, list(chosen))
    return sum(chosen.values())


def _amount(database: Database, table: Table) -> int:
    counted = select(func.coalesce(func.sum(stored_rows.c.amount), 0)).where(stored_rows.c.content == table.name)
    return int(database.read(counted)[0][0])


def _delete(
    database: Database,
    table: Table,
    kind: ColumnElement[str],
    condition: ColumnElement[bool],
    stopped: Callable[[], bool],
) -> int:
    total = 0
    some = select(table.c.id).where(condition).limit(_ROWS_AT_A_TIME)
    while not stopped():
        with database.writing() as connection:
            gone = connection.execute(
                delete(table).where(table.c.id.in_(some)).returning(kind, table.c.received_at)
            ).all()
            _uncount(connection, table, Counter((day_of(received_at), name) for name, received_at in gone))
        total += len(gone)
        if len(gone) < _ROWS_AT_A_TIME:
            break
    return total


def _uncount(connection: Connection, table: Table, gone: Counter[tuple[int, str]]) -> None:
    of_kind = (
        stored_rows.c.content == table.name,
        stored_rows.c.day == bindparam("of_day"),
        stored_rows.c.kind == bindparam("of_kind"),
    )
    fewer = update(stored_rows).where(*of_kind).values(amount=stored_rows.c.amount - bindparam("fewer"))
    if gone:
        changes = [{"of_day": day, "of_kind": kind, "fewer": amount} for (day, kind), amount in gone.items()]
        connection.execute(fewer, changes)
        connection.execute(delete(stored_rows).where(stored_rows.c.amount <= 0))


def _forget_keys(database: Database, cutoff: float | None, stopped: Callable[[], bool]) -> None:
    """Delete what rows that come again were known by, of days of which no row is left."""
    oldest = database.read(select(func.min(stored_rows.c.day)).where(stored_rows.c.content == events.name))[0][0]
    if oldest is not None:
        some = select(event_keys.c.project_id, event_keys.c.key).where(event_keys.c.day < oldest)
        chosen = tuple_(event_keys.c.project_id, event_keys.c.key).in_(some.limit(_ROWS_AT_A_TIME))
        while not stopped() and _forget(database, event_keys, chosen) == _ROWS_AT_A_TIME:
            pass
    if cutoff is not None:
        _forget(database, metric_batches, metric_batches.c.received_at < cutoff)


def _forget_figures(database: Database, cutoff: float) -> None:
    """Delete rollups from before `cutoff` (Unix seconds)."""
    minute = int(cutoff // 60)
    for table in (event_minutes, metric_minutes, latency_minutes):
        _forget(database, table, table.c.minute < minute)
    for seconds in SPAN_SECONDS:
        _forget(database, event_tops, event_tops.c.seconds == seconds, event_tops.c.span < int(cutoff // seconds))


def _forget(database: Database, table: Table, *conditions: ColumnElement[bool]) -> int:
    with database.writing() as connection:
        return connection.execute(delete(table).where(*conditions)).rowcount


class RetentionThread:
    """Applies a policy at once and then every minute, until it is stopped."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Start; without a bound in `retention` there is nothing to do, and no thread."""
        self._database = database
        self._retention = retention
        self._holder = uuid4().hex
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="OtelGuardRetention", daemon=True)
        if retention != Retention():
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                deleted = self._apply()
            except DATABASE_ERRORS as error:
                logger.error(
                    "Old rows of %s could not be deleted: %s. Next try in a minute.",
                    self._database.name,
                    reason_of(error),
                )
            else:
                if deleted:
                    logger.info("%s rows are older or more than the backend keeps, and were deleted.", deleted)
            if self._stop.wait(_INTERVAL_SECONDS):
                return

    def _apply(self) -> int:
        if not take_lease(self._database, _LEASE, self._holder, time.time(), _LEASE_SECONDS):
            return 0
        return apply_retention(self._database, self._retention, time.time(), self._stop.is_set)

    def stop(self) -> None:
        """End the thread, and return when it has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            with suppress(*DATABASE_ERRORS):
                give_lease_back(self._database, _LEASE, self._holder)
