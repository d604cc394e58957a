"""An event that comes again is noticed, within bounds."""

from __future__ import annotations

from opentelemetry_guard.delivery.repeats import REMEMBERED_KEYS, Repeats
from opentelemetry_guard.events.codec import EncodedRow, Row


def rows(*keys: str) -> list[Row | EncodedRow]:
    return [{"idempotency_key": key} for key in keys]


def test_what_has_come_before_is_left_out_in_any_form() -> None:
    repeats = Repeats()
    assert repeats.without(rows("a", "b", "a")) == rows("a", "b")
    assert repeats.without([*rows("c", "b"), EncodedRow("a", b"{}")]) == rows("c")


def test_a_successor_knows_what_has_come() -> None:
    former, successor = Repeats(), Repeats()
    former.without(rows("a"))
    former.tell(successor)
    assert successor.without(rows("a", "b")) == rows("b")


def test_the_memory_of_keys_is_bounded() -> None:
    repeats = Repeats()
    for start in range(0, REMEMBERED_KEYS + 200, 200):
        repeats.without(rows(*(f"k{start + n}" for n in range(200))))
    assert len(repeats._recent) == REMEMBERED_KEYS
    assert repeats.without(rows("k0")) == rows("k0")
