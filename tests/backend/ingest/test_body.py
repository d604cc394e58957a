"""From bytes to rows: what holds for every body."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.ingest.body import DEEPEST, MOST_ROWS, MOST_VALUES, check_size, decompress, parse
from opentelemetry_guard.backend.refusal import Refusal
from opentelemetry_guard.backend.storage.arriving import read_events
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
    (stored,) = read_events(batch.events, 0.0)
    assert same_moment(json.loads(stored.row)) == sent


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


def filled(item: bytes) -> bytes:
    """Return a batch of five megabytes that are full of `item`."""
    return b'{"batch_id":"b","events":[' + b",".join([item] * (5_000_000 // (len(item) + 1))) + b"]}"


@pytest.mark.parametrize(
    "body",
    [
        *[filled(item) for item in (b"1", b"null", b"{}", b"[]", b'""', b"[[]]", b'{"a":1}', b"1e9", b'"\\""')],
        b'{"batch_id":"b","events":[{"event_type":"x","metadata":{'
        + b",".join(b'"%x":0' % number for number in range(MOST_VALUES + 1))
        + b"}}]}",
        b'{"batch_id":"b",' + b'"a":1,' * (MOST_VALUES + 1) + b'"events":[]}',
        b'"' * 5_000_000,
    ],
    ids=lambda body: body[:60].decode(),
)
def test_a_body_of_too_many_values_is_413_before_anything_is_made_of_it(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orjson.loads", None)
    assert refused_with(body) == 413


def test_too_many_rows_are_413_whatever_they_are() -> None:
    assert refused_with(b'{"batch_id":"b","metrics":[' + b"0," * MOST_ROWS + b"0]}") == 413


def test_many_violations_are_counted_and_few_are_named() -> None:
    def told(rows: int) -> str:
        with pytest.raises(Refusal) as refused:
            parse(EventBatch, b'{"batch_id":"b","events":[' + b",".join([b"0"] * rows) + b"]}")
        assert refused.value.status == 422
        return refused.value.detail

    assert told(1_000).endswith("and 990 more")
    assert told(1_001).startswith("1001 values do not fit the schema")


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_refused_beyond_the_limit_and_taken_up_to_it(opening: bytes, closing: bytes) -> None:
    def body(depth: int) -> bytes:
        # The batch, its list, the event and the metadata are four levels.
        nested = opening * (depth - 4) + b"1" + closing * (depth - 4)
        return b'{"batch_id":"b","events":[{"event_type":"[[[\\"[[","metadata":{"a":' + nested + b"}}]}"

    assert refused_with(body(DEEPEST)) is None
    assert refused_with(body(DEEPEST + 1)) == 400


@given(st.lists(st.sampled_from([b'"', b"\\", b"[", b"{", b"]", b",", b"a", b"\xff"]), max_size=80).map(b"".join))
def test_any_punctuation_is_judged_without_an_error(body: bytes) -> None:
    assert refused_with(body) in (400, 422)


@given(TEXT)
def test_what_a_text_contains_is_no_structure(text: str) -> None:
    check_size(json.dumps([text * 3, "[" * (DEEPEST + 1), "," * 9, text]).encode())
