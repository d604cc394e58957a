"""Which patterns a text contains, with google-re2 and without, and that no pattern keeps a process busy."""

from __future__ import annotations

import logging
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.decision import patterns
from opentelemetry_guard.decision.bounded_re import FLAGS, BoundedSearch
from opentelemetry_guard.decision.patterns import Patterns, refusal
from opentelemetry_guard.models import DynamicRules

LONGEST = 1024


@pytest.fixture(params=["google-re2", "re"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the extra, and as if it weren't installed."""
    if request.param == "re":
        monkeypatch.setattr(patterns, "_re2", lambda: None)
    return str(request.param)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("<script.*?>.*?</script>", "/?q=<SCRIPT src=x>alert(1)</script>"),
        (r"on\w+\s*=", "/?q=<img onerror =x>"),
        (r"(?:or|and)\s+\d+=\d+", "/?id=1 OR 1=1"),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "/?host=169.254.169.254"),
        (r"python-requests/\d+\.\d+\.\d+", "Python-Requests/2.32.3"),
        (r"union\s+select|drop\s+table", "/?q=1;drop  table x"),
        (r"\.\./", "/../etc"),
        ("^bot", "bot"),
        ("bot$", "a bot"),
        (r"(?<!x)curl", "a curl"),
        ("x{,3}y", "xxy"),
        ("*bot*", "a *BOT* b"),
        ("(?i)sqlmap", "SqlMap"),
        ("bad.*bot.*crawler", "Mozilla BadRobot the Crawler"),
    ],
)
def test_patterns_that_people_write_are_found_anywhere(engine: str, pattern: str, text: str) -> None:
    found = Patterns([pattern], LONGEST)
    assert found.find(text) is not None
    assert found.find("/items/7") is None
    padded = Patterns([pattern.removeprefix("^").removesuffix("$")], LONGEST)
    assert padded.find(" " * 700 + text + " " * 100) is not None


HOSTILE = [
    "(?:a|aa)" * 18 + "b", "a+?[ab]{64}!", "(a+)+$", "(a|aa)+$", "((a|aa)b?)+$", "(a*)*b", ".*.*.*x", ".*.*.*.*.*x",
    "[a-z]*[a-z]*[a-z]*9", r".*?\w{2,}.*x", "(x+x+)+y", "a?" * 20 + "a" * 20 + "b", "(?=(a*)*)b", "(?:a{0,9}){0,9}b",
    "[ā-ž]+[ā-ž]+[ā-ž]+!", "a{1,900}{2}b", "(?:a?){30}b", r"(a*)\1*b",
    "a?" * 2000 + "(?!x)", "(?:" * 90 + "(?!x)a" + "{0,8})" * 90 + "b", "(?!x)" + "(?:" * 50 + "a" + "){4000}" * 50,
    "(?!x)" + "(" * 400 + "a" + ")*" * 400, "(?!x)" + ".*" * 500 + "x", "(?!x)a" + "|b" * 2000,
]  # fmt: skip


@pytest.mark.parametrize("pattern", HOSTILE)
def test_no_pattern_hangs(engine: str, pattern: str) -> None:
    # What backtracks without bound would not return in anybody's lifetime.
    assert Patterns([pattern, "curl"], LONGEST).find("a" * 1000 + "ab" * 12 + "?") in (None, pattern)
    assert Patterns([pattern, "curl"], LONGEST).find("curl") in ("curl", pattern)


