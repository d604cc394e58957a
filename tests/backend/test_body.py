"""From bytes to rows: what holds for every body."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.body import decompress, parse
from opentelemetry_guard.backend.refusal import Refusal
from opentelemetry_guard.models import EventBatch

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
EVENTS = st.fixed_dictionaries(
    {
        "idempotency_key": st.uuids().map(str),
        "timestamp": st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds") + "Z"),
        "event_type": TEXT,
        "ip_address": TEXT,
        "country": st.none() | TEXT,
        "user_agent": st.none() | TEXT,
        "action_taken": TEXT,
        "reason": TEXT,
        "endpoint": st.none() | TEXT,
        "method": st.none() | TEXT,
        "status_code": st.none() | st.integers(),
        "response_time": st.none() | FINITE,
        "decorator_type": st.none() | TEXT,
        "rule_type": st.none() | TEXT,
        "pattern_matched": st.none() | TEXT,
        "handler_name": st.none() | TEXT,
        "metadata": st.dictionaries(TEXT, JSON, max_size=4),
    },
    optional={"an_unknown_key": JSON},
)


def same_moment(row: dict[str, Any]) -> dict[str, Any]:
    """Spell the timestamp with all its microseconds, as `EVENTS` does."""
    whole, _, fraction = row["timestamp"].removesuffix("Z").partition(".")
    return {**row, "timestamp": f"{whole}.{fraction:0<6}Z"}


@given(EVENTS)
def test_every_valid_event_is_stored_as_it_was_sent(sent: dict[str, Any]) -> None:
    batch = parse(EventBatch, json.dumps({"batch_id": "b", "events": [sent]}).encode())
    assert same_moment(json.loads(batch.events[0].model_dump_json())) == sent


def refused_with(body: bytes) -> int | None:
    try:
        parse(EventBatch, body)
    except Refusal as refusal:
        return refusal.status
    return None


@given(st.binary())
def test_any_bytes_are_rows_or_a_refusal(body: bytes) -> None:
    assert refused_with(body) in (400, 422)


@given(JSON)
def test_any_json_is_rows_or_a_refusal(document: Any) -> None:
    body = json.dumps({"batch_id": "b", "events": [document], "metrics": [document]})
    assert refused_with(body.encode()) in (400, 422, None)


@given(st.binary(max_size=300), st.integers(1, 300))
def test_gzip_is_undone_up_to_the_limit_and_413_beyond(plain: bytes, limit: int) -> None:
    packed = gzip.compress(plain)
    if len(plain) <= limit:
        assert decompress(packed, "gzip", limit) == plain
    else:
        with pytest.raises(Refusal) as caught:
            decompress(packed, "gzip", limit)
        assert caught.value.status == 413


@given(st.binary(max_size=300), st.data())
def test_a_gzip_body_that_was_cut_is_400(plain: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(plain)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    with pytest.raises(Refusal) as caught:
        decompress(cut, "gzip", 1000)
    assert caught.value.status == 400


def test_an_answer_names_ten_violations_and_counts_the_rest() -> None:
    with pytest.raises(Refusal) as caught:
        parse(EventBatch, json.dumps({"batch_id": "b", "events": [{}] * 25}).encode())
    assert caught.value.detail.endswith("events[9].event_type: Field required; and 15 more")
