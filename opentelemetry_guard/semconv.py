"""Attribute, event and instrument names: the one place where a name is spelled.

Stable OpenTelemetry semantic conventions come first; what they have no name
for lives under ``guard.``.
"""

from __future__ import annotations

from dataclasses import dataclass

SCOPE_NAME = "opentelemetry_guard"
"""Instrumentation scope of everything that this package emits."""

SECURITY_EVENT = "guard.security_event"
"""Event name of log records and span events that carry a SecurityEvent."""


@dataclass(frozen=True, slots=True)
class EventAttribute:
    """One value of an event as OpenTelemetry names it: the attribute's name, where it is in a row, what it means."""

    name: str
    place: str
    """A field of the row, or ``metadata.<key>``."""
    meaning: str


CLIENT_ADDRESS = "client.address"
HTTP_REQUEST_METHOD = "http.request.method"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
HTTP_ROUTE = "http.route"
URL_PATH = "url.path"
USER_AGENT_ORIGINAL = "user_agent.original"
LOG_RECORD_UID = "log.record.uid"
ERROR_TYPE = "error.type"
GUARD_EVENT_TYPE = "guard.event_type"
GUARD_ACTION_TAKEN = "guard.action_taken"

EVENT_ATTRIBUTES: tuple[EventAttribute, ...] = (
    EventAttribute(
        "guard.recent_event_count",
        "metadata.guard.behavior.recent_event_count",
        "the client's events of the last 5 minutes in this process, this one included",
    ),
    EventAttribute(
        "guard.correlation_key",
        "metadata.guard.behavior.correlation_key",
        "the same for the same client and behaviour, until it was quiet for a day",
    ),
    EventAttribute("guard.threat_score", "metadata.guard.threat_score", "0 to 100: see [SIEM](siem.md)"),
    EventAttribute(
        "guard.ban_list",
        "metadata.ban_list",
        "the [list of others](rules.md#ban-lists-of-others) whose ban has blocked the request",
    ),
    EventAttribute("guard.handler_name", "handler_name", "the function that handles the request"),
    EventAttribute("guard.decorator_type", "decorator_type", "the kind of guard's decorator that was violated"),
    EventAttribute("guard.response_time", "response_time", "seconds until the answer began"),
    EventAttribute(ERROR_TYPE, "metadata.error_type", "the class of what failed"),
    EventAttribute("security_rule.category", "metadata.category", "the kind of threat"),
    EventAttribute("geo.country.iso_code", "country", "the client's country, ISO 3166"),
    EventAttribute("enduser.id", "metadata.user", "whom the application has recognised"),
    EventAttribute("guard.pattern_matched", "pattern_matched", "what of the rule has matched: a pattern, a network"),
    EventAttribute("security_rule.name", "rule_type", "the rule that has matched"),
    EventAttribute(USER_AGENT_ORIGINAL, "user_agent", "the `User-Agent` header"),
    EventAttribute(HTTP_RESPONSE_STATUS_CODE, "status_code", "the answer's status"),
    EventAttribute(HTTP_REQUEST_METHOD, "method", "the request's method"),
    EventAttribute(HTTP_ROUTE, "endpoint", "the endpoint, where it is the template of a route (`/items/{number}`)"),
    EventAttribute(URL_PATH, "endpoint", "the endpoint, where it is a path"),
    EventAttribute("guard.reason", "reason", "why, in words"),
    EventAttribute(CLIENT_ADDRESS, "ip_address", "the client's address, hashed where there is a key"),
    EventAttribute(GUARD_ACTION_TAKEN, "action_taken", "what was done: `blocked`, `logged`, ..."),
    EventAttribute(LOG_RECORD_UID, "idempotency_key", "the event's UUID: the same event has the same one everywhere"),
    EventAttribute(GUARD_EVENT_TYPE, "event_type", "what happened: `access_denied`, `penetration_attempt`, ..."),
)
"""The attributes of a security event, in the order of importance, least first: a count limit drops the oldest."""

