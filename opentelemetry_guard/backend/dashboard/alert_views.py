"""Alerts, their rules and channels as their pages show them. Escaping is the templates' part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..alerts.alert import Alert
from ..alerts.evaluation import in_words
from ..alerts.file import Alerts
from ..alerts.rules import AgentTroubleRule, EventsRule, IncidentRule, NewPlaceRule, Rule, SilentAgentRule
from ..storage.alerts import ChannelHealth
from .views import ago, shortened

_NOBODY = "nobody: it shows here alone"


@dataclass(frozen=True, slots=True)
class AlertView:
    """A line of the list, and all that its page shows; moments are in Unix seconds."""

    id: int
    rule: str
    subject: str
    text: str
    severity: str
    state: str
    opened: float
    opened_ago: str
    seen: float
    seen_ago: str
    state_since: float
    count: int
    incident: int | None


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule in words."""

    name: str
    when: str
    severity: str
    told_by: str
    most_per_hour: int


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel, and whether it works: `look` is a class of the style sheet."""

    name: str
    kind: str
    where: str
    state: str
    look: str
    sent_ago: str
    error: str
    error_ago: str
    waiting: int


def alert_view(alert: Alert, now: float) -> AlertView:
    """Return an alert as the pages show it at `now` (Unix seconds)."""
    return AlertView(
        id=alert.id,
        rule=shortened(alert.rule),
        subject=shortened(alert.subject),
        text=shortened(alert.text),
        severity=alert.severity,
        state=alert.state,
        opened=alert.opened_at,
        opened_ago=ago(now - alert.opened_at),
        seen=alert.last_seen,
        seen_ago=ago(now - alert.last_seen),
        state_since=alert.state_since,
        count=alert.count,
        incident=alert.incident,
    )


def rule_views(alerts: Alerts, project: str) -> list[RuleView]:
    """Return the rules that look at a project."""
    return [
        RuleView(
            name=shortened(rule.name),
            when=in_sentence(rule),
            severity=rule.severity,
            told_by=", ".join(map(shortened, alerts.channels_of(rule.name))) or _NOBODY,
            most_per_hour=rule.most_per_hour,
        )
        for rule in alerts.rules
        if rule.project in (None, project)
    ]


def in_sentence(rule: Rule) -> str:
    """Say when a rule holds."""
    if isinstance(rule, EventsRule):
        return f"at least {rule.threshold:,} {_kind_of_events(rule)} in {in_words(rule.window)}"
    if isinstance(rule, IncidentRule):
        score = f", threat score {rule.least_score} or more" if rule.least_score else ""
        requests = f", {rule.requests:,} requests or more" if rule.requests > 1 else ""
        return f"an incident of {_at_least(rule.least_severity)}{score}{requests}"
    if isinstance(rule, NewPlaceRule):
        return f"a user comes from {'an address' if rule.when == 'new_address' else 'a country'} for the first time"
    if isinstance(rule, SilentAgentRule):
        return f"an agent has reported nothing for {in_words(rule.after)}"
    assert isinstance(rule, AgentTroubleRule)  # noqa: S101  the last kind
    return f"an agent reports {'dead letters' if rule.when == 'dead_letters' else 'an open circuit breaker'}"


def _kind_of_events(rule: EventsRule) -> str:
    stopped = "" if rule.blocked is None else " that were stopped" if rule.blocked else " that were not stopped"
    of = f" of type {shortened(rule.event_type)}" if rule.event_type is not None else ""
    severe = f" of {_at_least(rule.least_severity)}" if rule.least_severity is not None else ""
    return f"events{of}{severe}{stopped}"


def _at_least(band: str) -> str:
    return "high severity" if band == "high" else f"{band} severity or more"


def channel_views(alerts: Alerts, health: Mapping[str, ChannelHealth], now: float) -> list[ChannelView]:
    """Return the channels with how they do at `now` (Unix seconds)."""
    return [
        _channel(name, settings.type, settings.shown, health.get(name, ChannelHealth()), now)
        for name, settings in alerts.channels.items()
    ]


def _channel(name: str, kind: str, where: str, health: ChannelHealth, now: float) -> ChannelView:
    failing = health.error_at is not None and (health.sent_at is None or health.error_at > health.sent_at)
    state, look = ("fails", "failed") if failing else ("works", "healthy")
    if not failing and health.sent_at is None:
        state, look = "nothing sent yet", "idle"
    return ChannelView(
        name=shortened(name),
        kind=kind,
        where=shortened(where),
        state=state,
        look=look,
        sent_ago="never" if health.sent_at is None else ago(now - health.sent_at),
        error=shortened(health.error) if failing else "",
        error_ago="" if health.error_at is None else ago(now - health.error_at),
        waiting=health.waiting,
    )
