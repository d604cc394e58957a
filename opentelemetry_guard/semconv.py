"""Attribute, event and instrument names: the one place where a name is spelled.

Stable OpenTelemetry semantic conventions come first; what they have no name
for lives under ``guard.``.
"""

SCOPE_NAME = "opentelemetry_guard"
"""Instrumentation scope of everything that this package emits."""

SECURITY_EVENT = "guard.security_event"
"""Event name of log records and span events that carry a SecurityEvent."""

# Attributes of a security event (flat: on the span event, and three of them on the log record).
CLIENT_ADDRESS = "client.address"
HTTP_REQUEST_METHOD = "http.request.method"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
URL_PATH = "url.path"
USER_AGENT_ORIGINAL = "user_agent.original"
GEO_COUNTRY_ISO_CODE = "geo.country.iso_code"
SECURITY_RULE_NAME = "security_rule.name"
GUARD_EVENT_TYPE = "guard.event_type"
GUARD_ACTION_TAKEN = "guard.action_taken"
GUARD_IDEMPOTENCY_KEY = "guard.idempotency_key"
GUARD_REASON = "guard.reason"
GUARD_RESPONSE_TIME = "guard.response_time"
GUARD_DECORATOR_TYPE = "guard.decorator_type"
GUARD_RULE_TYPE = "guard.rule_type"
GUARD_HANDLER_NAME = "guard.handler_name"
GUARD_METADATA = "guard.metadata"
GUARD_EXTRA = "guard.extra"
GUARD_TIMESTAMP = "guard.timestamp"
GUARD_LOGGED = "guard.logged"

# Attributes of a security metric's measurement.
HTTP_ROUTE = "http.route"
GUARD_TAG_PREFIX = "guard.tag."

# Instruments for security metrics, one for each type of the contract.
GUARD_REQUEST_COUNT = "guard.request_count"
GUARD_ERROR_RATE = "guard.error_rate"
GUARD_BANDWIDTH_USAGE = "guard.bandwidth_usage"
GUARD_RESPONSE_TIME_METRIC = "guard.response_time"
GUARD_THREAT_LEVEL = "guard.threat_level"
GUARD_BLOCK_RATE = "guard.block_rate"
GUARD_CACHE_HIT_RATE = "guard.cache_hit_rate"

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
ERROR_TYPE = "error.type"
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

# Resources of the process: what opentelemetry-instrumentation-system-metrics has no reader for.
ASYNCIO_EVENTLOOP_LAG = "asyncio.eventloop.lag"
