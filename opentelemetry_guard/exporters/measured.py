"""What an instrument's measurements mean, and whose series they are: the endpoint and tags of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from opentelemetry.sdk.metrics.export import Metric, MetricsData
from opentelemetry.util.types import AttributeValue

from .. import privacy, semconv
from ..events import http_metrics
from ..events.jsonsafe import JSON, describe, safe_text
from ..models import MetricType
from .distribution import STATISTICS

MAX_METHOD_LENGTH = 32
"""Characters of the tag `method`: it comes from the client where an instrumentation passes every method."""
MAX_ROUTE_LENGTH = 512
"""Characters of an `endpoint` that comes from an instrumentation."""

HEARD_SCOPES = frozenset(f"opentelemetry.instrumentation.{name}" for name in ("asgi", "fastapi", "starlette"))
"""Scopes of the middleware whose measurements `http_metrics` has, once for each request, where it is listened to."""

_TEMPLATE_TARGET_SCOPES = HEARD_SCOPES | {http_metrics.SCOPE}
"""Scopes whose old metrics carry a route template in `http.target`; others may carry the raw path.

The template is as good as the instrumentation makes it: it lacks the prefix of an included router, and starts with the
path below which a sub-application is mounted as it was requested. The new convention has the mount alone, or lacks it;
where an application routes by host, its `http.route` is the requested path. What `http_metrics` has is the whole route.
"""


class Source(IntEnum):
    """Who measured. The request sources are in ascending order of preference."""

    USER = 0
    GUARD_CORE = 1
    OLD_HTTP = 2
    HTTP = 3


class Reading(NamedTuple):
    """What an instrument means.

    `spread` tells whether a row has a mean and statistics instead of a total,
    `requests` whether each value is one request, `divisor` how many of the
    instrument's units make one of the row's, `share` by which attribute a
    counter tells what is part of the share that a row is about.
    """

    source: Source
    metric_type: MetricType
    spread: bool = False
    requests: bool = False
    divisor: float = 1.0
    direction: str | None = None
    share: str | None = None


_USER_READINGS: Mapping[str, Reading] = {
    semconv.GUARD_REQUEST_COUNT: Reading(Source.USER, "request_count"),
    semconv.GUARD_ERROR_RATE: Reading(Source.USER, "error_rate"),
    semconv.GUARD_BANDWIDTH_USAGE: Reading(Source.USER, "bandwidth_usage"),
    semconv.GUARD_RESPONSE_TIME_METRIC: Reading(Source.USER, "response_time", spread=True),
    semconv.GUARD_THREAT_LEVEL: Reading(Source.USER, "threat_level", spread=True),
    semconv.GUARD_BLOCK_RATE: Reading(Source.USER, "block_rate", spread=True),
    semconv.GUARD_REQUESTS: Reading(Source.USER, "block_rate", spread=True, share=semconv.GUARD_BLOCKED),
    semconv.GUARD_CACHE_HIT_RATE: Reading(Source.USER, "cache_hit_rate", spread=True),
}

_GUARD_CORE_READINGS: Mapping[str, Reading] = {
    semconv.GUARD_CORE_REQUEST_DURATION: Reading(Source.GUARD_CORE, "response_time", spread=True),
    semconv.GUARD_CORE_REQUEST_COUNT: Reading(Source.GUARD_CORE, "request_count"),
    semconv.GUARD_CORE_ERROR_COUNT: Reading(Source.GUARD_CORE, "error_rate"),
}

_HTTP_READINGS: Mapping[str, Reading] = {
    semconv.HTTP_SERVER_REQUEST_DURATION: Reading(Source.HTTP, "response_time", spread=True, requests=True),
    semconv.HTTP_SERVER_REQUEST_BODY_SIZE: Reading(Source.HTTP, "bandwidth_usage", direction="request"),
    semconv.HTTP_SERVER_RESPONSE_BODY_SIZE: Reading(Source.HTTP, "bandwidth_usage", direction="response"),
    # The old convention measures in milliseconds.
    semconv.OLD_HTTP_SERVER_DURATION: Reading(
        Source.OLD_HTTP, "response_time", spread=True, requests=True, divisor=1000.0
    ),
    semconv.OLD_HTTP_SERVER_REQUEST_SIZE: Reading(Source.OLD_HTTP, "bandwidth_usage", direction="request"),
    semconv.OLD_HTTP_SERVER_RESPONSE_SIZE: Reading(Source.OLD_HTTP, "bandwidth_usage", direction="response"),
}


class Measured(NamedTuple):
    """A metric that we can read."""

    reading: Reading
    scope: str
    metric: Metric


def readable(metrics_data: MetricsData) -> Iterator[Measured]:
    """Yield the metrics of a collection that rows can be made of."""
    for resource_metrics in metrics_data.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope.name
            readings = _readings(scope)
            for metric in scope_metrics.metrics:
                reading = readings.get(metric.name)
                if reading is not None:
                    yield Measured(reading, scope, metric)


def _readings(scope: str) -> Mapping[str, Reading]:
    if scope == semconv.SCOPE_NAME:
        return _USER_READINGS
    if scope == semconv.GUARD_CORE_SCOPE:
        return _GUARD_CORE_READINGS
    return _HTTP_READINGS


class Labels(NamedTuple):
    """What tells the rows of one metric type apart; `tags` are sorted."""

    endpoint: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


OVERFLOW = Labels(None, ((semconv.METRIC_OVERFLOW, "true"),))
"""The labels of the SDK's overflow series (beyond its cardinality limit) and of ours."""


