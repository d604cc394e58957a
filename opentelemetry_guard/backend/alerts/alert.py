"""What becomes of an alert while its cause goes on, ends and comes back: pure functions.

An alert is what a rule has found of one subject. It has the states of an
incident (`storage.incidents.STATES`), and like one it opens again by what is
newer than its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..storage.incidents import CLOSED, OPEN
from ..storage.paging import Cursor
from .evaluation import Finding
from .rules import Band, Rule

MOST_OPEN = 500
"""Alerts of one rule in one project that are not closed; beyond it no further one is opened."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One subject of a rule; times are in Unix seconds.

    `kind` is the rule's `when`; `text` and `count` are those of the latest look that found it, at `last_seen`. It was
    opened at `opened_at`, and is `waiting` as long as nobody has been told of that.
    """

    project_id: str
    rule: str
    subject: str
    kind: str
    severity: Band
    text: str
    count: int
    opened_at: float
    last_seen: float
    state: str
    state_since: float
    waiting: bool
    incident: int | None = None
    id: int = 0

    @property
    def cursor(self) -> Cursor:
        """Its place in the list of alerts."""
        return Cursor(self.opened_at, self.id)


def opened(project_id: str, rule: Rule, finding: Finding, now: float) -> Alert:
    """Return the alert of something that was found for the first time."""
    return Alert(
        project_id=project_id,
        rule=rule.name,
        subject=finding.subject,
        kind=rule.when,
        severity=rule.severity,
        text=finding.text,
        count=finding.count,
        opened_at=now,
        last_seen=now,
        state=OPEN,
        state_since=now,
        waiting=True,
        incident=finding.incident,
    )


def found_again(alert: Alert, rule: Rule, finding: Finding, now: float) -> Alert:
    """Return an alert whose subject was found again: a closed one opens by what is newer than its end."""
    if alert.state == CLOSED and finding.since > alert.state_since:
        return replace(opened(alert.project_id, rule, finding, now), id=alert.id)
    return replace(
        alert,
        severity=rule.severity,
        text=finding.text,
        count=finding.count,
        last_seen=now,
        incident=finding.incident,
    )


def after(project_id: str, rule: Rule, known: Sequence[Alert], found: Sequence[Finding], now: float) -> list[Alert]:
    """Return the alerts of a rule that something was found for; `known` are all that it has in the project."""
    by_subject = {alert.subject: alert for alert in known}
    room = MOST_OPEN - sum(alert.state != CLOSED for alert in known)
    changed: list[Alert] = []
    for finding in found:
        alert = by_subject.get(finding.subject)
        if alert is not None:
            changed.append(found_again(alert, rule, finding, now))
        elif room > 0:
            room -= 1
            changed.append(opened(project_id, rule, finding, now))
    return changed


def to_tell(waiting: Sequence[Alert], told_lately: int, most_per_hour: int) -> list[tuple[Alert, int]]:
    """Return the alerts of a rule to be told of now, each with the number of those that it stands for besides.

    `told_lately` are the notifications of the last hour. Where there is room for some and not for all, the last of
    them counts the rest; where there is none, all wait.
    """
    chosen = list(waiting[: max(0, most_per_hour - told_lately)])
    rest = len(waiting) - len(chosen)
    return [(alert, rest if alert is chosen[-1] else 0) for alert in chosen]