GUARD_METADATA = "guard.metadata"
"""``guard.metadata.<key>`` is a value of the metadata; by itself it is a map of what is beyond the first ones."""
GUARD_EXTRA = "guard.extra"
"""``guard.extra.<name>`` is a field that the contract doesn't know; by itself as above."""
GUARD_TIMESTAMP = "guard.timestamp"
"""The event's time, ISO 8601, where OTLP has no number for it (before 1970)."""
GUARD_LOGGED = "guard.logged"
"""On a span event: a log record carries the same event."""
GUARD_TRUNCATED = "guard.truncated"
"""Which attributes a length limit has cut, by name, with the characters that they had."""

# Attributes of a security metric's measurement.
GUARD_TAG_PREFIX = "guard.tag."

# Instruments for security metrics, one for each type of the contract.
GUARD_REQUEST_COUNT = "guard.request_count"
GUARD_ERROR_RATE = "guard.error_rate"
GUARD_BANDWIDTH_USAGE = "guard.bandwidth_usage"
GUARD_RESPONSE_TIME_METRIC = "guard.response_time"
GUARD_THREAT_LEVEL = "guard.threat_level"
GUARD_BLOCK_RATE = "guard.block_rate"
GUARD_CACHE_HIT_RATE = "guard.cache_hit_rate"

GUARD_REQUESTS = "guard.requests"
"""Counter of followed requests by route, and by whether they were blocked; the share of these is a `block_rate`."""
GUARD_BLOCKED = "guard.blocked"
"""Whether a request was answered with 400 or above, and made a security event that stopped something."""

SECURITY_EVENTS_COUNTER = "guard.security_events"
"""Counter of emitted events by type and action; it never goes to the Guard backend."""

# Request metrics of opentelemetry-instrumentation-fastapi: the stable convention and the old one.
HTTP_SERVER_REQUEST_DURATION = "http.server.request.duration"
HTTP_SERVER_REQUEST_BODY_SIZE = "http.server.request.body.size"
HTTP_SERVER_RESPONSE_BODY_SIZE = "http.server.response.body.size"
OLD_HTTP_SERVER_DURATION = "http.server.duration"
OLD_HTTP_SERVER_REQUEST_SIZE = "http.server.request.size"
OLD_HTTP_SERVER_RESPONSE_SIZE = "http.server.response.size"
OLD_HTTP_METHOD = "http.method"
OLD_HTTP_STATUS_CODE = "http.status_code"
OLD_HTTP_TARGET = "http.target"
METRIC_OVERFLOW = "otel.metric.overflow"

# guard-core's own OpenTelemetry output (its `enable_otel` setting).
GUARD_CORE_SCOPE = "guard_core.otel"
GUARD_CORE_SPAN_PREFIX = "guard.event."
GUARD_CORE_REQUEST_DURATION = "guard.request.duration"
GUARD_CORE_REQUEST_COUNT = "guard.request.count"
GUARD_CORE_ERROR_COUNT = "guard.error.count"
GUARD_CORE_METHOD = "method"
GUARD_CORE_STATUS = "status"

# The delivery's own metrics.
SERVER_ADDRESS = "server.address"
DELIVERY_QUEUE_DEPTH = "guard.delivery.queue.depth"
DELIVERY_QUEUE_BYTES = "guard.delivery.queue.bytes"
DELIVERY_QUEUE_OLDEST_AGE = "guard.delivery.queue.oldest_age"
DELIVERY_ROWS = "guard.delivery.rows"
DELIVERY_BREAKER_STATE = "guard.delivery.breaker.state"
DELIVERY_RETRIES = "guard.delivery.retries"
DELIVERY_SEND_DURATION = "guard.delivery.send.duration"
DELIVERY_DESTINATION = "guard.delivery.destination"
DELIVERY_ROUTE = "guard.delivery.route"
DELIVERY_ROW_KIND = "guard.delivery.row.kind"
DELIVERY_ROW_STATE = "guard.delivery.row.state"

# What comes of the rules that a backend hands out.
RULES_REFUSED = "guard.rules.refused"
RULES_REFUSAL_REASON = "guard.rules.refusal.reason"

# Resources of the process: what opentelemetry-instrumentation-system-metrics has no reader for.
ASYNCIO_EVENTLOOP_LAG = "asyncio.eventloop.lag"
