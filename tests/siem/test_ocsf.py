"""Every event is an event of OCSF, by the JSON schema of its class in the release that it names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from siem.rows import bare, every_known, full, hostile

from opentelemetry_guard.events.codec import Row, complete
from opentelemetry_guard.events.known import KNOWN
from opentelemetry_guard.siem import ocsf as module
from opentelemetry_guard.siem.ocsf import ocsf


@cache
def _schemas() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(version=module.VERSION))


@cache
def _validator(class_uid: int, profiles: tuple[str, ...]) -> Draft202012Validator:
    name = _schemas().lookup_class_name_from_uid(class_uid)
    return Draft202012Validator(_schemas().get_class_schema(name, list(profiles)))


def errors(event: dict[str, Any]) -> list[str]:
    """Return what the schema, which allows no attribute that it doesn't name, has against an event."""
    validator = _validator(event["class_uid"], tuple(event["metadata"]["profiles"]))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(event)]


def test_every_known_type_with_every_action_is_valid() -> None:
    found = {str(row["event_type"]): wrong for row in every_known() if (wrong := errors(ocsf(row)))}
    assert found == {}


def test_the_schema_refuses_what_is_wrong() -> None:
    event: dict[str, Any] = ocsf(full("penetration_attempt"))
    assert errors({**event, "severity_id": 77})
    assert errors({**event, "made_up": 1})
    assert errors({name: value for name, value in event.items() if name != "time"})


@settings(max_examples=60, deadline=None)
@given(hostile())
def test_whatever_a_row_holds_is_valid(row: dict[str, Any]) -> None:
    assert errors(ocsf(row)) == []


@pytest.mark.parametrize(
    ("event_type", "action", "class_uid", "activity", "control"),
    [
        ("penetration_attempt", "request_blocked", 4002, 3, (2, 2)),
        ("penetration_attempt", "logged_only", 4002, 3, (3, 15)),
        ("ip_banned", "banned", 4002, 3, (2, 2)),
        ("country_blocked", "request_blocked", 4002, 3, (2, 2)),
        ("rate_limited", "request_blocked", 4002, 3, (2, 25)),
        ("authentication_failed", "logged", 3002, 1, (3, 15)),
        ("suspicious_request", "logged", 4002, 3, (3, 19)),
        ("behavioral_violation", "logged", 2004, 1, (3, 15)),
        ("redis_error", "operation_failed", 6008, 1, (3, 17)),
    ],
)
def test_class_activity_and_disposition(
    event_type: str, action: str, class_uid: int, activity: int, control: tuple[int, int]
) -> None:
    event = ocsf(full(event_type, action))
    assert (event["class_uid"], event["activity_id"]) == (class_uid, activity)
    assert event["type_uid"] == class_uid * 100 + activity
    assert (event["action_id"], event["disposition_id"]) == control


def test_the_fields_of_an_http_activity() -> None:
    event: dict[str, Any] = ocsf(full("penetration_attempt"))
    assert event["time"] == 1772627696789
    assert event["metadata"]["uid"] == "0197a1b2-c3d4-7e5f-8a6b-1c2d3e4f5a6b"
    assert event["metadata"]["correlation_uid"] == "0f1e2d3c4b5a6978"
    assert event["src_endpoint"] == {"ip": "203.0.113.7", "location": {"country": "NL"}}
    assert event["http_request"] == {
        "http_method": "GET",
        "url": {"path": "/search", "query_string": "q=1"},
        "user_agent": "sqlmap/1.9",
    }
    assert event["http_response"] == {"code": 403}
    assert event["firewall_rule"] == {
        "name": "sql_injection",
        "category": "injection",
        "match_details": ["union select"],
    }
    assert event["message"] == "GET /search?q=1 from 203.0.113.7 request_blocked: SQL injection"
    assert event["risk_score"] == 83
    assert event["dst_endpoint"] == {"svc_name": "shop", "instance_uid": "pod-7"}
    assert event["trace"] == {"uid": "af7651916cd43dd8448eb211c80319c0"}
    assert event["unmapped"]["metadata"] == {"user": "42", "category": "injection", "depth": {"of": ["things"]}}
    assert event["unmapped"]["tenant"] == "north"


