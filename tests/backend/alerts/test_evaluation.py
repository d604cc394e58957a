"""When a rule holds, and what it says then."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.alerts.evaluation import (
    MOST_FINDINGS,
    EventCount,
    Figures,
    NewPlace,
    SeenAgent,
    SeenIncident,
    evaluate,
)
from opentelemetry_guard.backend.alerts.rules import (
    AgentTroubleRule,
    EventsRule,
    IncidentRule,
    NewPlaceRule,
    SilentAgentRule,
)
from opentelemetry_guard.delivery.breaker import BreakerState
from opentelemetry_guard.delivery.route import ROUTES
from opentelemetry_guard.delivery.stats import DeliveryStats, RouteStats
from opentelemetry_guard.delivery.status import Reading, assess
from opentelemetry_guard.events.tally import TallyStats
from opentelemetry_guard.queue.base import KINDS, Ledger

NOW = 1_800_000_030.0
MINUTE = int(NOW // 60)


def events_rule(**fields: object) -> EventsRule:
    return EventsRule.model_validate({"name": "r", "when": "events", "threshold": 10, "window": "5m", **fields})


def counts(*given: tuple[int, str, int] | tuple[int, str, int, int]) -> Figures:
    """Events so many minutes ago: type, number, and how many were stopped."""
    return Figures(counts=[EventCount(MINUTE - ago, kind, n, *(more or [0])) for ago, kind, n, *more in given])


def test_enough_events_within_the_window_are_found_and_told() -> None:
    (found,) = evaluate(events_rule(), counts((0, "a", 4), (4, "b", 5), (5, "c", 2)), NOW)
    assert (found.subject, found.count, found.since) == ("", 11, (MINUTE - 5) * 60)
    assert found.text == "11 events in 5 min (threshold 10): b, a, c"


def test_too_few_or_too_old_events_are_not_found() -> None:
    assert evaluate(events_rule(), counts((0, "a", 4), (4, "b", 5), (6, "c", 100)), NOW) == []


def test_events_are_those_of_the_type_or_of_its_beginning() -> None:
    seen = counts((0, "ip_banned", 9), (0, "ip_blocked", 1), (0, "rate_limited", 99))
    assert evaluate(events_rule(event_type="ip_banned"), seen, NOW) == []
    (found,) = evaluate(events_rule(event_type="ip_*"), seen, NOW)
    assert found.count == 10


def test_events_are_at_least_as_severe_as_the_rule_says() -> None:
    seen = counts((0, "penetration_attempt", 9), (0, "rate_limited", 1), (0, "https_enforced", 50))
    assert evaluate(events_rule(least_severity="high"), seen, NOW) == []
    assert evaluate(events_rule(least_severity="medium"), seen, NOW)[0].count == 10


@pytest.mark.parametrize(("blocked", "found"), [(True, 3), (False, 17), (None, 20)])
def test_events_may_be_those_that_were_stopped_or_those_that_were_not(blocked: bool | None, found: int) -> None:
    rule = events_rule(blocked=blocked, threshold=found)
    assert evaluate(rule, counts((0, "a", 20, 3)), NOW)[0].count == found
    assert evaluate(events_rule(blocked=blocked, threshold=found + 1), counts((0, "a", 20, 3)), NOW) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.integers(0, 9)), max_size=20))
def test_all_that_a_finding_rests_on_is_newer_than_it_says(given: list[tuple[int, str, int]]) -> None:
    found = evaluate(events_rule(), counts(*given), NOW)
    total = sum(n for ago, _, n in given if ago <= 5)
    assert bool(found) == (total >= 10)
    for finding in found:
        assert finding.count == total
        newer = [n for ago, _, n in given if (MINUTE - ago) * 60 >= finding.since]
        newest = [n for ago, _, n in given if (MINUTE - ago) * 60 > finding.since]
        assert sum(newer) >= 10 > sum(newest)


def incident(**fields: object) -> SeenIncident:
    known = {"id": 7, "who": "192.0.2.7", "event_types": ("rate_limited", "penetration_attempt"), "severity": 8}
    return SeenIncident(**{**known, "threat_score": 80, "requests": 12, "last_seen": NOW - 5, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "found"),
    [({}, True), ({"requests": 13}, False), ({"least_score": 81}, False), ({"least_score": 80}, True)],
)
def test_an_incident_is_found_by_its_severity_score_and_requests(rule: dict[str, int], found: bool) -> None:
    told = evaluate(IncidentRule(name="r", when="incident", **rule), Figures(incidents=[incident()]), NOW)
    assert [one.incident for one in told] == [7] * found
    assert evaluate(IncidentRule(name="r", when="incident"), Figures(incidents=[incident(severity=6)]), NOW) == []


def test_an_incident_is_told_with_who_and_what() -> None:
    (found,) = evaluate(IncidentRule(name="r", when="incident"), Figures(incidents=[incident()]), NOW)
    assert found.text == "12 requests of 192.0.2.7, threat score 80: rate_limited, penetration_attempt"
    assert (found.subject, found.since) == ("incident 7", NOW - 5)


def test_a_users_new_places_are_told_each_by_its_own_rule() -> None:
    places = [NewPlace("address", "ada", "192.0.2.9", NOW), NewPlace("country", "ada", "NL", NOW - 9)]
    (address,) = evaluate(NewPlaceRule(name="r", when="new_address"), Figures(places=places), NOW)
    (country,) = evaluate(NewPlaceRule(name="r", when="new_country"), Figures(places=places), NOW)
    assert address.text == "The user ada comes from the address 192.0.2.9 for the first time"
    assert (country.subject, country.since) == ("ada from NL", NOW - 9)


def agent(quiet: float = 0, *errors: str, service: str = "shop") -> SeenAgent:
    return SeenAgent("install-1", service, NOW - quiet, errors)


@pytest.mark.parametrize(("quiet", "found"), [(0, 0), (600, 0), (601, 1), (86_399, 1), (86_401, 0)])
def test_an_agent_is_silent_after_its_time_and_at_last_gone(quiet: float, found: int) -> None:
    rule = SilentAgentRule.model_validate({"name": "r", "when": "agent_silent", "after": "10m", "gone_after": "1d"})
    told = evaluate(rule, Figures(agents=[agent(quiet)]), NOW)
    assert [one.since for one in told] == [NOW - quiet + 600] * found


def test_no_agent_is_silent_before_it_could_have_reported() -> None:
    rule = SilentAgentRule.model_validate({"name": "r", "when": "agent_silent", "after": "10m"})
    for listening, found in ((NOW - 599, 0), (NOW - 601, 1)):
        figures = Figures(agents=[agent(7200)], listening_since=listening)
        assert [one.text for one in evaluate(rule, figures, NOW)] == (
            ["shop (install-1) has reported nothing for 2 h"] * found
        )


def test_an_agent_is_called_by_its_service_or_by_its_id() -> None:
    rule = SilentAgentRule(name="r", when="agent_silent")
    told = evaluate(rule, Figures(agents=[agent(1200), agent(7500, service="")]), NOW)
    assert [one.text for one in told] == [
        "shop (install-1) has reported nothing for 20 min",
        "the agent install-1 has reported nothing for 2 h",
    ]


def test_what_a_delivery_says_of_its_dead_letters_and_breakers_is_found() -> None:
    fine = RouteStats(BreakerState.CLOSED, 0, 100.0, None)
    failing = RouteStats(BreakerState.OPEN, 1, 50.0, "503 down for maintenance")
    stats = DeliveryStats(
        {kind: Ledger() for kind in KINDS}, 0, 0, None, dict.fromkeys(ROUTES, fine), TallyStats({}, {})
    )
    reports = {
        "dead_letters": Reading(stats, NOW, 1.0, refused_lately=2),
        "breaker_open": Reading(replace(stats, routes={**stats.routes, "events": failing}), NOW, 1.0),
    }
    for when, reading in reports.items():
        errors = assess(reading).errors
        rule = AgentTroubleRule.model_validate({"name": "r", "when": when})
        (found,) = evaluate(rule, Figures(agents=[agent(0, *errors)]), NOW)
        assert found.text.startswith("shop (install-1): ")
        others = [other for other in reports if other != when]
        for other in others:
            rule = AgentTroubleRule.model_validate({"name": "r", "when": other})
            assert evaluate(rule, Figures(agents=[agent(0, *errors)]), NOW) == []


def test_whatever_a_sender_has_written_is_one_line_of_bounded_length() -> None:
    place = NewPlace("address", "a\r\nBcc: x\u202e" + "W" * 10_000, "\x1b[31m", NOW)
    (found,) = evaluate(NewPlaceRule(name="r", when="new_address"), Figures(places=[place]), NOW)
    assert found.text.isprintable()
    assert len(found.text) < 600


def test_one_look_finds_no_more_than_a_bound() -> None:
    agents = [agent(1000) for _ in range(500)]
    assert len(evaluate(SilentAgentRule(name="r", when="agent_silent"), Figures(agents=agents), NOW)) == MOST_FINDINGS
