"""URLs of familiar parts are spared all rules, and lose nothing by it: the rules would leave each of them as it is."""

from __future__ import annotations

import re
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from opentelemetry_guard.privacy.familiar import Familiar
from opentelemetry_guard.privacy.kinds import Kind
from opentelemetry_guard.privacy.ordinary import Ordinary
from opentelemetry_guard.privacy.sensitive_names import Names
from opentelemetry_guard.privacy.texts import Texts
from opentelemetry_guard.settings.token_forms import FORMS, HOSTS

NAMES = Names()
LIMIT = 8_192
COMMON = (
    "/items/7?page=1&sort=price&q=shoes",
    "http://shop.example/items/7?page=1&sort=price&q=shoes",
    "https://shop.example:8443/order-lines/7/a/b",
    "page=1&utm_source=mail",
)
UUID = "0f9e8d7c-6b5a-4f3e-8d1c-0a1b2c3d4e5f"


def made(names: Names = NAMES, limit: int = LIMIT) -> Texts:
    return Texts(names, limit, None, lambda value, _: value)


def taught(*texts: str) -> Texts:
    """Return what has cleaned these often enough to know all of their parts."""
    cleaning = made()
    for text in texts:
        for _ in range(4):
            # What is remembered as a whole teaches nothing more.
            cleaning.harmless[Kind.PATH].discard(text)
            cleaning.clean(text, Kind.PATH)
    return cleaning


def thoroughly(text: str, kind: Kind) -> str:
    """Clean a text as if nothing were ordinary or familiar."""
    with (
        patch.object(Ordinary, "__contains__", lambda *_: False),
        patch.object(Familiar, "has_all", lambda *_: False),
    ):
        return made().clean(text, kind)


def is_familiar(cleaning: Texts, *texts: str) -> bool:
    return cleaning.familiar.has_all(texts)


TAUGHT = taught(*COMMON)


@pytest.mark.parametrize(
    "text",
    [
        "/items/1234567",
        "/items/1234567/",
        "/",
        "/?page=2",
        f"/items/{UUID}",
        f"/items/{UUID}?page=2",
        "/items/1?page=2&sort=name&q=blue+shoes+0a1b2c3d",
        "/items/1?q=blue%20shoes",
        "/items/1?page&q=shoes",
        "http://shop.example/items/1?q=blue shoes 0a1b",
        "http://shop.example/items/1?q=caf\xe9 \u6771\u4eac",
        "/items/1?q=caf%C3%A9+au+lait",
        "/items/1?q=2026-11-28&page=",
        "http://shop.example/items/9?sort=price&q=Red+Shoes",
        "https://shop.example:8443/order-lines/12/a",
        "page=3&q=shoes",
    ],
)
def test_what_is_made_of_familiar_parts_is_known_when_it_first_comes(text: str) -> None:
    assert is_familiar(TAUGHT, text)


@pytest.mark.parametrize(
    "text",
    [
        "/reset-password/k3vT9q",
        f"/reset-password/{UUID}",
        f"/{UUID}",
        f"/7/{UUID}",
        "/items/k3vT9qX",
        "/items/4111111111111111",
        "/items/41111111111111",
        "/items/list7",
        "/items//7",
        "//items/7",
        "/items/7?token=x7Qz",
        "/items/7?to%6ben=x7Qz",
        "/items/7?page=1&token=x7Qz",
        "/items/7?page=1;token=x7Qz",
        "/items/7?q=1%26token%3Dx7Qz",
        "/items/7?q=token:x7Qz",
        "/items/7?q=token=x7Qz",
        "/items/7?q=a?token=x7Qz",
        "/items/7?q=/reset-password/k3vT9q",
        "/items/7?q=4111111111111111",
        "/items/7?q=4111+1111+1111+1111",
        "/items/7?q=4111%201111%201111%201111",
        "/items/7?q=4111-1111-1111-1111",
        "/items/7?q=Bearer+abcdefgh",
        "/items/7?q=my+basic%20dXNlcjpwYXNz",
        "/items/7?q=xoxb-1-a",
        "/items/7?q=ABSK+aaaaaaa+aaaaaaa+aaaaaaa+aaaaaaa+aaa",
        "/items/7?Page=1",
        "/items/7?page=\x00",
        "/\xe9tems/7?page=1",
        "/items/\u0667?page=1",
        "/items/7?q=4111 1111 1111 1111",
        "/items/7?q=Bearer abcdefgh",
        "/items/7?q=ba\u017fic dXNlcjpwYXNz",
        "/items/7?q=D\u0131gest username",
        "/items/7?q=--password hunter2",
        "/items/7?q=identified by hunter2",
        "/items/7?q=token\uff1dhunter2-a",
        "/items/7?q=" + "a" * 13 + "-",
        "http://other.example/items/7",
        "http://shop.example:80/items/7",
        "http://shop.example@evil.example/items/7",
        "http:///items/7",
        "HTTP://shop.example/items/7",
        "Authorization: x7Qz",
        "/items/7?" + "&".join(["page=1"] * 400),
    ],
)
def test_of_any_other_text_nothing_is_said(text: str) -> None:
    assert not is_familiar(TAUGHT, text)


