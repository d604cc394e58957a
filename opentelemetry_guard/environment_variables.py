"""Environment variables of the Guard exporters and the instrumentation.

Registered as ``opentelemetry_environment_variables``, which makes each name
an option of the ``opentelemetry-instrument`` command
(``--exporter_guard_endpoint`` and so on). That command turns every name here
that begins with ``OTEL_`` into an option, so this module imports nothing.
"""

OTEL_EXPORTER_GUARD_ENDPOINT = "OTEL_EXPORTER_GUARD_ENDPOINT"
"""Base URL of the Guard backend. Default: ``https://api.fastapi-guard.com``."""

OTEL_EXPORTER_GUARD_API_KEY = "OTEL_EXPORTER_GUARD_API_KEY"
"""API key. Without one, batches wait in the queue."""

OTEL_EXPORTER_GUARD_PROJECT_ID = "OTEL_EXPORTER_GUARD_PROJECT_ID"
"""Project that the rows belong to."""

OTEL_EXPORTER_GUARD_HEADERS = "OTEL_EXPORTER_GUARD_HEADERS"
"""Additional request headers, ``name=value,name=value`` with URL-encoded values."""

OTEL_EXPORTER_GUARD_TIMEOUT = "OTEL_EXPORTER_GUARD_TIMEOUT"
"""Seconds that one request may take in all. Default: 10."""

OTEL_EXPORTER_GUARD_COMPRESSION = "OTEL_EXPORTER_GUARD_COMPRESSION"
"""``gzip`` (default) or ``none``."""

OTEL_EXPORTER_GUARD_QUEUE_URL = "OTEL_EXPORTER_GUARD_QUEUE_URL"
"""Where batches wait: ``sqlite:///path/queue.db``, ``redis://host/0``, ``memory://``. Default: SQLite."""

OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES = "OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES"
"""Bound of the queue in bytes of encoded batches. Default: 67108864 (64 MiB)."""

OTEL_EXPORTER_GUARD_CERTIFICATE = "OTEL_EXPORTER_GUARD_CERTIFICATE"
"""File with the certificates (PEM) that the backend's certificate is checked against."""

OTEL_EXPORTER_GUARD_CLIENT_KEY = "OTEL_EXPORTER_GUARD_CLIENT_KEY"
"""File with the client's private key (PEM) for mutual TLS."""

OTEL_EXPORTER_GUARD_CLIENT_CERTIFICATE = "OTEL_EXPORTER_GUARD_CLIENT_CERTIFICATE"
"""File with the client's certificate (PEM) for mutual TLS."""

OTEL_EXPORTER_GUARD_INSTALL_ID = "OTEL_EXPORTER_GUARD_INSTALL_ID"
"""UUID of this installation. Default: one that is made once and kept in the state directory."""

OTEL_EXPORTER_GUARD_SIGNING_SECRET = "OTEL_EXPORTER_GUARD_SIGNING_SECRET"
"""Secret that every body is signed with (``X-Payload-Signature``)."""

OTEL_EXPORTER_GUARD_ENCRYPTION_KEY = "OTEL_EXPORTER_GUARD_ENCRYPTION_KEY"
"""Key that rows are encrypted with, on the wire and in the queue: urlsafe base64 of 32 bytes. Extra ``encryption``."""

OTEL_EXPORTER_GUARD_QUEUE_OVERFLOW = "OTEL_EXPORTER_GUARD_QUEUE_OVERFLOW"
"""What goes when the queue is full: ``drop_oldest`` (default) or ``drop_newest``; metrics go before events."""

OTEL_EXPORTER_GUARD_BREAKER_FAILURES = "OTEL_EXPORTER_GUARD_BREAKER_FAILURES"
"""Failures in a row after which a route's circuit breaker opens. Default: 5."""

OTEL_EXPORTER_GUARD_BREAKER_FAILURE_RATE = "OTEL_EXPORTER_GUARD_BREAKER_FAILURE_RATE"
"""Share of failures among the last 20 requests that opens it as well. Default: 0.5."""

OTEL_EXPORTER_GUARD_BREAKER_RECOVERY = "OTEL_EXPORTER_GUARD_BREAKER_RECOVERY"
"""Seconds of an open breaker's first pause; each failed probe doubles it. Default: 1."""

OTEL_EXPORTER_GUARD_BREAKER_MAX_RECOVERY = "OTEL_EXPORTER_GUARD_BREAKER_MAX_RECOVERY"
"""Seconds that an open breaker's pause lasts at most. Default: 10."""

OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT = "OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT"
"""Seconds that all shutdowns of a process may take together for delivery. Default: 5."""

OTEL_EXPORTER_GUARD_STATUS_INTERVAL = "OTEL_EXPORTER_GUARD_STATUS_INTERVAL"
"""Seconds between two status reports, at least 1; 0 sends none. Default: 300."""

