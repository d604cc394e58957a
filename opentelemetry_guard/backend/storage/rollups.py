"""Figures for the overview that are added up while rows come in.

Counting a million rows for each look at a page takes seconds; adding a
hundred rows to a few counters takes a fraction of a millisecond. Every
function here but the two that write is pure.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Table, case
from sqlalchemy.dialects.postgresql import insert

from ...events.enrichment import CORRELATION_KEY, SERVICE_NAME, THREAT_SCORE
from ...events.known import TEST_EVENT, is_blocking
from ...models import SecurityEvent, SecurityMetric
from ...siem.facts import user_of
from .many import ManyRows
from .tables import NUL_SHOWN, event_minutes, event_tops, events, latency_minutes, metric_minutes

SPAN_SECONDS = (600, 3600)
"""Addresses and endpoints are counted for spans of these lengths: by the minute there would be as many counts as rows.

A look at some hours adds up the short spans, one at days the long ones.
"""

MAX_TEXT = 512
"""Characters of a value that is searched and counted by; the row keeps all of them."""

_MAX_WEIGHT = 1e12
"""Measurements that one row may stand for: sums of them stay finite."""

_FOLDED = "folded"
_UPDATE = "update"
"""Keys of the metadata, as docs/events.md and docs/behavior.md tell: how many others an event stands for, and that it
tells again of what was told."""

_CAMPAIGN = "campaign"
"""The `rule_type` of an event that tells of many addresses; its pattern says what they do together."""

_MOST_FOLDED = 10**9
"""Others that one event may stand for: sums of them stay 64 bits wide."""

_BUCKETS_PER_DOUBLING = 8
"""Latency buckets are 9 % wide."""


class EventFacts(NamedTuple):
    """What an event is searched and counted by; `occurred_at` is in Unix seconds.

    `requests` is how many it stands for, `threat_score` is 0 to 100; `correlation_key`, `user` and `country` are empty
    where it has none, and `campaign` is what many addresses do together, where it tells of that.
    """

    occurred_at: float
    event_type: str
    action: str
    address: str
    endpoint: str
    blocked: bool
    service: str = ""
    correlation_key: str = ""
    threat_score: int = 0
    requests: int = 1
    user: str = ""
    country: str = ""
    campaign: str = ""


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """What a metric adds to the figures: `weight` measurements of the mean `value`, the largest being `largest`."""

    occurred_at: float
    metric_type: str
    value: float
    weight: float
    largest: float
    quantiles: tuple[tuple[float, float], ...]
    """Pairs of a share of the measurements and a value that none of that share exceeds; the shares add up to 1."""


def event_facts(row: str, received_at: float) -> EventFacts:
    """Read the facts off an event's JSON; nothing happens after it was received at `received_at` (Unix seconds)."""
    event: dict[str, Any] = orjson.loads(row)
    return _facts(event, min(_unix_seconds(event.get("timestamp"), received_at), received_at))


def facts_of_event(event: SecurityEvent, received_at: float) -> EventFacts:
    """Return what `event_facts` reads off the event's JSON."""
    return _facts(vars(event), min(event.timestamp.timestamp(), received_at))


def _facts(event: Mapping[str, Any], occurred_at: float) -> EventFacts:
    action = _searched(event.get("action_taken"))
    given = event.get("metadata")
    metadata: dict[str, Any] = given if isinstance(given, dict) else {}
    again = _whole(metadata, _UPDATE, 1)
    return EventFacts(
        occurred_at,
        _searched(event["event_type"]),
        action,
        _searched(event.get("ip_address")),
        _searched(event.get("endpoint")),
        is_blocking(action),
        _text(metadata, SERVICE_NAME),
        _text(metadata, CORRELATION_KEY),
        _whole(metadata, THREAT_SCORE, 100),
        _whole(metadata, _FOLDED, _MOST_FOLDED) + 1 - again,
        _searched(user_of(metadata)),
        _searched(event.get("country")),
        _text(metadata, "pattern") if event.get("rule_type") == _CAMPAIGN else "",
    )