def labels_of(measured: Measured, attributes: Mapping[str, AttributeValue]) -> Labels:
    """Return the endpoint and tags of a data point, without what must not be sent."""
    if attributes.get(semconv.METRIC_OVERFLOW) is True:
        return OVERFLOW
    source = measured.reading.source
    if source is Source.USER:
        return _user_labels(attributes, measured.reading.spread)
    return _request_labels(source, measured.scope, attributes)


def _user_labels(attributes: Mapping[str, AttributeValue], spread: bool) -> Labels:
    route = attributes.get(semconv.HTTP_ROUTE)
    clean = privacy.current()
    given: dict[str, JSON] = {
        safe_text(name[len(semconv.GUARD_TAG_PREFIX) :]): describe(value)
        for name, value in attributes.items()
        if name.startswith(semconv.GUARD_TAG_PREFIX)
    }
    tags = {name: str(value) for name, value in clean.tags(given).items()}
    if spread:
        for name in sorted(STATISTICS & tags.keys()):
            free = f"tag.{name}"
            while free in tags:
                free = f"tag.{free}"
            tags[free] = tags.pop(name)
    return Labels(None if route is None else clean.path(describe(route)), tuple(sorted(tags.items())))


def _request_labels(source: Source, scope: str, attributes: Mapping[str, AttributeValue]) -> Labels:
    route: AttributeValue | None = None
    if source is Source.HTTP:
        route = attributes.get(semconv.HTTP_ROUTE)
        method = attributes.get(semconv.HTTP_REQUEST_METHOD)
    elif source is Source.OLD_HTTP:
        if scope in _TEMPLATE_TARGET_SCOPES:
            route = attributes.get(semconv.OLD_HTTP_TARGET)
        method = attributes.get(semconv.OLD_HTTP_METHOD)
    else:
        # guard-core's endpoint is the raw path: it is unbounded, chosen by the client, and may hold personal data.
        method = attributes.get(semconv.GUARD_CORE_METHOD)
    tags = []
    if method:
        tags.append(("method", describe(method)[:MAX_METHOD_LENGTH]))
    status = _status(source, attributes)
    if status is not None:
        tags.append(("status_code", str(status)))
    # Where an application routes by host, the route is the path that the client chose.
    endpoint = privacy.current().path(describe(route))[:MAX_ROUTE_LENGTH] if route else None
    return Labels(endpoint, tuple(tags))


_STATUS_ATTRIBUTES = {
    Source.HTTP: semconv.HTTP_RESPONSE_STATUS_CODE,
    Source.OLD_HTTP: semconv.OLD_HTTP_STATUS_CODE,
    Source.GUARD_CORE: semconv.GUARD_CORE_STATUS,
}


def _status(source: Source, attributes: Mapping[str, AttributeValue]) -> int | None:
    status = attributes.get(_STATUS_ATTRIBUTES[source])
    if isinstance(status, int):
        return int(status)
    # guard-core's tags are text.
    is_code = isinstance(status, str) and status.isascii() and status.isdigit() and len(status) == 3
    return int(str(status)) if is_code else None


def failed(source: Source, attributes: Mapping[str, AttributeValue]) -> bool:
    """Tell whether a request failed: its status is 400 or above, or it has none but an `error.type`."""
    status = _status(source, attributes)
    return semconv.ERROR_TYPE in attributes if status is None else status >= 400
