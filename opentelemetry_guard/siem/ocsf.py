"""OCSF 1.8: an event as a class of the Open Cybersecurity Schema Framework.

A request that was judged is an HTTP Activity, a failed logon is an
Authentication, what several requests show together is a Detection Finding, all
three with the Security Control profile; what the guard tells of itself is of
the Application classes. A row that says nothing of a request, whatever its
type, is a Detection Finding, since an HTTP Activity has to name a request or an
answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..events import known
from ..version import __version__
from .facts import Facts, Outcome, facts_of

VERSION = "1.8.0"
"""The release of the schema that `ocsf` follows."""


class EventClass(NamedTuple):
    """A class of OCSF with its category, and the profiles that its events have."""

    uid: int
    name: str
    category_uid: int
    category_name: str
    profiles: tuple[str, ...] = ("security_control",)


HTTP_ACTIVITY = EventClass(4002, "HTTP Activity", 4, "Network Activity", ("security_control", "trace"))
AUTHENTICATION = EventClass(3002, "Authentication", 3, "Identity & Access Management")
DETECTION_FINDING = EventClass(2004, "Detection Finding", 2, "Findings")
APPLICATION_LIFECYCLE = EventClass(6002, "Application Lifecycle", 6, "Application Activity")
APPLICATION_ERROR = EventClass(6008, "Application Error", 6, "Application Activity")

_LOGON, _CREATE, _CLOSE, _GENERAL_ERROR, _ENABLE, _UPDATE, _OTHER = 1, 1, 3, 1, 6, 8, 99

CLASSES: Mapping[str, tuple[EventClass, int]] = {
    "authentication_failed": (AUTHENTICATION, _LOGON),
    "behavioral_violation": (DETECTION_FINDING, _CREATE),
    "ip_unbanned": (DETECTION_FINDING, _CLOSE),
    "detection_engine_callback_error": (APPLICATION_ERROR, _GENERAL_ERROR),
    "geo_lookup_failed": (APPLICATION_ERROR, _GENERAL_ERROR),
    "ip_ban_failed": (APPLICATION_ERROR, _GENERAL_ERROR),
    "pattern_anomaly_slow_execution": (APPLICATION_ERROR, _GENERAL_ERROR),
    "pattern_anomaly_statistical_anomaly": (APPLICATION_ERROR, _GENERAL_ERROR),
    "pattern_anomaly_timeout": (APPLICATION_ERROR, _GENERAL_ERROR),
    "redis_error": (APPLICATION_ERROR, _GENERAL_ERROR),
    "dynamic_rule_applied": (APPLICATION_LIFECYCLE, _UPDATE),
    "dynamic_rule_updated": (APPLICATION_LIFECYCLE, _UPDATE),
    "emergency_mode_activated": (APPLICATION_LIFECYCLE, _ENABLE),
    "pattern_added": (APPLICATION_LIFECYCLE, _UPDATE),
    "pattern_removed": (APPLICATION_LIFECYCLE, _UPDATE),
    "rate_limit_script_reloaded": (APPLICATION_LIFECYCLE, _UPDATE),
    "redis_connection": (APPLICATION_LIFECYCLE, _OTHER),
}
"""The class and activity of each type that is not an HTTP Activity."""

ACTIVITIES: Mapping[str, int] = {
    "CONNECT": 1,
    "DELETE": 2,
    "GET": 3,
    "HEAD": 4,
    "OPTIONS": 5,
    "POST": 6,
    "PUT": 7,
    "TRACE": 8,
    "PATCH": 9,
}
"""The activity of an HTTP Activity, by method."""

_DENIED, _OBSERVED = 2, 3
_BLOCKED, _DETECTED, _LOGGED, _ALERT, _REJECTED = 2, 15, 17, 19, 25

DISPOSITIONS: Mapping[Outcome, tuple[int, int]] = {
    Outcome.BLOCKED: (_DENIED, _BLOCKED),
    Outcome.REJECTED: (_DENIED, _REJECTED),
    Outcome.OBSERVED: (_OBSERVED, _DETECTED),
}
"""The action and the disposition of each outcome."""

_OBSERVED_AS: Mapping[str, int] = {"suspicious_request": _ALERT}
_ALERTS_FROM = 6
_SUCCESS, _FAILURE = 1, 2
_NEW, _RESOLVED = 1, 4
_BEHAVIORAL, _RULE = 2, 1
_IP_ADDRESS, _USER_NAME = 2, 4

SEVERITIES = (1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5)
"""The severity id of each severity from 0 to 10: informational, low, medium, high, critical."""

PRODUCT: Mapping[str, object] = {
    "name": "opentelemetry-guard",
    "vendor_name": "opentelemetry-guard",
    "version": __version__,
}


def class_of(facts: Facts) -> tuple[EventClass, int]:
    """Return the class and the activity of an event."""
    found = CLASSES.get(facts.event_type)
    if found is not None:
        return found
    method = facts.method.upper()
    if not (facts.path or facts.user_agent or facts.status is not None or method in ACTIVITIES):
        return DETECTION_FINDING, _CREATE
    return HTTP_ACTIVITY, ACTIVITIES.get(method, _OTHER if method else 0)


def ocsf(row: Mapping[str, object]) -> dict[str, object]:
    """Return an event's row as an OCSF event."""
    facts = facts_of(row)
    event_class, activity = class_of(facts)
    return _filled(
        {
            "class_uid": event_class.uid,
            "class_name": event_class.name,
            "category_uid": event_class.category_uid,
            "category_name": event_class.category_name,
            "activity_id": activity,
            "type_uid": event_class.uid * 100 + activity,
            "severity_id": SEVERITIES[facts.severity],
            "time": facts.milliseconds,
            "duration": None if facts.duration is None else round(facts.duration * 1000),
            "message": facts.message,
            "metadata": _metadata(facts, event_class),
            "observables": _observables(facts, event_class),
            "status_code": None if facts.status is None else str(facts.status),
            "status_detail": facts.reason,
            **_control(facts),
            **_subject(facts, event_class),
            "unmapped": _unmapped(facts, event_class),
        }
    )


