"""Rules and channels in the words of their page."""

from __future__ import annotations

import pytest

from opentelemetry_guard.backend.alerts.file import Alerts
from opentelemetry_guard.backend.dashboard.alert_views import channel_views, rule_views
from opentelemetry_guard.backend.storage.alerts import ChannelHealth

NOW = 1_800_000_000.0
EVENTS = {"when": "events", "threshold": 2_000, "window": "5m"}
HOOK = {
    "type": "webhook",
    "url": "https://hooks.example.com/s3cr3t",
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (EVENTS, "at least 2,000 events in 5 min"),
        (
            {**EVENTS, "event_type": "ip_*", "least_severity": "medium", "blocked": False},
            "at least 2,000 events of type ip_* of medium severity or more that were not stopped in 5 min",
        ),
        ({"when": "incident"}, "an incident of high severity"),
        (
            {"when": "incident", "least_severity": "low", "least_score": 50, "requests": 20},
            "an incident of low severity or more, threat score 50 or more, 20 requests or more",
        ),
        ({"when": "new_address"}, "a user comes from an address for the first time"),
        ({"when": "new_country"}, "a user comes from a country for the first time"),
        ({"when": "agent_silent", "after": "2h"}, "an agent has reported nothing for 2 h"),
        ({"when": "dead_letters"}, "an agent reports dead letters"),
        ({"when": "breaker_open"}, "an agent reports an open circuit breaker"),
    ],
)
def test_each_kind_of_rule_has_its_words(rule: dict[str, object], words: str) -> None:
    (view,) = rule_views(Alerts.model_validate({"rules": [{"name": "r", **rule}]}), "shop")
    assert (view.when, view.told_by) == (words, "nobody: it shows here alone")


def test_the_rules_of_a_project_are_its_own_and_those_of_all() -> None:
    rules = [{**EVENTS, "name": name, "project": name} for name in ("shop", "blog")]
    said = Alerts.model_validate({"rules": [*rules, {**EVENTS, "name": "all"}], "channels": {"ops": HOOK}})
    assert [(view.name, view.told_by) for view in rule_views(said, "shop")] == [("shop", "ops"), ("all", "ops")]


@pytest.mark.parametrize(
    ("health", "state", "error"),
    [
        (ChannelHealth(), "nothing sent yet", ""),
        (ChannelHealth(sent_at=NOW - 60), "works", ""),
        (ChannelHealth(sent_at=NOW - 60, error_at=NOW - 90, error="old"), "works", ""),
        (ChannelHealth(sent_at=NOW - 60, error_at=NOW - 30, error="gone", waiting=2), "fails", "gone"),
        (ChannelHealth(error_at=NOW - 30, error="gone"), "fails", "gone"),
    ],
)
def test_a_channel_works_or_fails_by_what_came_last(health: ChannelHealth, state: str, error: str) -> None:
    said = Alerts.model_validate({"rules": [], "channels": {"ops": HOOK}})
    (view,) = channel_views(said, {"ops": health}, NOW)
    assert (view.state, view.error, view.where) == (state, error, "https://hooks.example.com")
