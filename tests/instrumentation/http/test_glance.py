"""A glance at a request never misses what the rules would find in it; and it does spare ordinary requests the rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opentelemetry_guard.decision.signatures import signatures
from opentelemetry_guard.instrumentation.http.answers import AnsweredRequest
from opentelemetry_guard.instrumentation.http.crawlers import Crawlers
from opentelemetry_guard.instrumentation.http.findings import HttpJudge
from opentelemetry_guard.instrumentation.http.glance import Glance
from opentelemetry_guard.instrumentation.http.signatures import SignatureJudge
from opentelemetry_guard.settings.http_rules import HttpRules
from opentelemetry_guard.settings.signature_rules import SignatureRules

RULES = HttpRules()
JUDGE, SIGNATURES = HttpJudge(RULES), SignatureJudge(SignatureRules())
GLANCE = Glance(JUDGE, SIGNATURES)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

attacks = st.sampled_from([signature.finds for signature in signatures()])
texts = st.one_of(st.text("abc=&/.%+ -_:;'\"<>(){}$|\\,*#~@0123456789ABEFef", max_size=30), attacks)
pieces = st.lists(texts, max_size=3).map("".join)
names = st.sampled_from([*SignatureRules().headers, "forwarded", "accept", "cookie"])
agents = st.one_of(st.sampled_from([FIREFOX, "sqlmap/1.7", "curl/8.5"]), pieces)


def is_passed(answered: AnsweredRequest) -> bool:
    raw = answered.raw_path.encode("latin-1")
    return GLANCE.headers(answered.headers) is not None and GLANCE.is_plain(
        answered.method, answered.path, raw, answered.query
    )


def asked(method: str, path: str, raw: str, query: str, headers: list[tuple[str, str]], agent: str) -> AnsweredRequest:
    sent: list[tuple[bytes, bytes]] = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
    sent.append((b"user-agent", agent.encode("latin-1", "replace")))
    return AnsweredRequest(
        "192.0.2.1",
        None,
        method,
        path,
        "/{path}",
        200,
        0.0,
        next(value for name, value in sent if name == b"user-agent").decode("latin-1"),
        raw_path=raw,
        query=query.encode("latin-1", "replace"),
        headers=sent,
    )


@given(
    st.sampled_from(["GET", "POST", "TRACE", "TRACK"]),
    pieces,
    st.one_of(st.none(), st.just(""), pieces),
    pieces,
    st.lists(st.tuples(names, st.one_of(pieces, agents)), max_size=4),
    agents,
)
@example("GET", "a", "a", "q=1+union+select+password+from+users", [], FIREFOX)
@example("GET", "..", "x", "", [], FIREFOX)
def test_what_a_glance_lets_pass_no_rule_finds(
    method: str, path: str, raw: str | None, query: str, headers: list[tuple[str, str]], agent: str
) -> None:
    path = "/" + path
    sent = path.encode("latin-1", "replace").decode("latin-1") if raw is None else raw and "/" + raw
    answered = asked(method, path, sent, query, headers, agent)
    if is_passed(answered):
        assert SIGNATURES.judge(answered) is None
        assert JUDGE.judge(answered) is None


@pytest.mark.parametrize(
    ("path", "query"), [("/items/7", ""), ("/", "page=2&sort=price"), ("/a/b-c_d/e.html", "ids=1,2&day=2026-11-28")]
)
@pytest.mark.parametrize("agent", [FIREFOX, "python-requests/2.32.4", ""])
def test_ordinary_requests_pass(path: str, query: str, agent: str) -> None:
    referer = [("referer", "https://shop.example/list?page=1"), ("x-forwarded-for", "203.0.113.7")]
    assert is_passed(asked("GET", path, path, query, referer, agent))


@pytest.mark.parametrize(("header", "is_forwarded"), [("x-forwarded-for", True), ("forwarded", True), ("via", False)])
def test_a_proxy_that_may_have_named_the_client_is_told(header: str, is_forwarded: bool) -> None:
    looked = GLANCE.headers([(header.encode(), b"203.0.113.7"), (b"user-agent", b"a")])
    assert looked is not None
    assert looked[1] is is_forwarded


def test_the_first_user_agent_counts() -> None:
    one, other = (b"user-agent", b"one"), (b"user-agent", b"other")
    assert GLANCE.headers([one, other]) == GLANCE.headers([one]) != GLANCE.headers([other])


@pytest.mark.parametrize("rules", [{"hosts": ["shop.example"]}, {"methods": ["GET"]}])
def test_what_a_rule_wants_to_see_it_sees(rules: dict[str, Any]) -> None:
    glance = Glance(HttpJudge(HttpRules.resolve(rules)), None)
    assert not glance.is_plain("GET", "/", b"/", b"")


def test_its_memory_of_what_clients_send_is_bounded() -> None:
    glance = Glance(JUDGE, SIGNATURES)
    for number in range(3_000):
        assert glance.headers([(b"user-agent", b"agent %d" % number)]) is not None
    assert glance.headers([(b"user-agent", b"x" * 513)]) is None
    assert sum(map(len, glance._known.values())) <= 1_024


def test_a_client_that_calls_itself_a_crawler_is_looked_up_where_that_is_wanted() -> None:
    googlebot = [(b"user-agent", b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")]
    assert Glance(JUDGE, SIGNATURES).headers(googlebot) is not None
    assert Glance(JUDGE, SIGNATURES, Crawlers()).headers(googlebot) is None
