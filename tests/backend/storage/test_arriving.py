"""What a row is stored with is what its JSON says, though nobody reads that again."""

from __future__ import annotations

from datetime import timezone

import orjson
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import any_events

from opentelemetry_guard.backend.storage.arriving import read_events, read_metrics
from opentelemetry_guard.backend.storage.rollups import event_facts, metric_facts
from opentelemetry_guard.models import SecurityEvent, SecurityMetric

NOW = 1_800_000_000.0

_figures = st.floats(allow_nan=False, allow_infinity=False)
any_metrics = st.builds(
    SecurityMetric,
    metric_type=st.sampled_from(["request_count", "response_time", "error_rate"]),
    timestamp=st.datetimes(timezones=st.just(timezone.utc)),
    value=_figures,
    endpoint=st.none() | st.text(max_size=40),
    tags=st.dictionaries(
        st.sampled_from(["count", "max", "p50", "p95", "p99"]) | st.text(max_size=10),
        _figures.map(str) | st.text(max_size=10),
        max_size=8,
    ),
)


@given(any_events)
def test_an_event_is_stored_with_what_its_json_says(event: SecurityEvent) -> None:
    sent = orjson.loads(event.model_dump_json())
    (stored,) = read_events([event], NOW)
    assert orjson.loads(stored.row) == sent
    assert stored.facts == event_facts(stored.row, NOW)


@given(any_metrics)
def test_a_metric_is_stored_with_what_its_json_says(metric: SecurityMetric) -> None:
    (stored,) = read_metrics([metric], NOW)
    assert orjson.loads(stored.row) == orjson.loads(metric.model_dump_json())
    assert stored.facts == metric_facts(stored.row, NOW)
