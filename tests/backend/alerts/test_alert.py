"""What becomes of an alert while its cause goes on, ends and comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.alerts.alert import MOST_OPEN, Alert, after, opened, to_tell
from opentelemetry_guard.backend.alerts.evaluation import Finding
from opentelemetry_guard.backend.alerts.rules import SilentAgentRule
from opentelemetry_guard.backend.storage.incidents import ACKNOWLEDGED, CLOSED, OPEN

NOW = 1_800_000_000.0
RULE = SilentAgentRule(name="silent", when="agent_silent", severity="high")


def finding(subject: str = "a", count: int = 1, since: float = NOW - 60) -> Finding:
    return Finding(subject, f"{subject} is silent", count, since)


ALERT = replace(opened("p", RULE, finding(), NOW), id=7, waiting=False)


def test_what_is_found_first_is_open_and_waits_to_be_told() -> None:
    (alert,) = after("p", RULE, [], [finding()], NOW)
    assert (alert.state, alert.waiting, alert.opened_at, alert.severity) == (OPEN, True, NOW, "high")


@pytest.mark.parametrize("state", [OPEN, ACKNOWLEDGED])
def test_what_goes_on_is_the_same_alert_and_nobody_is_told_again(state: str) -> None:
    known = replace(ALERT, state=state)
    (alert,) = after("p", RULE, [known], [finding(count=5, since=NOW + 5)], NOW + 15)
    assert alert == replace(known, count=5, last_seen=NOW + 15)


@pytest.mark.parametrize(("since", "state"), [(NOW - 60, CLOSED), (NOW + 10, CLOSED), (NOW + 11, OPEN)])
def test_a_closed_one_is_opened_by_what_is_newer_than_its_end_alone(since: float, state: str) -> None:
    closed = replace(ALERT, state=CLOSED, state_since=NOW + 10)
    (alert,) = after("p", RULE, [closed], [finding(since=since)], NOW + 15)
    assert (alert.state, alert.waiting, alert.id) == (state, state == OPEN, 7)
    assert alert.opened_at == (NOW + 15 if state == OPEN else NOW)


def test_no_more_than_a_bound_are_open_at_once() -> None:
    known = [replace(ALERT, id=n, subject=str(n)) for n in range(MOST_OPEN - 1)]
    changed = after("p", RULE, known, [finding("x"), finding("y"), finding("5")], NOW)
    assert [alert.subject for alert in changed] == ["x", "5"]


def waiting(count: int) -> list[Alert]:
    return [replace(ALERT, id=number, waiting=True) for number in range(count)]


def test_what_has_no_room_in_the_hour_is_counted_in_the_last_that_has() -> None:
    told = to_tell(waiting(10), told_lately=3, most_per_hour=6)
    assert [(alert.id, more) for alert, more in told] == [(0, 0), (1, 0), (2, 7)]
    assert to_tell(waiting(10), told_lately=6, most_per_hour=6) == []


@given(st.integers(0, 50), st.integers(0, 70), st.integers(1, 60))
def test_each_alert_is_told_or_counted_once_as_soon_as_there_is_room(count: int, lately: int, most: int) -> None:
    told = to_tell(waiting(count), lately, most)
    assert len(told) <= max(0, most - lately)
    if told:
        assert len(told) + sum(more for _, more in told) == count
    else:
        assert count == 0 or lately >= most