OTEL_EXPORTER_GUARD_ENABLE_EVENTS = "OTEL_EXPORTER_GUARD_ENABLE_EVENTS"
"""``false`` delivers no events. Default: ``true``."""

OTEL_EXPORTER_GUARD_ENABLE_METRICS = "OTEL_EXPORTER_GUARD_ENABLE_METRICS"
"""``false`` delivers no metrics. Default: ``true``."""

OTEL_EXPORTER_GUARD_RETRY_ATTEMPTS = "OTEL_EXPORTER_GUARD_RETRY_ATTEMPTS"
"""Quick tries of a batch before it waits in the backlog; partial failures before a dead letter. Default: 5."""

OTEL_EXPORTER_GUARD_BACKOFF_FACTOR = "OTEL_EXPORTER_GUARD_BACKOFF_FACTOR"
"""Seconds that the first pause after a failure lasts at most; each further failure doubles it. Default: 0.5."""

OTEL_EXPORTER_GUARD_COMPRESSION_THRESHOLD = "OTEL_EXPORTER_GUARD_COMPRESSION_THRESHOLD"
"""Bytes of a body from which on it is compressed. Default: 1024."""

OTEL_EXPORTER_GUARD_BATCH_SIZE = "OTEL_EXPORTER_GUARD_BATCH_SIZE"
"""Rows of one request at most. Default: 1000."""

OTEL_EXPORTER_GUARD_GUARD_VERSION = "OTEL_EXPORTER_GUARD_GUARD_VERSION"
"""Release of fastapi-guard that bodies name. Default: the installed one."""

OTEL_EXPORTER_GUARD_GUARD_CORE_VERSION = "OTEL_EXPORTER_GUARD_GUARD_CORE_VERSION"
"""Release of guard-core that bodies name. Default: the installed one."""

OTEL_PYTHON_GUARD_SIGTERM_HANDLER = "OTEL_PYTHON_GUARD_SIGTERM_HANDLER"
"""``false`` keeps the instrumentation from flushing telemetry on SIGTERM, SIGINT and SIGHUP. Default: ``true``."""

OTEL_PYTHON_GUARD_SENSITIVE_HEADERS = "OTEL_PYTHON_GUARD_SENSITIVE_HEADERS"
"""Names of headers that are masked, separated by commas, in the place of ``authorization``, ``proxy-authorization``,
``cookie``, ``set-cookie`` and ``x-api-key``."""

OTEL_PYTHON_GUARD_MAX_PAYLOAD_SIZE = "OTEL_PYTHON_GUARD_MAX_PAYLOAD_SIZE"
"""Bytes that one string of an event may have. Default: 1024."""

OTEL_PYTHON_GUARD_ADDRESS_KEY = "OTEL_PYTHON_GUARD_ADDRESS_KEY"
"""Secret that client addresses are hashed with (HMAC). Unset: addresses stay as they are."""

OTEL_PYTHON_GUARD_CAPTURE_CONTENT = "OTEL_PYTHON_GUARD_CAPTURE_CONTENT"
"""``true`` lets events quote the request content that matched a pattern. Default: ``false``."""

OTEL_PYTHON_GUARD_RULES_INTERVAL = "OTEL_PYTHON_GUARD_RULES_INTERVAL"
"""Seconds between two polls of dynamic rules where they are enforced, at least 1; 0 polls none. Default: 300."""

OTEL_PYTHON_GUARD_HTTP_EVENTS = "OTEL_PYTHON_GUARD_HTTP_EVENTS"
"""``false`` derives no security events from an application's answers. Default: ``true``."""

OTEL_PYTHON_GUARD_HTTP_RULES = "OTEL_PYTHON_GUARD_HTTP_RULES"
"""Changes to the rules of what an answer means: a JSON object, or the path of a file with one."""

OTEL_PYTHON_GUARD_BEHAVIOR = "OTEL_PYTHON_GUARD_BEHAVIOR"
"""``false`` watches no client over time. Default: ``true``."""

OTEL_PYTHON_GUARD_BEHAVIOR_RULES = "OTEL_PYTHON_GUARD_BEHAVIOR_RULES"
"""Changes to the thresholds of that: a JSON object, or the path of a file with one."""

OTEL_PYTHON_GUARD_TRUSTED_PROXIES = "OTEL_PYTHON_GUARD_TRUSTED_PROXIES"
"""Networks whose ``X-Forwarded-For`` names the client, separated by commas. Default: none."""

OTEL_PYTHON_GUARD_RESOURCE_METRICS = "OTEL_PYTHON_GUARD_RESOURCE_METRICS"
"""``true`` measures CPU, memory, threads, open files and the event loop's lag. Default: ``false``."""
