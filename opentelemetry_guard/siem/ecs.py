"""ECS 9: an event as a document of the Elastic Common Schema.

What the schema has no field for lies under ``guard``; `guard.metadata` and
`guard.extra` want the field type `flattened`, since their keys are the
application's. Elasticsearch refuses a document for what such a field can't
hold, which a client might bring about to hide: so that is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from ..events import codec, known
from .facts import Facts, Outcome, facts_of

VERSION = "9.4.0"
"""The release of the schema that `ecs` follows."""


_MOST_DEPTH = 16
"""Objects within one another: `flattened` takes 20 of them."""


class Kind(NamedTuple):
    """How ECS categorizes an event: `event.kind`, and the values of `event.category`."""

    kind: str
    category: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    known.ATTACK: Kind("alert", ("web", "intrusion_detection")),
    known.LOGON: Kind("event", ("authentication",)),
    known.FLOODING: Kind("event", ("web", "network")),
    known.REFUSED: Kind("event", ("web", "network")),
    known.MISUSE: Kind("event", ("web", "network")),
    known.PATTERN: Kind("alert", ("intrusion_detection",)),
    known.OPERATION: Kind("event", ("configuration",)),
}
"""The kind of each behaviour; one of the application's own is an event of the web."""

KINDS_OF_TYPES: Mapping[str, Kind] = {
    "ip_banned": Kind("alert", ("intrusion_detection", "network")),
    "ip_unbanned": Kind("event", ("network",)),
}
"""The kind of types that differ from their behaviour."""

_OWN = Kind("event", ("web", "network"))

TYPES: Mapping[Outcome, str] = {
    Outcome.BLOCKED: "denied",
    Outcome.REJECTED: "denied",
    Outcome.OBSERVED: "info",
}
"""The value of `event.type` by outcome; a failed logon is a ``start``, what the guard tells of itself ``info``."""

_LEVELS = ("info",) * 2 + ("warning",) * 5 + ("error",) * 4
_FAILURES = frozenset({"ip_ban_failed", "redis_error", "detection_engine_callback_error", "geo_lookup_failed"})

FIELDS: Mapping[str, Callable[[Facts], object]] = {
    "@timestamp": lambda facts: codec.format_timestamp(facts.time),
    "ecs.version": lambda _: VERSION,
    "message": lambda facts: facts.message,
    "log.level": lambda facts: _LEVELS[facts.severity],
    "event.id": lambda facts: facts.uid,
    "event.kind": lambda facts: _kind(facts).kind,
    "event.category": lambda facts: list(_kind(facts).category),
    "event.type": lambda facts: [_type(facts)],
    "event.action": lambda facts: facts.event_type,
    "event.outcome": lambda facts: _outcome(facts),
    "event.reason": lambda facts: facts.reason,
    "event.severity": lambda facts: facts.severity,
    "event.risk_score": lambda facts: None if facts.threat_score is None else float(facts.threat_score),
    "event.duration": lambda facts: None if facts.duration is None else round(facts.duration * 1e9),
    "event.module": lambda _: "guard",
    "event.dataset": lambda _: "guard.security_event",
    "source.ip": lambda facts: facts.ip,
    "source.address": lambda facts: facts.ip or facts.client,
    "source.geo.country_iso_code": lambda facts: facts.country,
    "related.ip": lambda facts: [facts.ip] if facts.ip else None,
    "url.path": lambda facts: facts.path,
    "url.query": lambda facts: facts.query,
    "http.request.method": lambda facts: facts.method,
    "http.response.status_code": lambda facts: facts.status,
    "user_agent.original": lambda facts: facts.user_agent,
    "user.name": lambda facts: facts.user,
    "rule.name": lambda facts: facts.rule,
    "rule.description": lambda facts: facts.pattern,
    "rule.category": lambda facts: facts.category,
    "trace.id": lambda facts: facts.trace_id,
    "span.id": lambda facts: facts.span_id,
    "service.name": lambda facts: facts.service,
    "service.version": lambda facts: facts.service_version,
    "service.environment": lambda facts: facts.environment,
    "service.node.name": lambda facts: facts.instance,
    "observer.vendor": lambda _: "opentelemetry-guard",
    "observer.type": lambda _: "waf",
    "guard.action_taken": lambda facts: facts.action,
    "guard.decorator_type": lambda facts: facts.decorator,
    "guard.handler_name": lambda facts: facts.handler,
    "guard.correlation_key": lambda facts: facts.correlation_key,
    "guard.recent_event_count": lambda facts: facts.recent_events,
    "guard.metadata": lambda facts: _flattened(facts.metadata),
    "guard.extra": lambda facts: _flattened(facts.extra),
}
"""Each field of a document, and the fact that it tells; what is None, blank or empty is left out."""


def ecs(row: Mapping[str, object]) -> dict[str, object]:
    """Return an event's row as a document of ECS, in nested objects."""
    facts = facts_of(row)
    document: dict[str, object] = {}
    for name, read in FIELDS.items():
        value = read(facts)
        if value is None or value in ("", {}):
            continue
        place = document
        *sets, field = name.split(".")
        for part in sets:
            inner = place.setdefault(part, {})
            assert isinstance(inner, dict)  # noqa: S101  no field is the beginning of another one
            place = inner
        place[field] = value
    return document


def _flattened(value: object, depth: int = _MOST_DEPTH) -> object:
    """Return a value as a field of the type `flattened` holds it: not too deep, and with no NUL in its keys."""
    if not isinstance(value, (Mapping, list)):
        return value
    if not depth:
        return orjson.dumps(value).decode()
    if isinstance(value, list):
        return [_flattened(item, depth - 1) for item in value]
    return {key.replace("\0", "\ufffd"): _flattened(item, depth - 1) for key, item in value.items()}


def _kind(facts: Facts) -> Kind:
    return KINDS_OF_TYPES.get(facts.event_type) or KINDS.get(facts.behavior, _OWN)


def _type(facts: Facts) -> str:
    if facts.behavior == known.LOGON:
        return "start"
    return "info" if facts.behavior == known.OPERATION else TYPES[facts.outcome]


def _outcome(facts: Facts) -> str:
    """Return how it went for what the event is about: the request, or the guard's own deed."""
    if facts.behavior == known.OPERATION or facts.event_type == "ip_banned":
        return "failure" if facts.event_type in _FAILURES else "success"
    if facts.behavior == known.LOGON or facts.outcome is not Outcome.OBSERVED:
        return "failure"
    return "unknown"
