"""Who asks for rules: known by what an installation's questions say, and forgotten when none comes any more."""

from __future__ import annotations

import pytest

from opentelemetry_guard.backend import askers
from opentelemetry_guard.backend.askers import Asker, Askers, Enforcement, etag

NOW = 1_800_000_000.0


def test_the_version_that_an_installation_has_is_what_its_next_question_names() -> None:
    known = Askers()
    known.note("shop", "one", "", 5, NOW)
    known.note("shop", "two", f"W/{etag(12, 'abc')}", 5, NOW)
    known.note("blog", "three", etag(1, "abc"), 5, NOW)
    assert known.of("shop", NOW) == {"one": Asker(NOW, None, 5), "two": Asker(NOW, 12, 5)}


@pytest.mark.parametrize("text", ["*", '"abc"', '"v-1-a"', '"v9999999999-a"', "\x00" * 100_000])
def test_a_tag_that_is_not_ours_names_no_version(text: str) -> None:
    known = Askers()
    known.note("shop", "one", text, 5, NOW)
    assert known.of("shop", NOW)["one"].has is None


def test_an_installation_counts_as_long_as_it_may_be_between_two_questions() -> None:
    known = Askers()
    known.note("shop", "quick", "", 5, NOW)
    known.note("shop", "slow", "", 300, NOW)
    assert known.enforcement("shop", NOW + 90) == Enforcement(2, 300)
    assert known.enforcement("shop", NOW + 91) == Enforcement(1, 300)
    assert known.enforcement("shop", NOW + 901) == Enforcement(0, 0)


def test_a_flood_of_installations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "MOST_ASKERS", 3)
    known = Askers()
    for number in range(10):
        known.note("shop", str(number), "", 5, NOW)
    assert set(known.of("shop", NOW)) == {"7", "8", "9"}
