"""What a row says, read once for all formats: each fact of one type, "" or None where the row doesn't say it."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum

from ..events import codec
from ..events.enrichment import (
    CORRELATION_KEY,
    DEPLOYMENT_ENVIRONMENT,
    RECENT_EVENT_COUNT,
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    THREAT_SCORE,
)
from ..events.known import FLOODING, OPERATION, is_blocking, meaning_of
from ..events.sentence import sentence

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_LONGEST = 1e9
"""Seconds of a request at most: more is no duration, and has no number in nanoseconds."""

_LONG = range(-(2**63), 2**63)

_USER_KEYS = ("user", "user.id", "enduser.id", "user_id", "user.name", "username")
"""Keys of the metadata that name the user of a request; the first that is there counts."""
_USER_KEY_SET = frozenset(_USER_KEYS)

_READ = frozenset(
    {
        *(CORRELATION_KEY, DEPLOYMENT_ENVIRONMENT, RECENT_EVENT_COUNT, SERVICE_INSTANCE_ID, SERVICE_NAME),
        *(SERVICE_VERSION, THREAT_SCORE, "trace_id", "span_id"),
    }
)
"""Keys of the metadata that are facts of their own."""


class Outcome(Enum):
    """What became of a request, as far as its event says."""

    BLOCKED = "blocked"
    REJECTED = "rejected"
    """Turned away for now: the client may come again."""
    OBSERVED = "observed"


@dataclass(frozen=True, slots=True)
class Facts:
    """One event. Times are in UTC, `duration` is in seconds, `severity` and scores are numbers up to 10 and 100."""

    uid: str
    time: datetime
    event_type: str
    severity: int
    behavior: str
    outcome: Outcome
    message: str
    reason: str
    action: str
    ip: str
    """The client's address, where it is one."""
    client: str
    """What stands for the client's address, where that is no address: hashed, or a name."""
    country: str
    endpoint: str
    """The path with its query, or the template of a route."""
    path: str
    query: str
    method: str
    status: int | None
    user_agent: str
    duration: float | None
    rule: str
    category: str
    """The kind of threat."""
    pattern: str
    """What of the rule has matched."""
    decorator: str
    handler: str
    user: str
    trace_id: str
    span_id: str
    service: str
    service_version: str
    environment: str
    instance: str
    threat_score: int | None
    correlation_key: str
    recent_events: int | None
    metadata: Mapping[str, object]
    """What of the metadata is no fact of its own."""
    extra: Mapping[str, object]
    """Fields that the contract doesn't name."""

    @property
    def milliseconds(self) -> int:
        """The time in milliseconds since 1970."""
        return round((self.time - _EPOCH).total_seconds() * 1000)


def facts_of(row: Mapping[str, object]) -> Facts:
    """Return the facts of an event's row; what has a type that the contract doesn't allow is left out."""
    given = row.get("metadata")
    metadata: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    event_type, action = _text(row, "event_type") or "unknown", _text(row, "action_taken")
    ip, client = _client(_text(row, "ip_address"))
    endpoint = _text(row, "endpoint")
    path, _, query = endpoint.partition("?")
    severity, behavior = meaning_of(event_type)
    return Facts(
        uid=_text(row, "idempotency_key"),
        time=codec.parse_timestamp(row.get("timestamp")) or _EPOCH,
        event_type=event_type,
        severity=severity,
        behavior=behavior,
        outcome=_outcome(behavior, action),
        message=_sentence(row, event_type),
        reason=_text(row, "reason"),
        action=action,
        ip=ip,
        client=client,
        country=_text(row, "country"),
        endpoint=endpoint,
        path=path or endpoint,
        query=query,
        method=_text(row, "method"),
        status=_whole(row, "status_code"),
        user_agent=_text(row, "user_agent"),
        duration=_duration(row.get("response_time")),
        rule=_text(row, "rule_type"),
        category=_text(metadata, "category"),
        pattern=_text(row, "pattern_matched"),
        decorator=_text(row, "decorator_type"),
        handler=_text(row, "handler_name"),
        user=user_of(metadata),
        trace_id=_text(metadata, "trace_id"),
        span_id=_text(metadata, "span_id"),
        service=_text(metadata, SERVICE_NAME),
        service_version=_text(metadata, SERVICE_VERSION),
        environment=_text(metadata, DEPLOYMENT_ENVIRONMENT),
        instance=_text(metadata, SERVICE_INSTANCE_ID),
        threat_score=_whole(metadata, THREAT_SCORE),
        correlation_key=_text(metadata, CORRELATION_KEY),
        recent_events=_whole(metadata, RECENT_EVENT_COUNT),
        metadata={key: value for key, value in metadata.items() if key not in _READ},
        extra={key: value for key, value in row.items() if key not in codec.FIELDS},
    )


def _sentence(row: Mapping[str, object], event_type: str) -> str:
    texts = {name: _text(row, name) for name in ("method", "endpoint", "ip_address", "action_taken", "reason")}
    return sentence({**texts, "event_type": event_type})


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def user_of(metadata: Mapping[str, object]) -> str:
    """Return the user that an event's metadata name, "" where they name none."""
    # Most events name nobody, and this is asked of each.
    if _USER_KEY_SET.isdisjoint(metadata):
        return ""
    return next((found for key in _USER_KEYS if (found := _name(metadata.get(key)))), "")


def _name(value: object) -> str:
    """Return what somebody is called: many applications have numbers for their users."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _whole(values: Mapping[str, object], name: str) -> int | None:
    value = values.get(name)
    if isinstance(value, float) and math.isfinite(value):
        value = round(value)
    # Within 64 bits: no reader has a type for more, nor has the encoder of JSON.
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _LONG else None


def _duration(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return abs(float(value))  # minus nothing is nothing
    return None


def _client(address: str) -> tuple[str, str]:
    """Return an address as an IP address or as something else, the other one being blank."""
    try:
        # What follows a percent sign is the name of an interface, which means nothing elsewhere.
        return str(ipaddress.ip_address(address.partition("%")[0])), ""
    except ValueError:
        return "", address


def _outcome(behavior: str, action: str) -> Outcome:
    if behavior == OPERATION or not is_blocking(action):
        return Outcome.OBSERVED
    return Outcome.REJECTED if behavior == FLOODING else Outcome.BLOCKED
