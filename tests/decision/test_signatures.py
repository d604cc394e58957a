"""The signatures find what they say and nothing that people send, with and without google-re2."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from support import benign_forms, benign_requests
from support.attack_payloads import PAYLOADS
from support.engines import need_re2

from opentelemetry_guard.decision import patterns
from opentelemetry_guard.decision.inspection import Inspector, forms, quotation
from opentelemetry_guard.decision.signatures import PLACES, SEVERITIES, Signature, SignatureSet, categories, signatures
from opentelemetry_guard.settings.signature_rules import CATEGORIES, HEADERS

SCALE = float(os.environ.get("FUZZ_SCALE", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "20"))
BENIGN = round(10_000 * min(SCALE, 10))

each = pytest.mark.parametrize("signature", signatures(), ids=lambda signature: signature.id)


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    return Inspector(CATEGORIES, HEADERS)


@pytest.fixture(params=["re2", "re"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines: google-re2, and `re` where that is not installed."""
    name: str = request.param
    if name == "re":
        monkeypatch.setattr(patterns, "_re2", lambda: None)
    else:
        need_re2()
    return name


def found(inspector: Inspector, value: str, path: bytes = b"/x") -> str | None:
    match = inspector.inspect(path, b"q=" + quote(value, safe="").encode(), ())
    return None if match is None else match.signature.id


class TestEach:
    @each
    def test_it_finds_its_example_and_passes_the_other(self, signature: Signature) -> None:
        pattern = re.compile(signature.pattern, re.IGNORECASE | re.MULTILINE)
        assert pattern.search(signature.finds), "finds"
        assert not pattern.search(signature.passes), "passes"

    @each
    def test_it_says_what_it_is(self, signature: Signature) -> None:
        assert signature.where
        assert signature.where <= set(PLACES)
        assert signature.severity in SEVERITIES
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", signature.id)

    @each
    @pytest.mark.usefixtures("engine")
    def test_each_engine_finds_it_in_its_places(self, signature: Signature) -> None:
        for place in signature.where:
            alone = SignatureSet.__new__(SignatureSet)
            alone._by_pattern = {signature.pattern: signature}
            alone._patterns = patterns.Patterns([signature.pattern], 2048, trusted=True)
            assert alone._patterns.problems == (), place
            assert alone.find(signature.finds) is signature
            assert alone.find(signature.passes) is None

    def test_the_settings_name_the_categories_that_there_are(self) -> None:
        assert categories() == CATEGORIES

    def test_one_automaton_has_all_of_a_place(self) -> None:
        need_re2()
        for place in PLACES:
            assert len(SignatureSet(place, CATEGORIES)._patterns._matchers) == 1, place


