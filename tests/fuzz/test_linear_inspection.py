"""Looking into a request takes a time in proportion to its length, whatever a hostile client writes, with each engine.

Units of what the signatures look for, and those of `support.hostile_texts`, are repeated to 4, 8 and 16 kB as a query,
a path, a header and a body. FUZZ_SCALE=20 tries 20 times as many, FUZZ_SEED begins elsewhere.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from support import linear
from support.attack_payloads import PAYLOADS
from support.hostile_texts import PARTS
from support.linear import MOST

from opentelemetry_guard.decision import patterns
from opentelemetry_guard.decision.inspection import Inspector
from opentelemetry_guard.decision.signatures import signatures
from opentelemetry_guard.instrumentation.http.bodies import texts_of
from opentelemetry_guard.settings.signature_rules import CATEGORIES, HEADERS

pytestmark = pytest.mark.fuzz

SCALE = float(os.environ.get("FUZZ_SCALE", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "20"))
NOTICEABLE = 0.004
"""Seconds of processor time below which a text of 16 kB is not compared: that is less than the clock's noise."""

Looking = Callable[[Inspector, bytes], object]

WAYS: dict[str, Looking] = {
    "query": lambda inspector, text: inspector.inspect(b"/", b"q=" + text, ()),
    "path": lambda inspector, text: inspector.inspect(b"/" + text, b"", ()),
    "header": lambda inspector, text: inspector.inspect(b"/", b"", [(b"referer", text)]),
    "form": lambda inspector, text: inspector.values(b"q=" + text),
    "json": lambda inspector, text: inspector.texts(texts_of(b'["' + text)),
}


def units() -> list[bytes]:
    """Return beginnings of what signatures look for, which never become it, and parts that masking knows."""
    chance = random.Random(SEED)
    found = [signature.finds for signature in signatures()] + [one for many in PAYLOADS.values() for one in many]
    begun = [text[: chance.randrange(1, len(text) + 1)] for text in found]
    made = ["".join(chance.choices(begun, k=2)) for _ in range(round(10 * SCALE))]
    some = chance.sample([*begun, *PARTS], min(len(begun), round(20 * SCALE)))
    known = [
        "'",
        "%27",
        "%2527",
        "=",
        "=&",
        "/*",
        "  ",
        "../",
        "<a ",
        "{{",
        "${",
        "a' or ",
        "(select ",
        "\uff1c",
        "%u0027",
    ]
    return [text.encode("utf-8", "replace") for text in (*known, *made, *some)]


def growth(look: Looking, inspector: Inspector, unit: bytes) -> float:
    """Return how much longer four times a text takes; no header is remembered."""

    def measured(size: int, tries: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        return linear.seconds(lambda: look(inspector, text), tries)

    return linear.growth(measured, NOTICEABLE, tries=(2, 5))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ["re2", "re"])
def test_four_times_the_text_takes_about_four_times_as_long(
    monkeypatch: pytest.MonkeyPatch, way: str, engine: str
) -> None:
    if engine == "re":
        monkeypatch.setattr(patterns, "_re2", lambda: None)
        some = units()[::3]
    else:
        monkeypatch.setattr(patterns, "MOST_SECONDS", 60)  # so that no bound hides what grows
        some = units()
    inspector = Inspector(CATEGORIES, HEADERS)
    measured = {unit: growth(WAYS[way], inspector, unit) for unit in some}
    assert {unit: ratio for unit, ratio in measured.items() if ratio > MOST} == {}
