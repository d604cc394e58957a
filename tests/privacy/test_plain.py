"""An event that is judged plain is what it would be after it was taken apart and cleaned, to the byte."""

from __future__ import annotations

import string
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.engines import need_re2
from support.hostile_texts import PARTS
from support.strategies import any_events, python_values

from opentelemetry_guard import SecurityEvent
from opentelemetry_guard.events import codec
from opentelemetry_guard.events.sentence import sentence
from opentelemetry_guard.privacy import Privacy, PrivacySettings, plain
from opentelemetry_guard.privacy.plain import Verdict

KEY = "5f0c1b2e-7f6b-4a52-8a55-3f4a8d3c9e10"
USUAL: dict[str, Any] = {
    "idempotency_key": KEY,
    "timestamp": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
    "event_type": "access_denied",
    "ip_address": "203.0.113.7",
    "country": "NL",
    "user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0",
    "action_taken": "blocked",
    "reason": "the address is on the list of blocked addresses",
    "endpoint": "/items/{number}",
    "method": "GET",
    "status_code": 403,
    "response_time": 0.0123,
    "rule_type": "scanner_user_agents",
    "handler_name": "check_the_address_of_the_client",
    "metadata": {"rule": "scanner_user_agents", "score": 7, "threat_level": 0.5, "banned": False, "note": None},
}


def check(fields: dict[str, Any], *judges: Privacy) -> Verdict:
    """Judge an event, compare with the thorough way, and return the verdict."""
    verdict = Verdict.UNCERTAIN
    for judge in judges:
        found = codec.whole(None, fields)
        if found is None or not (verdict := judge.judge(found[0], dated=found[1] is not None)):
            continue
        whole, made_at = found
        given_row, given_nanoseconds = codec.to_row(whole)
        row, nanoseconds = codec.as_row({**whole}, made_at)
        cleaned = Privacy(judge.settings).event(given_row)
        assert cleaned is not None
        assert codec.encoded(row) == codec.encoded(cleaned)
        assert nanoseconds == given_nanoseconds
        if verdict is Verdict.SPEAKABLE:
            assert Privacy(judge.settings).text(sentence(row)) == sentence(cleaned)
    return verdict


SECRETS = (
    "hunter2-Zx81qT",
    "4111 1111 1111 1111",
    "4111111111111111",
    "sk_live_abcdefgh1234",
    "bob:hunter2",
    "ghp_" + "a" * 20,
)
WORDS = (
    *("password", "token", "api_key", "2fa", "Bearer", "basic", "digest", "xoxb-1234-abcd", "identified by", "params"),
    *("name", "value", "key", "loc", "input", "pattern", "match", "matched", "error", "cookie", "content_preview"),
    *(
        "GET",
        "blocked",
        "logged",
        "request_blocked",
        "/",
        " ",
        "  ",
        ": ",
        "=",
        "-",
        "--",
        "1",
        "{",
        "[",
        "]",
        "}",
        "(1, 2)",
    ),
    *(
        "/api/v1/users",
        "/reset/k3vT9qAbC",
        "/items/{token}",
        "//",
        "?q",
        "x" * 15,
        "x" * 16,
        "a_b" * 6,
        "1234567",
        "\n",
        "\t",
    ),
    *(
        "203.0.113.7",
        "2001:db8::1",
        "2001:2fa:12::1",
        "[REDACTED]",
        "eferrer",
        "%20",
        "\u00e9",
        "\ud800",
        "Ã©",
        "curl -u ",
    ),
)
words = st.lists(st.sampled_from((*WORDS, *SECRETS, *PARTS)) | st.text(string.printable, max_size=4), max_size=4)
text = words.map("".join) | words.map(" ".join)
value = text | st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | python_values
some = st.sampled_from
fields = st.fixed_dictionaries(
    {},
    optional={
        **{name: text | st.none() for name in codec.FIELDS if name not in ("metadata", "timestamp", "idempotency_key")},
        "event_type": some(["access_denied", "decoding_error", "penetration_attempt"]) | text,
        "ip_address": some(["203.0.113.7", "2001:db8::2fa", "::ffff:192.0.2.1", "system"]) | text,
        "action_taken": some(["blocked", "request_blocked", "password", "params", "key"]) | text,
        "method": some(["GET", "POST", "Bearer"]) | text,
        "status_code": st.integers(-(2**64), 2**64) | value,
        "response_time": st.floats() | value,
        "idempotency_key": st.uuids().map(str) | some([KEY.upper(), None, ""]),
        "timestamp": st.datetimes(timezones=some([timezone.utc, timezone(timedelta(hours=2))])) | st.datetimes(),
        "metadata": st.dictionaries(some(WORDS) | st.text(max_size=3), value, max_size=4),
    },
)


