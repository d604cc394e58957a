"""Rows to batches and back."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import json_values

from opentelemetry_guard.delivery.body_limit import BodyLimit
from opentelemetry_guard.delivery.encoder import Encoder, plain_body, plain_size
from opentelemetry_guard.delivery.envelope import Envelope
from opentelemetry_guard.models import EventBatch

rows_of_json = st.lists(st.dictionaries(st.text(max_size=8), json_values, max_size=4), min_size=1, max_size=8)


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "idempotency_key": str(UUID(int=number)),
        "event_type": "ip_blocked",
        "timestamp": "2026-01-02T03:04:05Z",
        **fields,
    }


@given(rows_of_json, st.sampled_from(["events", "metrics"]), st.sampled_from(["gzip", "none"]))
def test_rows_come_back_as_they_went_in(rows: list[Any], kind: Any, compression: Any) -> None:
    encoder = Encoder("p", compression)
    [batch] = encoder.encode(kind, rows)
    assert batch.rows == len(rows)
    assert encoder.rows(batch) == rows


KEY = "A" * 43
envelopes = st.sampled_from([None, Envelope(KEY)])
kinds = st.sampled_from(["events", "metrics"])


@given(rows_of_json, st.integers(1, 2000), st.sampled_from(["gzip", "none"]), envelopes, kinds, st.integers(1, 9))
def test_bodies_stay_below_the_limit_and_keep_every_row_in_order(
    rows: list[Any], limit: int, compression: Any, envelope: Any, kind: Any, max_rows: int
) -> None:
    encoder = Encoder("p", compression, envelope, max_rows=max_rows, limit=BodyLimit(limit))
    batches = encoder.encode(kind, rows)
    assert [row for batch in batches for row in encoder.rows(batch)] == rows
    for batch in batches:
        assert plain_size(batch) == len(plain_body(batch))
        assert (plain_size(batch) < limit and batch.rows <= max_rows) or batch.rows == 1
        assert encoder.is_current(batch)
    assert len({batch.batch_id for batch in batches}) == len(batches)


@given(st.lists(rows_of_json, min_size=1, max_size=5), st.integers(1, 3000), envelopes, kinds)
def test_batches_that_are_joined_keep_every_row_in_order(
    parts: list[list[Any]], limit: int, envelope: Any, kind: Any
) -> None:
    before = Encoder("p", "gzip", envelope)
    encoder = Encoder("q", "gzip", envelope, max_rows=12, limit=BodyLimit(limit))
    batches = [batch for rows in parts for batch in before.encode(kind, rows)]
    joined = encoder.join(kind, [piece for batch in batches for piece in encoder.pieces(batch)], 12.5)
    assert [row for batch in joined for row in encoder.rows(batch)] == [row for rows in parts for row in rows]
    assert all((plain_size(batch) < limit and batch.rows <= 12) or batch.rows == 1 for batch in joined)
    assert {batch.created_at for batch in joined} == {12.5}


def test_rows_become_as_few_batches_as_the_limit_allows() -> None:
    encoder = Encoder("p", "none", limit=BodyLimit(10_000))
    rows = [event(number) for number in range(300)]
    room = 10_000 - plain_size(encoder.encode("events", rows[:1])[0])
    fewest = -(-len(json.dumps(rows, separators=(",", ":"))) // room)
    assert fewest <= len(encoder.encode("events", rows)) <= fewest + 1
    small = [piece for row in rows for piece in encoder.pieces(encoder.encode("events", [row])[0])]
    assert len(encoder.join("events", small, 0.0)) <= fewest + 1


def test_a_body_is_the_contracts() -> None:
    [batch] = Encoder(None, "none").encode("events", [event(1)])
    document = json.loads(batch.body)
    EventBatch.model_validate(document)
    assert document.keys() == EventBatch.model_fields.keys()
    assert document["project_id"] == "default"
    assert document["batch_id"] == batch.batch_id
    assert document["metrics"] == []


def test_no_rows_make_no_batch() -> None:
    assert Encoder("p", "gzip").encode("events", []) == []


def test_bodies_of_a_kibibyte_and_more_are_compressed() -> None:
    encoder = Encoder("p", "gzip")
    [small] = encoder.encode("events", [event(1)])
    [large] = encoder.encode("events", [event(1, reason="x" * 1024)])
    assert small.content_encoding == ""
    assert large.content_encoding == "gzip"
    assert json.loads(gzip.decompress(large.body))["events"][0]["reason"] == "x" * 1024
    [plain] = Encoder("p", "none").encode("events", [event(1, reason="x" * 1024)])
    assert plain.content_encoding == ""


@pytest.mark.parametrize("value", [Decimal("1.5"), {1, 2}, "\ud800", 2**70, b"\xff", object(), {2: "x"}])
def test_a_row_that_json_cannot_take_costs_neither_itself_nor_the_others(value: object) -> None:
    encoder = Encoder("p", "none")
    [batch] = encoder.encode("events", [event(1), event(2, metadata={"value": value}), event(3)])
    rows = encoder.rows(batch)
    assert [row["idempotency_key"] for row in rows] == [str(UUID(int=number)) for number in (1, 2, 3)]
    EventBatch.model_validate_json(batch.body)


def test_rows_of_older_batches_keep_their_age() -> None:
    batches = Encoder("p", "none", limit=BodyLimit(1)).encode("events", [event(n) for n in range(4)], created_at=12.5)
    assert [batch.created_at for batch in batches] == [12.5] * 4


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"events": 3}', b"not json", b'{"events": [{}, {}]}'])
def test_a_body_of_somebody_else_is_refused(body: bytes) -> None:
    encoder = Encoder("p", "none")
    [batch] = encoder.encode("events", [event(1)])
    with pytest.raises(ValueError):  # noqa: PT011  each body has its own text
        encoder.rows(replace(batch, body=body))


def test_damaged_compression_is_refused() -> None:
    encoder = Encoder("p", "gzip")
    [batch] = encoder.encode("events", [event(1, reason="x" * 1024)])
    for body in (batch.body[:20], b"plain", batch.body[:-8] + b"12345678"):
        with pytest.raises(ValueError, match=batch.batch_id):
            encoder.rows(replace(batch, body=body))
