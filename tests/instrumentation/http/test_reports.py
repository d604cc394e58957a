"""What guard-core reports about one request, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.instrumentation.http.reports import Report, fold, is_about_request

ADDRESS = "203.0.113.7"
TYPES = (
    "ip_banned",
    "penetration_attempt",
    "pattern_detected",
    "rate_limited",
    "decorator_violation",
    "ip_blocked",
    "user_agent_blocked",
)


def report(event_type: str, ip_address: str = ADDRESS, metadata: object = None, **fields: object) -> Report:
    return {"event_type": event_type, "ip_address": ip_address, "metadata": metadata or {}, **fields}


def folded(*reports: Report) -> list[dict[str, Any]]:
    return [incident.report for incident in fold(reports)]


def test_a_detection_is_told_by_the_decision_with_what_the_detection_knew() -> None:
    (told,) = folded(
        report("pattern_detected", endpoint=None, pattern_matched="union", metadata={"threat_score": 1.0}),
        report("penetration_attempt", endpoint="/items", metadata={"request_count": 1}),
    )
    assert told["event_type"] == "penetration_attempt"
    assert (told["endpoint"], told["pattern_matched"]) == ("/items", "union")
    assert told["metadata"] == {"request_count": 1, "threat_score": 1.0}


def test_a_ban_tells_of_the_detection_that_led_to_it() -> None:
    (told,) = folded(
        report("pattern_detected", pattern_matched="union"),
        report("pattern_detected", pattern_matched="select"),
        report("ip_banned", metadata={"duration": 60}),
    )
    assert (told["event_type"], told["pattern_matched"], told["metadata"]) == ("ip_banned", "union", {"duration": 60})


def test_what_matched_belongs_to_the_decision_whose_client_is_behind_the_peer() -> None:
    (told,) = folded(
        report("pattern_detected", ip_address="127.0.0.1", pattern_matched="union"),
        report("penetration_attempt"),
    )
    assert (told["event_type"], told["ip_address"]) == ("penetration_attempt", ADDRESS)
    assert told["pattern_matched"] == "union"


def test_a_rate_limit_that_limiter_and_decorator_report_is_told_once() -> None:
    (told,) = folded(
        report("rate_limited", endpoint="/scarce", metadata={"request_count": 3}),
        report("rate_limited", endpoint="/scarce", decorator_type="rate_limiting", metadata={"limit": 2}),
    )
    assert told["decorator_type"] == "rate_limiting"
    assert told["metadata"] == {"request_count": 3, "limit": 2}


def test_a_rate_limit_of_a_dynamic_rule_is_told_as_a_rate_limit() -> None:
    (told,) = folded(
        report("dynamic_rule_violation", rule_type="endpoint_rate_limit"),
        report("rate_limited"),
    )
    assert (told["event_type"], told["rule_type"]) == ("rate_limited", "endpoint_rate_limit")


def test_different_violations_of_one_request_are_different_incidents() -> None:
    told = folded(
        report("decorator_violation", metadata={"violation_type": "require_https"}),
        report("decorator_violation", metadata={"violation_type": "suspicious_detection_disabled"}),
        report("user_agent_blocked"),
    )
    assert len(told) == 3


def test_reports_about_different_addresses_are_different_incidents() -> None:
    told = folded(report("ip_banned", "198.51.100.1"), report("penetration_attempt", "198.51.100.2"))
    assert [incident["ip_address"] for incident in told] == ["198.51.100.1", "198.51.100.2"]


def test_guard_cores_own_working_is_not_about_a_request() -> None:
    assert is_about_request(report("ip_blocked"))
    assert not is_about_request(report("redis_error", "system"))
    assert not is_about_request(report("security_headers_applied", ""))


REPORTS = st.lists(
    st.builds(
        report,
        st.sampled_from(TYPES),
        st.sampled_from(["203.0.113.7", "203.0.113.8"]),
        st.sampled_from([{}, {"violation_type": "rate_limit"}, {"violation_type": ["odd"]}, "odd", None]),
    ),
    max_size=12,
)


@given(REPORTS)
def test_folding_keeps_every_address_and_has_nothing_left_to_fold(reports: list[Report]) -> None:
    once = fold(reports)
    given = {given["ip_address"] for given in reports}
    # A match alone is about its address; with a decision, it is about the decision's.
    kept = {given["ip_address"] for given in reports if given["event_type"] != "pattern_detected"}
    assert kept <= {told.report["ip_address"] for told in once} <= given
    assert len(fold([told.report for told in once])) == len(once)
    for told in once:
        assert told.report["event_type"] == reports[told.position]["event_type"]


@pytest.mark.parametrize("named", ["violation_type", "decorator_type"])
@pytest.mark.parametrize("rule", ["usage", "frequency", "return_pattern"])
@pytest.mark.parametrize("banned", [False, True])
def test_a_violated_rule_of_behavior_is_one_incident(named: str, rule: str, banned: bool) -> None:
    client = {"ip_address": "203.0.113.7"}
    reports: list[dict[str, object]] = [
        {**client, "event_type": "decorator_violation", "endpoint": "/x", "metadata": {named: rule, "threshold": 3}}
    ]
    if banned:
        reports.append({**client, "event_type": "ip_banned", "reason": "behavioral_violation", "metadata": {}})
    reports.append({**client, "event_type": "behavioral_violation", "rule_type": rule, "metadata": {"window": 60}})
    ((report, _),) = fold(reports)
    assert report["event_type"] == ("ip_banned" if banned else "behavioral_violation")
    assert report["endpoint"] == "/x"
    assert report["metadata"] == {named: rule, "threshold": 3, "window": 60}


def test_two_violated_rules_of_behavior_and_an_attack_are_three_incidents() -> None:
    client = {"ip_address": "203.0.113.7"}
    reports: list[dict[str, object]] = [
        {**client, "event_type": "penetration_attempt"},
        *(
            {**client, "event_type": kind, "rule_type": rule}
            for rule in ("usage", "frequency")
            for kind in ("decorator_violation", "behavioral_violation")
        ),
    ]
    assert [report["event_type"] for report, _ in fold(reports)] == [
        "penetration_attempt",
        *["behavioral_violation"] * 2,
    ]