@pytest.fixture(params=["re2", "re"], scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The two that find signs."""
    name: str = request.param
    if name == "re2":
        need_re2()
        yield name
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plain, "_finder", lambda: plain._find)
        yield name


USED: dict[str, Privacy] = {}


@given(st.lists(fields, min_size=1, max_size=3))
@settings(max_examples=400)
@example([{"reason": "ok", "metadata": {"2fa": "1"}}])
@example([{"ip_address": "2001:2fa:12::1"}])
def test_what_is_judged_plain_is_what_the_thorough_way_makes_of_it(engine: str, changes: list[dict[str, Any]]) -> None:
    used = USED.setdefault(engine, Privacy())
    for change in changes:
        check({**USUAL, **change}, used, Privacy())
        check({**USUAL, **change}, used)


@given(any_events)
def test_any_event_is_the_same_both_ways(engine: str, event: SecurityEvent) -> None:
    if not event.__pydantic_extra__:
        check(dict(event.__dict__), Privacy())
        check({**event.__dict__, "idempotency_key": None, "timestamp": None}, Privacy())


def test_what_is_harmless_under_one_name_is_looked_at_under_another(engine: str) -> None:
    used = Privacy()
    for name, verdict in (("note", Verdict.SPEAKABLE), ("password", Verdict.UNCERTAIN), ("note", Verdict.SPEAKABLE)):
        assert check({**USUAL, "metadata": {name: "the parameter 'q': union"}}, used) is verdict, name


def test_a_usual_event_is_plain_and_can_be_spoken(engine: str) -> None:
    assert check(USUAL, Privacy()) is Verdict.SPEAKABLE
    made = Privacy()
    assert check({**USUAL, "user_agent": "Firefox rv:140.0"}, made) is Verdict.SPEAKABLE
    assert check({**USUAL, "reason": "found: a word"}, made) is Verdict.PLAIN
    assert check({**USUAL, "ip_address": "2001:db8::1"}, made) is Verdict.PLAIN
    assert check({**USUAL, "endpoint": "/api/v1/users"}, made) is Verdict.SPEAKABLE


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "password=hunter2"},
        {"reason": "Bearer abcdefgh"},
        {"user_agent": "4111 1111 1111 1111"},
        {"endpoint": "/reset-password/k3vT9qAbC"},
        {"metadata": {"password": "hunter2"}},
        {"metadata": {"card": 4111111111111111}},
        {"metadata": {"content_preview": "x"}},
        {"metadata": {"name": "password", "value": "hunter2"}},
        {"metadata": {"headers": {"cookie": "a"}}},
        {"metadata": {"list": [["cookie", "a"]]}},
        {"event_type": "decoding_error", "metadata": {"error": "quoted"}},
        {"rule_type": "sk_live_abcdefgh1234"},
        {"reason": "x" * 2000},
        {"tenant": "acme"},
        {"status_code": True},
        {"response_time": float("nan")},
        {"user_agent": "Ã©"},
    ],
)
def test_what_may_hold_a_secret_or_is_not_valid_is_left_to_the_thorough_way(
    engine: str, change: dict[str, Any]
) -> None:
    assert check({**USUAL, **change}, Privacy()) is Verdict.UNCERTAIN


@pytest.mark.parametrize(
    "setting",
    [{"address_key": "k"}, {"processors": (lambda event: event,)}, {"sensitive_headers": frozenset({"reason"})}],
    ids=["hashed addresses", "processors", "a field as a header"],
)
def test_settings_that_change_every_event_leave_nothing_plain(setting: dict[str, Any]) -> None:
    assert check(USUAL, Privacy(PrivacySettings(**setting))) is Verdict.UNCERTAIN


def test_memory_is_bounded(engine: str) -> None:
    made = Privacy()
    for number in range(plain.MEMORY + 100):
        check({**USUAL, "reason": f"reason {number}", "endpoint": f"/{number}", "rule_type": f"r{number}"}, made)
    judge = made._plain
    assert judge is not None
    assert max(len(judge._bare), len(judge._bare_paths), len(judge._known)) <= plain.MEMORY
    for number in range(plain.MEMORY + 100):
        check({**USUAL, "metadata": {f"name{number}": "a"}}, made)
    assert len(judge._clean_values) <= plain.MEMORY * len(USUAL["metadata"])