WORDS = (
    "page sort q items order-lines a b v1 name value key loc token tokens session auth code reset-password password "
    "k3vT9q iPhone Hunter2 bearer Basic dIgEsT ABSK xoxb xoxb-1 glc_ whsec_a ops_eyJ tskey-ab-abcd curl args --pw "
    "x.input_value to%6ben passw%6Frd 4111 1111 4111111111111111 4111111111111 123456 4111-1111-1111-1111 192.0.2.1 .. "
    "identified by hunter2 caf\xe9 \u6771\u4eac ba\u017fic d\u0131gest \uff1d \uff54oken \u0664111"
)
words = st.one_of(
    st.sampled_from(WORDS.split()),
    st.just(UUID),
    st.text("abKZ019_-.", max_size=16),
    st.text("0123456789", min_size=10, max_size=18),
    st.text(max_size=3),
)
values = st.lists(
    st.tuples(words, st.sampled_from(["+", "%20", "-", ",", ".", "%C3%A9", ";", "%26", "%3D", "/", "=", " ", ":"])),
    min_size=1,
    max_size=4,
).map(lambda pairs: "".join(word + joint for word, joint in pairs[:-1]) + pairs[-1][0])
parameters = st.tuples(words, st.sampled_from(["=", "=", "=", "", "=="]), values).map("".join)
queries = st.lists(parameters, min_size=1, max_size=4).map("&".join)
paths = st.lists(words, max_size=4).map(lambda segments: "/" + "/".join(segments))
origins = st.sampled_from(
    ["", "", "http://shop.example", "https://shop.example:8443", "http://api.secret:80", "http://hooks.slack.com"]
)
urls = st.one_of(
    st.tuples(origins, paths).map("".join),
    st.tuples(origins, paths, st.just("?"), queries).map("".join),
    queries,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.lists(urls, min_size=1, max_size=5), st.sampled_from([Kind.PATH, Kind.PLAIN]))
@example(["http://api.secret:80/items/7", f"http://api.secret:80/items/{UUID}"], Kind.PATH)
@example(["/items/7?input_value=1", "/items/7?input_value=x...y"], Kind.PATH)
def test_what_was_learned_of_any_texts_spares_none_that_the_rules_would_change(texts: list[str], kind: Kind) -> None:
    cleaning = taught(*COMMON, *texts)
    for text in texts:
        for piece in (text, *text.split("?")):
            if is_familiar(cleaning, piece):
                assert thoroughly(piece, kind) == piece
    if is_familiar(cleaning, *texts):
        assert [thoroughly(text, kind) for text in texts] == texts


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.sampled_from(sorted(FORMS.values())).flatmap(lambda form: st.from_regex(form, fullmatch=True)))
def test_a_token_of_any_form_is_in_no_familiar_text(token: str) -> None:
    places = (
        f"/{token}",
        f"/items/{token}/a",
        f"/items/7?q={token}",
        f"/items/7?q=blue+{token}+shoes&page=1",
        f"/items/7?{token}",
        f"http://{token}",
        f"http://{token}/items/7?page=1",
        f"http://shop.example/items/{token}",
    )
    # As often as it may be, what it is made of was in texts without it.
    name, *_ = token.split("=")
    parts = [
        f"/items/7?{name}=1",
        *(f"/{part}/7" for part in token.split("/")),
        f"http://{token.split('/')[0]}/items/7",
    ]
    cleaning = taught(*COMMON, *parts)
    for text in places:
        if is_familiar(cleaning, text):
            assert thoroughly(text, Kind.PATH) == text


def test_of_the_forms_that_are_urls_each_has_its_host_in_the_list() -> None:
    urls_of_hooks = [form for form in FORMS.values() if re.search(r"\\\.(?:com|net|io|org)/", form)]
    assert urls_of_hooks
    for form in urls_of_hooks:
        assert any(form.replace("\\", "").startswith(host) for host in HOSTS), form


def test_other_texts_of_a_span_are_looked_at_where_they_are_no_part_of_its_url() -> None:
    url = "http://shop.example/items/7?page=1"
    assert is_familiar(TAUGHT, "/items/7", "page=1", url)
    assert not is_familiar(TAUGHT, "/items/k3vT9qX", url)
    assert not is_familiar(TAUGHT, "token=x7Qz", url)


def test_what_a_setting_says_is_sensitive_is_never_familiar() -> None:
    cleaning = made(Names(("page", "items")))
    for text in COMMON:
        cleaning.clean(text, Kind.PATH)
    assert not is_familiar(cleaning, "/items/7?page=1")
    assert not is_familiar(cleaning, f"/items/{UUID}")


def test_a_text_longer_than_the_limit_is_none() -> None:
    cleaning = made(limit=16)
    cleaning.clean("/items/7", Kind.PATH)
    assert is_familiar(cleaning, "/items/7")
    assert not is_familiar(cleaning, "/items/7/7/7/7/7/7")


def test_its_memory_of_what_clients_send_is_bounded() -> None:
    cleaning = made()
    for number in range(600):
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        for last in range(2):
            cleaning.clean(f"http://{letters}.example/{letters}/{last}?{letters}=1", Kind.PATH)
    familiar = cleaning.familiar
    for memory in (familiar._origins, familiar._segments, familiar._stems, familiar._parameters):
        assert 0 < len(memory) <= 512