class TestRequests:
    @pytest.mark.parametrize("signature", [each for each in signatures() if "values" in each.where], ids=lambda s: s.id)
    def test_what_it_finds_is_found_in_a_query_however_it_is_encoded(
        self, inspector: Inspector, signature: Signature
    ) -> None:
        name, _, value = signature.finds.partition("=") if "=" in signature.finds else ("q", "", signature.finds)
        value = value or signature.finds
        name = quote(name, safe="[]$._")
        everything = "".join(f"%{byte:02x}" for byte in value.encode())
        for sent in (quote(value, safe=""), everything, quote(everything), quote(value, safe="").replace("%20", "+")):
            query = f"pad={'a' * 1100}&{name}={sent}"
            match = inspector.inspect(b"/x", query.encode(), ())
            assert match is not None, query
            assert match.place == "query"

    @pytest.mark.parametrize(
        ("sent", "id_"),
        [
            (b"q=1%252527%2520or%25201%253D1--", None),
            (b"q=admin%2527%2520or%2520%25271%2527%253D%25271", "sqli-quoted-comparison"),
            (b"q=1'/**/or/**/1=1--", "sqli-quoted-comparison"),
            (b"q=1'%0aor%0d%0a%09%a0 1=1--", "sqli-quoted-comparison"),
            (b"q=1/*!50000union*//*!50000select*/1,2", "sqli-union"),
            (b"q=%c0%bcscript%c0%bealert(1)", "xss-script-code"),
            (b"q=%u003cscript%u003ealert(1)", "xss-script-code"),
            ("q=\uff1cscript\uff1ealert(1)".encode(), "xss-script-code"),
            (b"q=" + b"a" * 60_000 + b"<script>alert(1)</script>", "xss-script-code"),
            (b"q=" + b"%20" * 9_000 + b"%3Cscript%3Ealert(1)", "xss-script-code"),
            (b"a=b&c=d&e=${jndi:ldap://x/a}&f=g", "jndi-lookup"),
        ],
    )
    def test_what_hides_a_payload_is_taken_away_first(self, inspector: Inspector, sent: bytes, id_: str | None) -> None:
        match = inspector.inspect(b"/x", sent, ())
        assert (match and match.signature.id) == id_

    @pytest.mark.parametrize(
        ("path", "id_"),
        [
            (b"/items/1%27%20or%20%271%27=%271", "sqli-quoted-comparison"),
            (b"/hello/%3Cscript%3Ealert(1)%3C/script%3E", "xss-script-code"),
            (b"/static/%252e%252e%252fsecret", "raw-hidden-climb"),
            (b"/files/..%2f..%2f..%2fetc%2fpasswd", "lfi-system-file"),
            (b"/users/%7B%7B7*7%7D%7D/profile", "ssti-arithmetic"),
            (b"/items/7", None),
            (b"/caf%C3%A9/menu;v=1/(a,b)", None),
        ],
    )
    def test_a_path_is_looked_into(self, inspector: Inspector, path: bytes, id_: str | None) -> None:
        match = inspector.inspect(path, b"", ())
        assert (match and match.signature.id) == id_

    def test_chosen_headers_are_looked_into_and_no_others(self, inspector: Inspector) -> None:
        lookup = b"${jndi:ldap://evil.example/a}"
        for name in HEADERS:
            match = inspector.inspect(b"/", b"", [(b"accept", b"*/*"), (name.encode(), lookup)])
            assert match is not None
            assert (match.signature.id, match.place) == ("jndi-lookup", f"header {name}")
        assert inspector.inspect(b"/", b"", [(b"cookie", lookup), (b"x-comment", lookup)]) is None

    def test_only_wanted_categories_are_looked_for(self) -> None:
        only = Inspector(("xss",), ())
        assert found(only, "<script>alert(1)</script>")
        assert found(only, "' or '1'='1") is None

    @pytest.mark.parametrize(
        "query",
        [
            b"\xff\xfe%",
            b"%",
            b"%%%",
            b"q=%zz%2",
            b"=" * 100,
            b"&" * 100,
            b"\x00",
            "q=\udcff".encode("utf-8", "surrogateescape"),
            b"%uZZZZ%u00",
        ],
    )
    def test_what_is_no_query_raises_nothing(self, inspector: Inspector, query: bytes) -> None:
        inspector.inspect(query, query, [(b"user-agent", query)])

    @given(st.binary(max_size=200), st.binary(max_size=200))
    def test_no_bytes_raise(self, path: bytes, query: bytes) -> None:
        _FUZZED.inspect(path, query, [(b"referer", query)])

    @given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60))
    def test_encoding_once_more_changes_nothing_of_what_is_decoded(self, text: str) -> None:
        first, *_ = forms(quote(text, safe="").encode())
        last = list(forms(quote(quote(text, safe=""), safe="").encode()))[-1]
        if unquote(text) == text and "%" not in text:
            assert first == last

    @pytest.mark.parametrize("signature", [each for each in signatures() if "values" in each.where], ids=lambda s: s.id)
    @settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
    @given(data=st.data())
    def test_a_query_that_is_passed_over_has_nothing_in_it(self, signature: Signature, data: st.DataObject) -> None:
        # Of letters, digits and what joins them alone; some signatures can't be made of these.
        pattern = re.compile(signature.pattern, re.IGNORECASE | re.MULTILINE)
        try:
            text = data.draw(st.from_regex(pattern, alphabet=_PLAIN))
        except InvalidArgument:
            return
        query = text.strip("\n").replace("\n", "&").replace(" ", "+").encode()
        if any(map(pattern.search, forms(query, is_query=True))):
            assert not _FUZZED.is_plain(b"/", query)

    @pytest.mark.parametrize(
        "query",
        [
            b"id=1+or+1=1",
            b"id=1+union+select+null",
            b"id=1UNION++SELECT+a+from+b",
            b"id=1+order+by+3",
            b"data=rO0ABXNyABFqYXZhLnV0aWw",
            b"f=.htpasswd",
            b"url=169.254.169.254",
            b"q=java.lang.Runtime",
            b"q=gopher:x",
            b"to=a.oast.fun",
        ],
    )
    def test_an_attack_of_letters_and_digits_is_found(self, inspector: Inspector, query: bytes) -> None:
        assert not inspector.is_plain(b"/", query)
        assert inspector.inspect(b"/", query, ())

    @pytest.mark.parametrize(
        "query", [b"", b"page=1&sort=price&q=blue+shoes", b"utm_source=mail&ids=1,2", b"order=desc"]
    )
    def test_most_queries_need_but_a_look(self, inspector: Inspector, query: bytes) -> None:
        assert inspector.is_plain(b"/items/7", query)

    def test_what_matched_can_be_quoted(self, inspector: Inspector) -> None:
        need_re2()
        match = inspector.inspect(b"/", b"a=b&q=x%27%20or%201=1--&c=d", ())
        assert match is not None
        assert quotation(match) == "q=x' or 1="