def _searched(value: object) -> str:
    """Return a text as it is stored: of two that are stored alike, a count has one."""
    if not value:
        return ""
    text = value if isinstance(value, str) else str(value)
    return text[:MAX_TEXT] if "\0" not in text else text.replace("\0", NUL_SHOWN)[:MAX_TEXT]


EVENT_COLUMNS = tuple(column.name for column in events.c)
"""The columns of an event, in the order of `event_columns`."""


def event_columns(
    number: int, project_id: str, batch_id: str, received_at: float, facts: EventFacts, row: str
) -> tuple[object, ...]:
    """Return the values of `EVENT_COLUMNS` of an event as it is kept: `number` is its id, `row` its JSON."""
    return (
        *(number, project_id, batch_id, received_at, facts.occurred_at, facts.event_type),
        *(facts.action, facts.address, facts.endpoint, facts.service, row),
    )


def _text(metadata: Mapping[str, object], key: str) -> str:
    value = metadata.get(key)
    return _searched(value) if isinstance(value, str) else ""


def _whole(metadata: Mapping[str, object], key: str, most: int) -> int:
    """Return a whole number of the metadata between 0 and `most`; 0 where it is none."""
    value = metadata.get(key)
    return max(0, min(value, most)) if isinstance(value, int) and not isinstance(value, bool) else 0


def metric_facts(row: str, received_at: float) -> MetricFacts:
    """Read the facts off a metric's JSON: a row of a distribution has its figures in its tags."""
    metric: dict[str, Any] = orjson.loads(row)
    return _metric_facts(metric, min(_unix_seconds(metric.get("timestamp"), received_at), received_at))


def facts_of_metric(metric: SecurityMetric, received_at: float) -> MetricFacts:
    """Return what `metric_facts` reads off the metric's JSON."""
    return _metric_facts(vars(metric), min(metric.timestamp.timestamp(), received_at))


def _metric_facts(metric: Mapping[str, Any], occurred_at: float) -> MetricFacts:
    value, tags = float(metric["value"]), metric.get("tags") or {}
    count = _figure(tags, "count")
    weight = min(count, _MAX_WEIGHT) if count is not None and count > 0 else 1.0
    largest = _figure(tags, "max")
    return MetricFacts(
        occurred_at,
        str(metric["metric_type"]),
        value,
        weight,
        value if largest is None else largest,
        _shares(value, tags),
    )


def _shares(value: float, tags: Mapping[str, object]) -> tuple[tuple[float, float], ...]:
    """Spread a row's measurements over the quantiles that it names.

    The half below the median counts as the median, what lies between it and
    p95 as p95, and so on: of one row the quantiles come back exactly, of
    several merged ones never too low.
    """
    figures = [_figure(tags, name) for name in ("p50", "p95", "p99", "max")]
    if any(figure is None for figure in figures):
        return ((1.0, value),)
    return tuple(zip((0.5, 0.45, 0.04, 0.01), (figure or 0.0 for figure in figures), strict=True))


def _figure(tags: Mapping[str, object], name: str) -> float | None:
    try:
        figure = float(str(tags[name]))
    except (KeyError, ValueError):
        return None
    return figure if math.isfinite(figure) else None


def _unix_seconds(timestamp: object, default: float) -> float:
    if not isinstance(timestamp, str):
        return default
    moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()


def latency_bucket(seconds: float) -> int:
    """Return the number of the bucket that holds a response time; zero and less is in the lowest."""
    return math.ceil(math.log2(max(seconds, 1e-6)) * _BUCKETS_PER_DOUBLING)


def latency_of(bucket: int) -> float:
    """Return a bucket's upper edge in seconds."""
    return float(2.0 ** (bucket / _BUCKETS_PER_DOUBLING))


def quantile(buckets: Mapping[int, float], q: float) -> float | None:
    """Return the response time in seconds that the fraction `q` of all requests doesn't exceed; None without any."""
    rank, before = q * sum(buckets.values()), 0.0
    for bucket in sorted(buckets):
        before += buckets[bucket]
        # Shares such as 0.45 don't add up exactly.
        if before >= rank * (1 - 1e-9):
            return latency_of(bucket)
    return None


