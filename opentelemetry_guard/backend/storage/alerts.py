"""Alerts and their notifications, so that neither a restart nor another process loses or repeats one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import ColumnElement, Delete, Update, bindparam, case, delete, distinct, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import Insert, insert

from ..alerts.alert import Alert
from ..alerts.notice import Notice, decoded, encoded
from .database import Database
from .incidents import CLOSED
from .paging import Cursor, Page, paged, place_of
from .tables import alert_notices, alerts

KEPT_SECONDS = 30 * 86_400
"""Closed alerts and notifications are forgotten after this time."""

GIVEN_UP_SECONDS = 86_400
"""A notification that nobody has taken for so long is not sent any more."""

_COLUMNS = tuple(alerts.c[field.name] for field in fields(Alert))
_KEY = ("project_id", "rule", "subject")
_OPENING = ("state", "state_since", "waiting", "opened_at")
_LATEST_FIRST = (alerts.c.opened_at.desc(), alerts.c.id.desc())


@dataclass(frozen=True, slots=True)
class Due:
    """A notification that a channel is to send now, and how often that has failed."""

    notice: Notice
    channel: str
    failures: int


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """How a channel does: when it sent and failed last (Unix seconds), why, and how many notifications wait for it."""

    sent_at: float | None = None
    error_at: float | None = None
    error: str = ""
    waiting: int = 0


class StoredAlerts:
    """The alerts of a database. Every method is one transaction and safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database

    def of_rule(self, project_id: str, rule: str) -> list[Alert]:
        """Return all alerts of a rule in a project."""
        return self._found(alerts.c.project_id == project_id, alerts.c.rule == rule)

    def still_open(self) -> list[Alert]:
        """Return all alerts that are not closed."""
        return self._found(alerts.c.state != CLOSED)

    def waiting(self) -> list[Alert]:
        """Return the alerts that nobody has been told of, those of a rule in the order of their time."""
        return self._found(alerts.c.waiting, order=(alerts.c.rule, alerts.c.opened_at, alerts.c.id))

    def save(self, changed: Iterable[Alert]) -> None:
        """Write alerts as they are; what somebody has made of one meanwhile (its state) is kept, unless it opens."""
        rows = [{name: value for name, value in asdict(alert).items() if name != "id"} for alert in changed]
        if rows:
            with self._database.writing() as connection:
                connection.execute(_WRITE, rows)

    def close_over(self, over: Iterable[Alert], now: float) -> None:
        """Close alerts whose cause is gone."""
        ids = [alert.id for alert in over]
        if ids:
            self._change(
                update(alerts)
                .where(alerts.c.id == bindparam("of_id"), alerts.c.state != CLOSED)
                .values(state=CLOSED, state_since=now),
                [{"of_id": number} for number in ids],
            )

    def told_since(self, rule: str, since: float) -> int:
        """Count the notifications of a rule that were made at `since` (Unix seconds) or later."""
        counted = select(func.count(distinct(alert_notices.c.notice)))
        found = self._database.read(counted.where(alert_notices.c.rule == rule, alert_notices.c.created_at >= since))
        return int(found[0][0])

    def tell(self, told: Sequence[Alert], notices: Iterable[Notice], channels: Sequence[str], now: float) -> None:
        """Make notifications for some channels, and have the alerts that they tell of wait no longer."""
        rows = [
            {
                "notice": notice.id,
                "channel": channel,
                "rule": notice.rule,
                "content": encoded(notice),
                "created_at": now,
                "failures": 0,
                "next_try": now,
                "error": "",
            }
            for notice in notices
            for channel in channels
        ]
        no_longer = update(alerts).where(alerts.c.id == bindparam("of_id")).values(waiting=False)
        with self._database.writing() as connection:
            connection.execute(no_longer, [{"of_id": alert.id} for alert in told])
            if rows:
                connection.execute(insert(alert_notices), rows)

    def due(self, channel: str, now: float, most: int) -> list[Due]:
        """Return what a channel is to send at `now` (Unix seconds), the oldest first."""
        found = self._database.read(
            select(alert_notices.c.content, alert_notices.c.failures)
            .where(
                alert_notices.c.channel == channel,
                alert_notices.c.sent_at.is_(None),
                alert_notices.c.next_try <= now,
                alert_notices.c.created_at > now - GIVEN_UP_SECONDS,
            )
            .order_by(alert_notices.c.created_at, alert_notices.c.notice)
            .limit(most)
        )
        return [Due(decoded(content), channel, failures) for content, failures in found]

    def sent(self, due: Due, now: float) -> None:
        """Note that a channel has sent a notification."""
        self._settle(due, sent_at=now, error="")

    def failed(self, due: Due, reason: str, next_try: float, now: float) -> None:
        """Note that a channel could not send a notification, and when it is to try again (Unix seconds)."""
        self._settle(due, failures=alert_notices.c.failures + 1, error=reason, error_at=now, next_try=next_try)

    def _settle(self, due: Due, **values: object) -> None:
        of_it = (alert_notices.c.notice == due.notice.id, alert_notices.c.channel == due.channel)
        self._change(update(alert_notices).where(*of_it).values(**values))

    def health(self, now: float) -> dict[str, ChannelHealth]:
        """Return how channels do, by name; one that has never had anything to send is not among them."""
        pending = alert_notices.c.sent_at.is_(None) & (alert_notices.c.created_at > now - GIVEN_UP_SECONDS)
        found = self._database.read(
            select(
                alert_notices.c.channel,
                func.max(alert_notices.c.sent_at),
                func.max(alert_notices.c.error_at),
                func.sum(case((pending, 1), else_=0)),
            ).group_by(alert_notices.c.channel)
        )
        one, other = alert_notices.alias("one"), alert_notices.alias("other")
        latest = select(func.max(other.c.error_at)).where(other.c.channel == one.c.channel).scalar_subquery()
        told = select(one.c.channel, one.c.error).where(one.c.error != "", one.c.error_at == latest)
        errors = {row.channel: row.error for row in self._database.read(told)}
        return {
            channel: ChannelHealth(sent_at, error_at, errors.get(channel, ""), int(waiting))
            for channel, sent_at, error_at, waiting in found
        }

    def page(self, project_id: str, state: str, before: Cursor | None, limit: int) -> Page[Alert]:
        """Return a project's `limit` alerts that opened last before the place `before`; "" is every state."""
        found = self._found(
            alerts.c.project_id == project_id,
            tuple_(alerts.c.opened_at, alerts.c.id) < place_of(before),
            *([alerts.c.state == state] if state else []),
            order=_LATEST_FIRST,
            limit=limit + 1,
        )
        return paged(found, limit)

    def one(self, project_id: str, alert_id: int) -> Alert | None:
        """Return the alert with the id `alert_id`; None when the project has none."""
        found = self._found(alerts.c.id == alert_id, alerts.c.project_id == project_id)
        return found[0] if found else None

    def set_state(self, project_id: str, alert_id: int, state: str, now: float) -> bool:
        """Give an alert another of `incidents.STATES` at `now`; nobody is told of it any more. False: there is none."""
        of_it = (alerts.c.id == alert_id, alerts.c.project_id == project_id)
        return self._change(update(alerts).where(*of_it).values(state=state, state_since=now, waiting=False)) == 1

    def forget(self, now: float) -> None:
        """Delete what has been over for `KEPT_SECONDS`."""
        before = now - KEPT_SECONDS
        over = (alerts.c.state == CLOSED, alerts.c.last_seen < before, alerts.c.state_since < before)
        self._change(delete(alerts).where(*over))
        self._change(delete(alert_notices).where(alert_notices.c.created_at < before))

    def _change(self, statement: Update | Delete, rows: Sequence[dict[str, object]] | None = None) -> int:
        with self._database.writing() as connection:
            return connection.execute(statement, rows).rowcount

    def _found(
        self, *conditions: ColumnElement[bool], order: Sequence[ColumnElement[object]] = (), limit: int | None = None
    ) -> list[Alert]:
        found = self._database.read(select(*_COLUMNS).where(*conditions).order_by(*order).limit(limit))
        return [Alert(*values) for values in found]


def _writing() -> Insert:
    offered = insert(alerts)
    columns = [column.name for column in _COLUMNS if column.name not in (*_KEY, "id")]
    # A look that began before somebody closed the alert must not open it again.
    opens = offered.excluded.opened_at > alerts.c.opened_at
    replaced = {name: offered.excluded[name] for name in columns if name not in _OPENING}
    opening = {name: case((opens, offered.excluded[name]), else_=alerts.c[name]) for name in _OPENING}
    return offered.on_conflict_do_update(index_elements=_KEY, set_={**replaced, **opening})


_WRITE = _writing()