_FUZZED = Inspector(CATEGORIES, HEADERS)
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=, \n"

Source = Callable[[int, int], Iterator[tuple[bytes, bytes]]]


@pytest.mark.fuzz
@pytest.mark.parametrize(
    "source", [benign_requests.benign_requests, benign_forms.benign_requests], ids=["pages", "tools"]
)
def test_nothing_is_found_in_what_people_and_programs_send(inspector: Inspector, source: Source) -> None:
    agent = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
    accused = {
        (match.signature.id, match.place, match.text[:200])
        for path, query in source(SEED, BENIGN)
        if (
            match := inspector.inspect(
                path, query, [(b"user-agent", agent), (b"referer", b"https://shop.example" + path)]
            )
        )
    }
    assert accused == set()


@pytest.mark.parametrize("kind", PAYLOADS)
def test_most_payloads_that_the_signatures_were_not_made_from_are_found(inspector: Inspector, kind: str) -> None:
    missed = [
        payload for payload in PAYLOADS[kind] if not found(inspector, payload) and not found_decoded(inspector, payload)
    ]
    assert len(missed) <= 0.16 * len(PAYLOADS[kind]), missed


def found_decoded(inspector: Inspector, payload: str) -> bool:
    """Whether a payload that is encoded already is found as it is."""
    return "%" in payload and inspector.inspect(b"/x", b"q=" + payload.replace("&", "%26").encode(), ()) is not None


def test_without_google_re2_the_same_payloads_are_found(monkeypatch: pytest.MonkeyPatch, inspector: Inspector) -> None:
    need_re2()
    monkeypatch.setattr(patterns, "_re2", lambda: None)
    bare = Inspector(CATEGORIES, HEADERS)
    for payloads in PAYLOADS.values():
        for payload in payloads:
            assert found(bare, payload) == found(inspector, payload), payload


def test_the_package_has_the_file_of_signatures() -> None:
    module = importlib.import_module("opentelemetry_guard.decision.signatures")
    assert module._FILE.is_file()