def _adding(table: Table, *counts: str) -> ManyRows:
    """Return the statement that adds rows to those of the same key: `counts` are their columns that are added up."""
    offered = insert(table)
    adding = offered.on_conflict_do_update(
        index_elements=table.primary_key, set_={name: table.c[name] + offered.excluded[name] for name in counts}
    )
    return ManyRows(adding, [column.name for column in table.c])


def _adding_figures() -> ManyRows:
    """Return the statement that adds metrics of a minute; the largest of them is kept."""
    offered = insert(metric_minutes)
    kept, added = metric_minutes.c, offered.excluded
    adding = offered.on_conflict_do_update(
        index_elements=metric_minutes.primary_key,
        set_={
            "total": kept.total + added.total,
            "weight": kept.weight + added.weight,
            "largest": case((kept.largest > added.largest, kept.largest), else_=added.largest),
        },
    )
    return ManyRows(adding, [column.name for column in metric_minutes.c])


_ADD_EVENT_MINUTES = _adding(event_minutes, "events", "blocked")
_ADD_EVENT_TOPS = _adding(event_tops, "events")
_ADD_METRIC_MINUTES = _adding_figures()
_ADD_LATENCIES = _adding(latency_minutes, "requests")


def add_event_rollups(connection: Connection, project_id: str, stored: Iterable[EventFacts]) -> None:
    """Count events that were stored in the transaction under way; a test event is kept and not counted."""
    # Few of many events differ in all of that: each is looked at once.
    alike = Counter(
        (int(event.occurred_at // 60), event.event_type, event.blocked, event.address, event.endpoint)
        for event in stored
        if event.event_type != TEST_EVENT
    )
    if not alike:
        return
    minutes: Counter[tuple[int, str]] = Counter()
    blocked: Counter[tuple[int, str]] = Counter()
    tops: Counter[tuple[str, int, int, str]] = Counter()
    for (minute, event_type, is_blocked, address, endpoint), count in alike.items():
        minutes[minute, event_type] += count
        if is_blocked:
            blocked[minute, event_type] += count
        for dimension, value in (("address", address), ("endpoint", endpoint)):
            if value:
                for seconds in SPAN_SECONDS:
                    tops[dimension, seconds, minute * 60 // seconds, value] += count
    _ADD_EVENT_MINUTES.run(
        connection, [(project_id, *key, count, blocked[key]) for key, count in sorted(minutes.items())]
    )
    # In the order of the key, rows that lie beside each other are looked for one after the other.
    _ADD_EVENT_TOPS.run(connection, [(project_id, *key, count) for key, count in sorted(tops.items())])


def add_metric_rollups(connection: Connection, project_id: str, metrics: Iterable[MetricFacts]) -> None:
    """Add metrics that were stored in the transaction under way."""
    minutes: dict[tuple[int, str], list[float]] = {}
    latencies: defaultdict[tuple[int, int], float] = defaultdict(float)
    for metric in metrics:
        minute = int(metric.occurred_at // 60)
        cell = minutes.setdefault((minute, metric.metric_type), [0.0, 0.0, -math.inf])
        cell[0] += metric.value * metric.weight
        cell[1] += metric.weight
        cell[2] = max(cell[2], metric.largest)
        if metric.metric_type == "response_time":
            for share, value in metric.quantiles:
                latencies[minute, latency_bucket(value)] += share * metric.weight
    _ADD_METRIC_MINUTES.run(connection, [(project_id, *key, *_storable(cell)) for key, cell in minutes.items()])
    _ADD_LATENCIES.run(connection, [(project_id, *key, requests) for key, requests in latencies.items()])


def _storable(cell: list[float]) -> list[float]:
    # The sum of finite values can pass the range of floats, and SQLite keeps NaN as NULL.
    return [max(-1e300, min(number, 1e300)) if not math.isnan(number) else 0.0 for number in cell]