EVERYTHING: Row = {
    "idempotency_key": "0197a1b2-c3d4-7e5f-8a6b-1c2d3e4f5a6b",
    "ip_address": "203.0.113.77",
    "country": "QZ",
    "user_agent": "an-agent",
    "action_taken": "an-action-blocked",
    "reason": "a-reason",
    "endpoint": "/a-path?a-query",
    "method": "PUT",
    "status_code": 41877,
    "decorator_type": "a-decorator",
    "rule_type": "a-rule",
    "pattern_matched": "a-pattern",
    "handler_name": "a-handler",
    "tenant": "a-tenant",
    "metadata": {
        "guard.behavior.correlation_key": "a-correlation",
        "guard.behavior.recent_event_count": 98765,
        "guard.service.name": "a-service",
        "guard.service.version": "a-version",
        "guard.service.instance.id": "an-instance",
        "guard.deployment.environment": "an-environment",
        "user": "a-user",
        "category": "a-category",
        "trace_id": "a-trace",
        "span_id": "a-span",
    },
}
"""A row of which each value is like nothing else."""


def _values(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _values(item)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item)
    else:
        yield str(value)


@pytest.mark.parametrize("address", ["203.0.113.77", ""])
@pytest.mark.parametrize("service", ["a-service", ""])
def test_nothing_that_a_row_says_is_left_out_of_any_class(address: str, service: str) -> None:
    metadata: Any = EVERYTHING["metadata"]
    row = {**EVERYTHING, "ip_address": address, "metadata": {**metadata, "guard.service.name": service}}
    for event_type in KNOWN:
        event = ocsf(complete({**row, "event_type": event_type, "timestamp": "2026-03-04T12:34:56Z"}))
        told = set(_values({name: value for name, value in event.items() if name != "message"}))
        said = set(_values(row)) - {"", "/a-path?a-query", "PUT", "False"}
        missing = {value for value in said if not any(value in each for each in told)}
        assert missing == set(), event_type
        assert "a-path" in str(told), event_type
        assert errors(event) == []


def test_a_field_of_the_application_that_has_a_name_of_ours_is_kept_beside_it() -> None:
    unmapped: Any = ocsf({**full("ip_blocked"), "span_id": "theirs", "service.version": "theirs", "trace_id": "7"})[
        "unmapped"
    ]
    assert unmapped["extra"] == {"span_id": "theirs", "service.version": "theirs"}
    assert (unmapped["span_id"], unmapped["service.version"]) == ("b7ad6b7169203331", "1.2.3")
    assert unmapped["trace_id"] == "7"  # ours has an attribute


def _found(event: Any, path: str) -> Any:
    for part in path.split("."):
        event = event[part.removesuffix("[]")]
        if part.endswith("[]"):
            (event,) = event
    return event


def test_what_an_observable_is_called_is_where_it_is_in_the_event() -> None:
    for row in every_known():
        event: Any = ocsf(row)
        for observable in event.get("observables", []):
            if "name" in observable:
                assert _found(event, observable["name"]) == observable["value"], row["event_type"]


def test_a_finding_joins_what_belongs_together() -> None:
    event: dict[str, Any] = ocsf(full("behavioral_violation", "logged"))
    assert event["finding_info"]["uid"] == event["metadata"]["correlation_uid"] == "0f1e2d3c4b5a6978"


def test_an_event_without_a_request_is_no_http_activity() -> None:
    assert ocsf(bare("penetration_attempt"))["class_uid"] == 2004


def test_every_table_names_known_types_alone() -> None:
    assert module.CLASSES.keys() <= KNOWN.keys()
