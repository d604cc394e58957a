"""Looking at what is stored, now and then, and telling what the rules find: one thread in one process at a time."""

from __future__ import annotations

import logging
import threading
import time
from itertools import groupby
from urllib.parse import urlencode
from uuid import uuid4

from ...settings.once import log_once
from ..storage.alert_figures import alert_figures
from ..storage.alerts import StoredAlerts
from ..storage.database import DATABASE_ERRORS, Database, reason_of
from ..storage.leases import give_lease_back, take_lease
from ..storage.search import EventSearch
from ..storage.user_places import forget_places
from .alert import Alert, after, to_tell
from .evaluation import evaluate
from .file import Alerts
from .notice import Notice
from .sending import Channel

logger = logging.getLogger(__name__)

_LEASE = "alerts"
_LEASE_SECONDS = 90.0
"""More than a look and one notification may take; it is taken anew before each."""

_SENDING_SECONDS = 60.0
_AT_A_TIME = 20
"""Notifications of one channel in one step."""

_CLOSES_AFTER = 3_600.0
"""Seconds after which an alert is over whose rule is in the file no more."""

_FORGETTING_SECONDS = 600.0
_END_SECONDS = 4.0
"""How long the end of the process waits for a step: what it leaves is sent after the next start."""


class Watch:
    """Takes one step after the other while it has the lease of the database. To be used by one thread."""

    def __init__(self, database: Database, alerts: Alerts, started: float) -> None:
        """Watch `database` for what `alerts` say; installations could report here since `started` (Unix seconds)."""
        self._database, self._alerts, self._started = database, alerts, started
        self._stored, self._search = StoredAlerts(database), EventSearch(database)
        self._channels = {name: Channel(settings) for name, settings in alerts.channels.items()}
        self._failing: set[str] = set()
        self._holder = str(uuid4())
        self._forgot = float("-inf")
        self._stopping = threading.Event()

    def step(self, now: float) -> bool:
        """Look, open and close alerts, and send what is due at `now` (Unix seconds); False: another process does it."""
        if not self._holds(now):
            return False
        self._look(now)
        self._close(now)
        self._make_notices(now)
        self._send(now)
        if now - self._forgot >= _FORGETTING_SECONDS:
            self._stored.forget(now)
            forget_places(self._database, now)
            self._forgot = now
        return True

    def _holds(self, now: float) -> bool:
        return take_lease(self._database, _LEASE, self._holder, now, _LEASE_SECONDS)

    def end(self) -> None:
        """Have a step under way end soon."""
        self._stopping.set()

    def give_way(self) -> None:
        """Let another process go on at once."""
        give_lease_back(self._database, _LEASE, self._holder)

    def _look(self, now: float) -> None:
        rules = self._alerts.rules
        everywhere = [rule for rule in rules if rule.project is None]
        projects = set(self._search.projects()) if everywhere else set()
        projects |= {rule.project for rule in rules if rule.project is not None}
        for project in sorted(projects):
            mine = [rule for rule in rules if rule.project in (None, project)]
            figures = alert_figures(self._database, project, mine, self._started, now)
            for rule in mine:
                if found := evaluate(rule, figures, now):
                    known = self._stored.of_rule(project, rule.name)
                    self._stored.save(after(project, rule, known, found, now))

    def _close(self, now: float) -> None:
        closes_after = {rule.name: rule.closes_after for rule in self._alerts.rules}
        self._stored.close_over(
            [
                alert
                for alert in self._stored.still_open()
                if now - alert.last_seen > closes_after.get(alert.rule, _CLOSES_AFTER)
            ],
            now,
        )

    def _make_notices(self, now: float) -> None:
        rules = {rule.name: rule for rule in self._alerts.rules}
        waiting = sorted(self._stored.waiting(), key=lambda alert: (alert.rule, alert.opened_at, alert.id))
        for name, of_rule in groupby(waiting, key=lambda alert: alert.rule):
            alerts, rule = list(of_rule), rules.get(name)
            if rule is None:
                self._stored.tell(alerts, [], [], now)
                continue
            chosen = to_tell(alerts, self._stored.told_since(name, now - 3_600), rule.most_per_hour)
            if chosen:
                notices = [self._notice(alert, more) for alert, more in chosen]
                self._stored.tell(alerts, notices, self._alerts.channels_of(name), now)

    def _notice(self, alert: Alert, more: int) -> Notice:
        return Notice(
            id=str(uuid4()),
            rule=alert.rule,
            when=alert.kind,
            severity=alert.severity,
            project=alert.project_id,
            subject=alert.subject,
            text=alert.text,
            count=alert.count,
            at=alert.opened_at,
            alert=alert.id,
            more=more,
            link=self._link(alert),
        )

    def _link(self, alert: Alert) -> str | None:
        base = self._alerts.dashboard
        return base and f"{base.rstrip('/')}/alerts/{alert.id}?{urlencode({'project': alert.project_id})}"

    def _send(self, now: float) -> None:
        began = time.monotonic()
        for name, channel in self._channels.items():
            for due in self._stored.due(name, now, _AT_A_TIME):
                if self._stopping.is_set() or time.monotonic() - began > _SENDING_SECONDS or not channel.is_ready():
                    break
                if not self._holds(now + time.monotonic() - began):
                    return
                failure = channel.send(due.notice, due.failures)
                passed = now + time.monotonic() - began
                if failure is None:
                    self._stored.sent(due, passed)
                    if name in self._failing:
                        logger.warning("The channel %s of alerts works again.", name)
                        self._failing.discard(name)
                    continue
                self._stored.failed(due, failure.reason, passed + failure.pause, passed)
                if name not in self._failing:
                    logger.error("The channel %s of alerts fails: %s. It is tried again.", name, failure.reason)
                    self._failing.add(name)


class WatchThread:
    """Takes a step of a watch at once and then as often as its file says, until it is stopped."""

    def __init__(self, database: Database, alerts: Alerts) -> None:
        """Start; without rules there is nothing to do, and no thread."""
        self._database, self._every = database, alerts.every
        self._watch = Watch(database, alerts, time.time())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="OtelGuardAlerts", daemon=True)
        if alerts.rules:
            self._thread.start()

    def _run(self) -> None:
        failing = False
        while True:
            try:
                self._watch.step(time.time())
                failing = False
            except DATABASE_ERRORS as error:
                if self._stop.is_set():
                    return
                # Said once: what follows is seldom another trouble, and a look is due every few seconds.
                level, failing = (logging.DEBUG if failing else logging.ERROR), True
                logger.log(
                    level,
                    "Alerts could not be looked for in %s: %s. Next try soon.",
                    self._database.name,
                    reason_of(error),
                )
            except Exception as error:  # noqa: BLE001  a mistake of ours must not end the alerts without a word
                log_once(logger, logging.ERROR, f"Looking for alerts failed: {error!r}", cause=f"alerts: {type(error)}")
            if self._stop.wait(self._every):
                return

    def stop(self) -> None:
        """End the thread, and return when it has ended, or is kept by a receiver."""
        self._stop.set()
        self._watch.end()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
            if not self._thread.is_alive():
                self._watch.give_way()
