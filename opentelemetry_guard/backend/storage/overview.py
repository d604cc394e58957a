"""What the overview shows of a project, out of the rollups: never out of the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Table,
    TableValuedAlias,
    Text,
    any_,
    bindparam,
    cast,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from .database import Database
from .results import AnyRow, AnySelect
from .rollups import quantile
from .tables import Number, event_minutes, event_tops, latency_minutes, metric_minutes

QUANTILES = (0.5, 0.95, 0.99)
"""Response-time quantiles that are shown."""

SERIES = 6
"""Event types that the chart tells apart; the others are one series."""

OTHERS = "other types"
"""The name of that series."""

TOP = 8
"""Addresses and endpoints that are listed."""

_CANDIDATES_PER_SPAN = 25
"""Values of each span that can come among the top ones of all spans."""

_LEADING = TOP * 4
"""Candidates that are counted exactly."""

_HOSTILE_TYPES = frozenset(
    {
        "penetration_attempt",
        "suspicious_request",
        "ip_banned",
        "ip_blocked",
        "rate_limited",
        "behavioral_violation",
        "authentication_failed",
        "user_agent_blocked",
        "emergency_mode_block",
        "dynamic_rule_violation",
        "security_bypass",
        "access_denied",
    }
)
_THREAT_MINUTES = 10


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time up to now, the length of a bar of its chart, and of the spans that its top lists add up."""

    name: str
    label: str
    minutes: int
    bar_minutes: int
    span_seconds: int


WINDOWS = (
    Window("1h", "1 hour", 60, 1, 600),
    Window("6h", "6 hours", 360, 6, 600),
    Window("24h", "24 hours", 1440, 30, 3600),
    Window("7d", "7 days", 10080, 180, 3600),
)
"""What can be looked at."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Events per minute by type from `start` (Unix seconds) on."""

    start: int
    rates: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures of one window; a figure that nobody reported is None. Response times are in seconds."""

    window: Window
    bars: Sequence[Bar]
    types: Sequence[tuple[str, int]]
    events: int
    blocked: int
    requests: float
    addresses: Sequence[tuple[str, int]]
    endpoints: Sequence[tuple[str, int]]
    hostile_per_minute: float
    threat_level: str
    reported_threat: float | None
    reported_block_rate: float | None
    quantiles: Mapping[float, float]

    @property
    def block_rate(self) -> float | None:
        """Blocked requests as a share of all requests; of all events where no application counts its requests."""
        if self.requests:
            return min(self.blocked / self.requests, 1.0)
        return self.blocked / self.events if self.events else self.reported_block_rate


def threat_level(hostile_per_minute: float) -> str:
    """Put a word to how many hostile events there were a minute: calm, elevated (some), high (10), critical (100)."""
    if hostile_per_minute >= 100:
        return "critical"
    if hostile_per_minute >= 10:
        return "high"
    return "elevated" if hostile_per_minute > 0 else "calm"


def overview(database: Database, project_id: str, window: Window, now: float) -> Overview:
    """Add up what happened to a project within `window` before `now` (Unix seconds)."""
    last = int(now // 60)
    # The bars begin at whole multiples, so that they don't change under the reader's eyes.
    first = (last // window.bar_minutes + 1) * window.bar_minutes - window.minutes
    bar, place = event_minutes.c.minute // window.bar_minutes * window.bar_minutes, (project_id, first, last)
    counted = database.read(
        select(bar, event_minutes.c.event_type, _sum(event_minutes.c.events), _sum(event_minutes.c.blocked))
        .where(*_within(event_minutes, *place))
        .group_by(bar, event_minutes.c.event_type)
    )
    totals: Counter[str] = Counter()
    for _, kind, events, _ in counted:
        totals[kind] += events
    types = _series(totals)
    reported = database.read(
        select(metric_minutes.c.metric_type, _sum(metric_minutes.c.total), _sum(metric_minutes.c.weight))
        .where(*_within(metric_minutes, *place))
        .group_by(metric_minutes.c.metric_type)
    )
    metrics = {kind: (total, weight) for kind, total, weight in reported}
    buckets = database.read(
        select(latency_minutes.c.bucket, _sum(latency_minutes.c.requests))
        .where(*_within(latency_minutes, *place))
        .group_by(latency_minutes.c.bucket)
    )
    latencies: dict[int, float] = dict(buckets)
    hostile = _hostile(database, project_id, last)
    return Overview(
        window=window,
        bars=_bars(counted, {kind for kind, _ in types}, window, first, last),
        types=types,
        events=sum(totals.values()),
        blocked=sum(blocked for *_, blocked in counted),
        requests=metrics.get("request_count", (0.0, 0.0))[0],
        addresses=_top(database, project_id, "address", window.span_seconds, first, last),
        endpoints=_top(database, project_id, "endpoint", window.span_seconds, first, last),
        hostile_per_minute=hostile,
        threat_level=threat_level(hostile),
        reported_threat=_mean(metrics.get("threat_level")),
        reported_block_rate=_mean(metrics.get("block_rate")),
        quantiles={q: found for q in QUANTILES if (found := quantile(latencies, q)) is not None},
    )


def _sum(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Add a column up; PostgreSQL makes a decimal of whole numbers otherwise."""
    return cast(func.sum(column), column.type)


def _within(table: Table, project_id: str, first: int, last: int) -> tuple[ColumnElement[bool], ...]:
    return table.c.project_id == project_id, table.c.minute.between(first, last)


