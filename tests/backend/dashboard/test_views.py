"""The page of an event has a size that its sender does not choose."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from opentelemetry_guard.backend.dashboard.views import event_detail
from opentelemetry_guard.backend.storage.search import FoundEvent
from opentelemetry_guard.events.known import band_of


def nested(depth: int, leaf: object) -> object:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


@pytest.mark.parametrize(
    "extra",
    [
        {"metadata": {"a": nested(150, [1] * 100_000)}},
        {"metadata": {f"key{number}": "\x00" * 100 for number in range(50_000)}},
        {"metadata": {"k" * 1_000_000: 1}},
        {"metadata": {"trace_id": "x" * 1_000_000, "span_id": nested(150, [1] * 9_000)}},
        {"reason": "r" * 5_000_000, "unknown": nested(200, ["\u202e"] * 50_000)},
        {f"unknown{number}": nested(100, [1] * 1_000) for number in range(300)},
    ],
    ids=["deep", "many", "long name", "trace", "long text", "many deep"],
)
def test_the_page_of_an_event_stays_small_whatever_was_stored(extra: dict[str, Any]) -> None:
    row = orjson.dumps({"event_type": "x", **extra}).decode()
    detail = event_detail(FoundEvent(1, "b", 0.0, 0.0, row), None)
    shown = [detail.raw, detail.trace_id, detail.span_id]
    shown += [text for pair in (*detail.facts, *detail.further, *detail.metadata) for text in pair]
    assert sum(map(len, shown)) < 3_000_000


@pytest.mark.parametrize(
    ("severity", "word"), [(0, "low"), (3, "low"), (4, "medium"), (6, "medium"), (7, "high"), (10, "high")]
)
def test_a_severity_has_the_word_of_its_range(severity: int, word: str) -> None:
    assert band_of(severity) == word
