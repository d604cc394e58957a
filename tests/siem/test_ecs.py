"""Every event is a document of ECS: its fields are those of the schema, or `guard`'s own, with the right types.

`ecs_fields.json` says where its list of fields is from.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from siem.rows import bare, every_known, full, hostile

from opentelemetry_guard.events.known import KNOWN
from opentelemetry_guard.siem import ecs as module
from opentelemetry_guard.siem.ecs import ecs

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "ecs_fields.json").read_text())
FIELDS: dict[str, dict[str, Any]] = SCHEMA["fields"]

_LONG = range(-(2**63), 2**63)


def _is_ip(value: object) -> bool:
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        return False
    return isinstance(value, str)


def _is_date(value: object) -> bool:
    return isinstance(value, str) and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None


_TYPES = {
    "keyword": lambda value: isinstance(value, str),
    "wildcard": lambda value: isinstance(value, str),
    "match_only_text": lambda value: isinstance(value, str),
    "long": lambda value: type(value) is int and value in _LONG,
    "float": lambda value: isinstance(value, float),
    "ip": _is_ip,
    "date": _is_date,
}


def _flat(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        field = f"{before}{name}"
        if isinstance(item, dict) and not field.startswith("guard"):
            yield from _flat(item, f"{field}.")
        else:
            yield field, item


def errors(document: dict[str, Any]) -> list[str]:
    """Return what the schema has against a document."""
    flat = dict(_flat(document))
    wrong: list[str] = []
    for field, value in flat.items():
        if field == "guard":
            continue
        known = FIELDS.get(field)
        if known is None:
            wrong.append(f"{field} is no field of ECS")
            continue
        if bool(known.get("array")) is not isinstance(value, list):
            wrong.append(f"{field} is or is not a list: {value!r}")
        for item in value if isinstance(value, list) else [value]:
            if not _TYPES[known["type"]](item):
                wrong.append(f"{field} is no {known['type']}: {item!r}")
            if "allowed" in known and item not in known["allowed"]:
                wrong.append(f"{field} can't be {item!r}")
    expected = FIELDS["event.category"]["types"]
    types = {kind for category in flat["event.category"] for kind in expected[category]}
    wrong += [f"event.type {kind} goes with none of the categories" for kind in flat["event.type"] if kind not in types]
    return wrong


def test_every_known_type_with_every_action_is_valid() -> None:
    found = {str(row["event_type"]): wrong for row in every_known() if (wrong := errors(ecs(row)))}
    assert found == {}


def test_the_check_refuses_what_is_wrong() -> None:
    document: dict[str, Any] = ecs(full("penetration_attempt"))
    assert errors({**document, "made": {"up": 1}}) == ["made.up is no field of ECS"]
    assert errors({**document, "source": {"ip": "ip-hmac-0"}})
    assert errors({**document, "event": {**document["event"], "kind": "alarm"}})
    assert errors({**document, "event": {**document["event"], "category": ["web"]}})


@settings(max_examples=60, deadline=None)
@given(hostile())
def test_whatever_a_row_holds_is_valid(row: dict[str, Any]) -> None:
    assert errors(ecs(row)) == []


def test_the_release_is_that_of_the_list() -> None:
    assert SCHEMA["version"] == module.VERSION
    assert module.KINDS_OF_TYPES.keys() <= KNOWN.keys()


@pytest.mark.parametrize(
    ("event_type", "action", "kind", "category", "kind_of_event", "outcome"),
    [
        ("penetration_attempt", "request_blocked", "alert", ["web", "intrusion_detection"], "denied", "failure"),
        ("penetration_attempt", "logged_only", "alert", ["web", "intrusion_detection"], "info", "unknown"),
        ("ip_banned", "banned", "alert", ["intrusion_detection", "network"], "denied", "success"),
        ("ip_blocked", "request_blocked", "event", ["web", "network"], "denied", "failure"),
        ("rate_limited", "request_blocked", "event", ["web", "network"], "denied", "failure"),
        ("authentication_failed", "logged", "event", ["authentication"], "start", "failure"),
        ("behavioral_violation", "logged", "alert", ["intrusion_detection"], "info", "unknown"),
        ("redis_error", "operation_failed", "event", ["configuration"], "info", "failure"),
    ],
)
def test_the_categories(
    event_type: str, action: str, kind: str, category: list[str], kind_of_event: str, outcome: str
) -> None:
    event: dict[str, Any] = ecs(full(event_type, action))["event"]  # type: ignore[assignment]
    assert (event["kind"], event["category"], event["type"], event["outcome"]) == (
        kind,
        category,
        [kind_of_event],
        outcome,
    )


def test_the_fields_of_a_document() -> None:
    found = dict(_flat(ecs(full("penetration_attempt"))))
    assert found["@timestamp"] == "2026-03-04T12:34:56.789012Z"
    assert found["event.id"] == "0197a1b2-c3d4-7e5f-8a6b-1c2d3e4f5a6b"
    assert found["event.duration"] == 250_000_000
    assert found["event.risk_score"] == 83.0
    assert (found["source.ip"], found["source.geo.country_iso_code"]) == ("203.0.113.7", "NL")
    assert (found["url.path"], found["url.query"]) == ("/search", "q=1")
    assert (found["http.request.method"], found["http.response.status_code"]) == ("GET", 403)
    assert (found["service.name"], found["service.environment"]) == ("shop", "production")
    assert found["trace.id"] == "af7651916cd43dd8448eb211c80319c0"
    assert found["guard"]["metadata"] == {"user": "42", "category": "injection", "depth": {"of": ["things"]}}


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def test_what_a_flattened_field_refuses_is_replaced() -> None:
    deep: Any = "bottom"
    for _ in range(24):
        deep = [{"a\0b": deep}]
    guard: Any = ecs({**bare("ip_blocked"), "metadata": {"deep": deep, "\0": 1}, "\0own": {"\0": [{"\0": 2}]}})["guard"]
    assert _depth(guard["metadata"]) < 20
    assert "\0" not in str(guard)
    assert "bottom" in str(guard)
    assert guard["metadata"]["\ufffd"] == 1
    assert guard["extra"] == {"\ufffdown": {"\ufffd": [{"\ufffd": 2}]}}


def test_a_hashed_address_is_no_ip() -> None:
    row = {**full("ip_blocked"), "ip_address": "ip-hmac-" + "0" * 32}
    source: dict[str, Any] = ecs(row)["source"]  # type: ignore[assignment]
    assert source["address"] == row["ip_address"]
    assert "ip" not in source