def _series(totals: Counter[str]) -> list[tuple[str, int]]:
    """Return the commonest types with their counts, and the others as one."""
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) <= SERIES:
        return ordered
    return [*ordered[: SERIES - 1], (OTHERS, sum(count for _, count in ordered[SERIES - 1 :]))]


def _bars(counted: Sequence[AnyRow], named: set[str], window: Window, first: int, last: int) -> list[Bar]:
    rates: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for minute, kind, events, _ in counted:
        rates[minute][kind if kind in named else OTHERS] += events
    return [
        Bar(minute * 60, {kind: events / window.bar_minutes for kind, events in rates[minute].items()})
        for minute in range(first, last + 1, window.bar_minutes)
    ]


def _hostile(database: Database, project_id: str, last: int) -> float:
    found = database.read(
        select(func.coalesce(_sum(event_minutes.c.events), 0)).where(
            *_within(event_minutes, project_id, last - _THREAT_MINUTES + 1, last),
            event_minutes.c.event_type.in_(sorted(_HOSTILE_TYPES)),
        )
    )
    return int(found[0][0]) / _THREAT_MINUTES


def _mean(figures: tuple[float, float] | None) -> float | None:
    return figures[0] / figures[1] if figures is not None and figures[1] else None


def _top(
    database: Database, project_id: str, dimension: str, seconds: int, first: int, last: int
) -> list[tuple[str, int]]:
    """Return the values with the most events.

    The top ones of each span are the candidates, and these are counted
    exactly over all spans: a value that is never among the first of any span
    is not among the first of the sum, but for flat distributions.
    """
    spans = range(first * 60 // seconds, last * 60 // seconds + 1)
    place = {"of_project": project_id, "of_dimension": dimension, "of_length": seconds}
    with database.reading() as connection:
        count = _counted_by_server if connection.dialect.name == "postgresql" else _counted_in_file
        return sorted(count(connection, place, spans), key=lambda item: (-item[1], item[0]))[:TOP]


# Of either kind of database: by the spans one by one, since a range of them would walk over every value of theirs.


def _counted_in_file(connection: Connection, place: Mapping[str, object], spans: range) -> list[tuple[str, int]]:
    candidates: Counter[str] = Counter()
    for span in spans:
        for value, events in connection.execute(_TOP_OF_SPAN, {**place, "of_span": span}):
            candidates[value] += events
    found = connection.execute(_OF_VALUES, {**place, "spans": list(spans), "values": _leading(candidates)})
    return [(str(value), int(events)) for value, events in found]


def _counted_by_server(connection: Connection, place: Mapping[str, object], spans: range) -> list[tuple[str, int]]:
    """Count as in a file, in two questions: one for each span would be hundreds of them, each on its way."""
    asked = {**place, "first_span": spans.start, "last_span": spans.stop - 1}
    candidates: Counter[str] = Counter(dict(connection.execute(_TOP_OF_SPANS, asked).all()))
    found = connection.execute(_OF_VALUES_IN_SPANS, {**asked, "values": _leading(candidates)})
    return [(str(value), int(events)) for value, events in found]


def _leading(candidates: Counter[str]) -> list[str]:
    return [value for value, _ in candidates.most_common(_LEADING)]


_OF_DIMENSION = (
    event_tops.c.project_id == bindparam("of_project"),
    event_tops.c.dimension == bindparam("of_dimension"),
    event_tops.c.seconds == bindparam("of_length"),
)
_TOP_OF_SPAN = (
    select(event_tops.c.value, event_tops.c.events)
    .with_hint(event_tops, "INDEXED BY event_tops_by_events", "sqlite")
    .where(*_OF_DIMENSION, event_tops.c.span == bindparam("of_span"))
    .order_by(event_tops.c.events.desc())
    .limit(_CANDIDATES_PER_SPAN)
)
_OF_VALUES = (
    select(event_tops.c.value, _sum(event_tops.c.events))
    .where(
        *_OF_DIMENSION,
        event_tops.c.span.in_(bindparam("spans", expanding=True)),
        event_tops.c.value.in_(bindparam("values", expanding=True)),
    )
    .group_by(event_tops.c.value)
)


def _spans() -> TableValuedAlias:
    edges = (cast(bindparam(name), Number) for name in ("first_span", "last_span"))
    return func.generate_series(*edges).table_valued("span", name="spans").render_derived()


def _top_of_spans() -> AnySelect:
    spans = _spans()
    of_span = (
        select(event_tops.c.value, event_tops.c.events)
        .where(*_OF_DIMENSION, event_tops.c.span == spans.c.span)
        .order_by(event_tops.c.events.desc())
        .limit(_CANDIDATES_PER_SPAN)
        .lateral("of_span")
    )
    return _summed(spans, of_span)


def _of_values_in_spans() -> AnySelect:
    spans, values = _spans(), cast(bindparam("values"), ARRAY(Text))
    # The limit has the server look for them in one span after the other: without it, it may choose to walk over all
    # values of all spans.
    of_span = (
        select(event_tops.c.value, event_tops.c.events)
        .where(*_OF_DIMENSION, event_tops.c.span == spans.c.span, event_tops.c.value == any_(values))
        .order_by(event_tops.c.value)
        .limit(_LEADING)
        .lateral("of_span")
    )
    return _summed(spans, of_span)


def _summed(spans: TableValuedAlias, of_span: FromClause) -> AnySelect:
    return (
        select(of_span.c.value, _sum(of_span.c.events))
        .select_from(spans)
        .join(of_span, true())
        .group_by(of_span.c.value)
    )


_TOP_OF_SPANS = _top_of_spans()
_OF_VALUES_IN_SPANS = _of_values_in_spans()