def _metadata(facts: Facts, event_class: EventClass) -> dict[str, object]:
    traced = event_class is HTTP_ACTIVITY and facts.trace_id
    return {
        "version": VERSION,
        "uid": facts.uid,
        "event_code": facts.event_type,
        "correlation_uid": facts.correlation_key,
        "product": PRODUCT,
        "profiles": [name for name in event_class.profiles if name != "trace" or traced],
    }


def _control(facts: Facts) -> dict[str, object]:
    """Return what the Security Control profile adds."""
    action, disposition = DISPOSITIONS[facts.outcome]
    if facts.outcome is Outcome.OBSERVED:
        disposition = _OBSERVED_AS.get(facts.event_type, disposition)
        if facts.behavior == known.OPERATION:
            disposition = _LOGGED
    return {
        "action_id": action,
        "disposition_id": disposition,
        "is_alert": facts.severity >= _ALERTS_FROM,
        "risk_score": facts.threat_score,
        "firewall_rule": _rule(facts),
    }


def _rule(facts: Facts) -> dict[str, object] | None:
    name = facts.rule or facts.pattern
    if not name:
        return None
    return {"name": name, "category": facts.category, "match_details": [facts.pattern] if facts.pattern else None}


def _subject(facts: Facts, event_class: EventClass) -> dict[str, object]:
    """Return what a class has of its own."""
    if event_class is APPLICATION_LIFECYCLE:
        name = facts.service or str(PRODUCT["name"])
        return {"app": {"name": name, "version": facts.service_version, "uid": facts.instance}}
    if event_class is APPLICATION_ERROR:
        return {}
    exchange = {
        "src_endpoint": _source(facts),
        "dst_endpoint": {"svc_name": facts.service, "instance_uid": facts.instance},
        "http_request": _request(facts),
        "http_response": None if facts.status is None else {"code": facts.status},
    }
    if event_class is DETECTION_FINDING:
        return _finding(facts, exchange)
    refused = facts.outcome is not Outcome.OBSERVED or event_class is AUTHENTICATION
    shared = {"status_id": _FAILURE if refused else None, **exchange}
    if event_class is AUTHENTICATION:
        service = facts.service or str(PRODUCT["name"])
        return {**shared, "user": {"name": facts.user or "unknown"}, "service": {"name": service}, "is_remote": True}
    return {**shared, "trace": {"uid": facts.trace_id} if facts.trace_id else None}


