"""Looking into a request takes a time in proportion to its length, whatever a hostile client writes, with each engine.

Units of what the signatures look for, and those of `support.hostile_texts`, are repeated to 4, 8 and 16 kB as a query,
a path, a header and a body; then all that judges an answer sees them. FUZZ_SCALE=20 tries 20 times as many, FUZZ_SEED
begins elsewhere.
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
from traffic.asking import Sent
from traffic.scene import Fleet, Followed

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


FAILED = Sent(0.0, "203.0.113.7", "/login", 401, method="POST")
PLACES: dict[str, Callable[[str], Sent]] = {
    "path": lambda text: FAILED._replace(path=f"/{text}"),
    "missing": lambda text: FAILED._replace(path=f"/{text}", status=404, method="GET"),
    "query": lambda text: FAILED._replace(query=text),
    "agent": lambda text: FAILED._replace(agent=text),
    "credentials": lambda text: FAILED._replace(credentials=text),
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


@pytest.mark.parametrize("place", PLACES)
def test_all_that_judges_an_answer_takes_about_four_times_as_long_for_four_times_the_text(place: str) -> None:
    fleet, words = Fleet(1), ["/log-in", "a-b_c-", "0123456789abcdef-", "..;/", "%2e", "googlebot "]
    measured = {}
    for unit in (*words, *(text.decode(errors="replace") for text in units()[::2])):

        def judging(size: int, tries: int, unit: str = unit) -> float:
            request = Followed(PLACES[place]((unit * (size // len(unit) + 1))[:size]))
            return linear.seconds(lambda: fleet.answer(0, request, 0.0), tries)

        measured[unit] = linear.growth(judging, NOTICEABLE, tries=(2, 5))
    assert {unit: ratio for unit, ratio in measured.items() if ratio > MOST} == {}