def test_a_thousand_slow_patterns_end_soon_and_what_was_skipped_is_said(
    engine: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(patterns, "UNROLLED_INSTRUCTIONS", 0)  # an automaton each
    slow = Patterns([f"a[ab]{{{number}}}!" for number in range(40, 60)], LONGEST)
    assert slow.find("ab" * 512) is None
    (record,) = caplog.records
    assert "not looked at by the rest" in record.getMessage()


@pytest.mark.parametrize("pattern", ["(a+)+$", "(?:a|aa)" * 18 + "b", "(x+x+)+y"])
def test_without_google_re2_a_pattern_that_nothing_bounds_is_refused_with_the_remedy(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(pattern, LONGEST) is None
    monkeypatch.setattr(patterns, "_re2", lambda: None)
    assert "google-re2 (extra 'patterns')" in (refusal(pattern, LONGEST) or "")


def test_patterns_that_neither_engine_bounds_are_refused(engine: str) -> None:
    for pattern in (r"(a)\1", "a" * 5000):
        assert "is ignored" in (refusal(pattern, LONGEST) or "")


def test_too_many_unrolled_patterns_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MOST_SETS", 2)
    found = Patterns([f"{chr(97 + number)}.{{200}}b" for number in range(10)], LONGEST)
    (problem,) = found.problems
    assert "there are too many" in problem


def test_a_set_that_runs_out_of_memory_is_replaced_by_single_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Patterns(["curl", "bad.*bot"], LONGEST)
    monkeypatch.setattr(found._matchers[0], "_match", lambda text: [])
    assert found.find("a BADbot") == "bad.*bot"
    assert found.find("browser") is None


def test_text_that_is_no_unicode_is_searched() -> None:
    assert Patterns(["curl"], LONGEST).find("\udcff curl \ud800") == "curl"
    assert DynamicRules(blocked_user_agents=["\udcff"]).decide(user_agent="\udcff") is not None


def test_the_end_of_a_window_is_no_end_of_a_text() -> None:
    search = BoundedSearch(".*.*x$", LONGEST)
    assert search.window < LONGEST
    assert not any(search.searches("y" * (search.window - 1) + "x" + "y" * 500))
    assert any(search.searches("y" * 900 + "x"))


pieces = st.sampled_from(["a", "b", ".", "[ab]", r"\w", "(?:ab)", "(a|b)", "(?:a|ab)"])
anchors = st.sampled_from(["(?!b)", r"\b", "^", "$"])
repeats = st.sampled_from(["", "", "*", "+", "?", "{2}", "{2,}", "*?"])
repeated = st.tuples(pieces, repeats).map("".join)
expressions = st.lists(st.one_of(repeated, repeated, anchors), min_size=1, max_size=6).map("".join)


@given(st.lists(expressions, min_size=1, max_size=4), st.text("abAB \n-", max_size=24), st.booleans())
def test_what_is_found_is_what_re_finds(written: list[str], text: str, has_re2: bool) -> None:
    with pytest.MonkeyPatch.context() as patched:
        if not has_re2:
            patched.setattr(patterns, "_re2", lambda: None)
        refused = [pattern for pattern in written if refusal(pattern, LONGEST)]
        found = Patterns(written, LONGEST).find(text)
    expected = [pattern for pattern in written if pattern not in refused and re.search(pattern, text, FLAGS)]
    assert found in expected if expected else found is None


@given(expressions, st.sampled_from(["a", "ab", "aab", "b"]), st.booleans())
def test_every_search_ends(expression: str, stem: str, has_re2: bool) -> None:
    # There is nothing to assert: a pattern that backtracks without bound would not return in anybody's lifetime.
    with pytest.MonkeyPatch.context() as patched:
        if not has_re2:
            patched.setattr(patterns, "_re2", lambda: None)
        Patterns([expression], 512).find(stem * 512 + "!")


def test_a_thousand_patterns_cost_about_as_much_as_ten(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    drawn = random.Random(7)

    def word(length: int) -> str:
        return "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz0123456789 /-", k=length))

    written = [f"{word(8)}-{number}" for number in range(1000)]
    few, many = Patterns(written[:10], 512), Patterns(written, 512)
    agents = [word(512) for _ in range(200)]

    def seconds(found: Patterns) -> float:
        begin = time.thread_time()
        for agent in agents:
            found.find(agent)
        return time.thread_time() - begin

    assert min(seconds(many) for _ in range(3)) < 10 * min(seconds(few) for _ in range(3))