def _finding(facts: Facts, exchange: Mapping[str, object]) -> dict[str, object]:
    user = {"name": facts.user} if facts.user else None
    return {
        "status_id": _RESOLVED if facts.event_type == "ip_unbanned" else _NEW,
        "finding_info": {
            "uid": facts.correlation_key or facts.uid,
            "title": facts.message,
            "types": [facts.event_type],
            "analytic": {
                "uid": facts.rule or facts.event_type,
                "name": facts.rule or facts.event_type,
                "type_id": _BEHAVIORAL if facts.behavior == known.PATTERN else _RULE,
            },
        },
        "evidences": [{**exchange, "url": _url(facts), "user": user}] if _has_evidence(facts) else None,
    }


def _has_evidence(facts: Facts) -> bool:
    """Whether an event says something of which OCSF takes one at least for evidence."""
    return bool(facts.ip or facts.client or facts.service or facts.instance or facts.path or facts.user)


def _source(facts: Facts) -> dict[str, object]:
    named = {"ip": facts.ip, "name": facts.client}
    if not (facts.ip or facts.client):
        return {}
    return {**named, "location": {"country": facts.country} if facts.country else None}


def _request(facts: Facts) -> dict[str, object]:
    return {
        "http_method": facts.method.upper() if facts.method.upper() in ACTIVITIES else None,
        "url": _url(facts),
        "user_agent": facts.user_agent,
    }


def _url(facts: Facts) -> dict[str, object] | None:
    return {"path": facts.path, "query_string": facts.query} if facts.path else None


_PLACES: Mapping[EventClass, tuple[str, str]] = {
    HTTP_ACTIVITY: ("src_endpoint.ip", ""),
    AUTHENTICATION: ("src_endpoint.ip", "user.name"),
    DETECTION_FINDING: ("evidences[].src_endpoint.ip", "evidences[].user.name"),
    APPLICATION_LIFECYCLE: ("unmapped.ip_address", ""),
    APPLICATION_ERROR: ("unmapped.ip_address", ""),
}
"""Where a class has the client's address and the user, "" where it has no attribute for it."""


def _observables(facts: Facts, event_class: EventClass) -> list[dict[str, object]]:
    address, user = _PLACES[event_class]
    found = ((address, _IP_ADDRESS, facts.ip), (user, _USER_NAME, facts.user))
    return [{"name": name, "type_id": type_id, "value": value} for name, type_id, value in found if value]


def _unmapped(facts: Facts, event_class: EventClass) -> dict[str, object]:
    """Return what the class has no attribute for, under the names of the row."""
    of_application = event_class in (APPLICATION_LIFECYCLE, APPLICATION_ERROR)
    has_request = not of_application and (event_class is not DETECTION_FINDING or _has_evidence(facts))
    has_source = has_request and bool(facts.ip or facts.client)
    mine: dict[str, object] = {
        "action_taken": facts.action,
        "ip_address": "" if has_source else facts.ip or facts.client,
        "country": "" if has_source else facts.country,
        "endpoint": "" if has_request else facts.endpoint,
        "method": "" if has_request and facts.method.upper() in ACTIVITIES else facts.method,
        "user_agent": "" if has_request else facts.user_agent,
        "decorator_type": facts.decorator,
        "handler_name": facts.handler,
        "recent_event_count": facts.recent_events,
        "service.name": facts.service if event_class is APPLICATION_ERROR else "",
        "service.version": "" if event_class is APPLICATION_LIFECYCLE else facts.service_version,
        "service.instance.id": facts.instance if event_class is APPLICATION_ERROR else "",
        "deployment.environment.name": facts.environment,
        "trace_id": "" if event_class is HTTP_ACTIVITY else facts.trace_id,
        "span_id": facts.span_id,
        "metadata": dict(facts.metadata),
    }
    mine = {name: value for name, value in mine.items() if value not in (None, "", {})}
    # A field of the application's own may have one of these names.
    clashing = {name: value for name, value in facts.extra.items() if name in mine}
    return {**facts.extra, **mine, "extra": clashing} if clashing else {**facts.extra, **mine}


def _filled(values: Mapping[str, object]) -> dict[str, object]:
    """Return a mapping without what says nothing: None, blank text, empty lists and mappings, at any depth of ours."""
    filled: dict[str, object] = {}
    for name, value in values.items():
        kept: object = value
        if name != "unmapped":
            if isinstance(value, Mapping):
                kept = _filled(value)
            elif isinstance(value, list):
                kept = [_filled(item) if isinstance(item, Mapping) else item for item in value]
        if kept is not None and kept not in ("", {}, []):
            filled[name] = kept
    return filled
