"""What spares most texts most rules loses nothing: the rules find the same where each of them looks at everything."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.hostile_texts import PARTS
from support.strategies import any_events

from opentelemetry_guard import SecurityEvent
from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.privacy import Privacy, PrivacySettings, cards, documents, named_values, statements
from opentelemetry_guard.privacy.announced import inputs
from opentelemetry_guard.privacy.kinds import Kind
from opentelemetry_guard.privacy.ordinary import Ordinary
from opentelemetry_guard.privacy.scanning import mask_spans
from opentelemetry_guard.privacy.secrets_in_text import mask
from opentelemetry_guard.privacy.sensitive_names import Names
from opentelemetry_guard.privacy.texts import Texts
from opentelemetry_guard.privacy.url_passwords import url_passwords
from opentelemetry_guard.settings.privacy import DEFAULT_HEADERS
from opentelemetry_guard.settings.tokens import mask_tokens

NAMES = Names()
SIGNS = " ".join((*(rule.sign for rule in statements._RULES), "args= param duplicate entry '"))
SECRETS = (
    "hunter2-Zx81qT",
    "4111 1111 1111 1111",
    "a",
    "PASSWORD",
    "IDENTIFIED BY",
    "identified as ",
    "--pw ",
    "curl -u ",
)

written = st.lists(st.one_of(st.sampled_from((*PARTS, *SECRETS)), st.text(max_size=6)), max_size=8).map("".join)


def thoroughly(text: str) -> str:
    """Mask a text with every rule, whatever the text has in it."""
    text = mask_tokens(text)
    text = mask_spans(text, url_passwords(text))
    text = mask_spans(text, cards._cards(text))
    for find in (documents.elements, documents.tags, documents.form_fields, inputs):
        text = mask_spans(text, find(text, NAMES))
    text = statements.mask_statements(text, SIGNS, NAMES)
    text = mask_spans(text, documents.yaml_blocks(text, NAMES))
    with patch.object(named_values, "_may_hold_pair", lambda _: True):
        return mask_spans(text, named_values.named_values(text, NAMES))


@given(written)
@example("identified by hunter2-Zx81qT")
@example("--PASSWORD hunter2-Zx81qT")
@example("password\uff1dhunter2-Zx81qT")
@example("4111 1111 1111 1111")
@example("Duplicate entry 'hunter2-Zx81qT' for key 'password'")
@example("curl -u bob:hunter2-Zx81qT")
@example("password\n  hunter2-Zx81qT")
def test_a_text_is_masked_as_if_every_rule_had_looked_at_it(text: str) -> None:
    assert mask(text, NAMES) == thoroughly(text)


@given(st.lists(written, min_size=1, max_size=4), st.sampled_from([None, "key"]))
def test_what_is_remembered_changes_no_result(texts: list[str], key: str | None) -> None:
    settings = PrivacySettings(address_key=key)
    used = Privacy(settings)
    for text in (*texts, *texts):
        fresh = Privacy(settings)
        for used_one, fresh_one in ((used.text, fresh.text), (used.path, fresh.path), (used.message, fresh.message)):
            cleaned = used_one(text)
            assert cleaned == fresh_one(text)
            assert used_one(cleaned) == cleaned


@given(st.lists(any_events, min_size=1, max_size=3))
def test_an_event_is_cleaned_the_same_after_others_like_it(events: list[SecurityEvent]) -> None:
    used = Privacy()
    rows = [to_row(event)[0] for event in events]
    for row in (*rows, *rows):
        assert used.event(row) == Privacy().event(row)


WORDS = """
a page rv http token to-ken name value input_value x.input_value key loc auth:8000 code curl -u bob --pw params args
passw%6Frd bearer basic Gecko/20100101 reset-password k3vT9q shop.example 4111111111111111 5500-0000-0000-0004
sk-a1b2c3d4e5f6g7h8i9j0k1l2 eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl identified by hunter2-Zx81qT
AKIAIOSFODNN7EXAMPLE x...y
"""
words = st.one_of(
    st.sampled_from(WORDS.split()),
    st.text("ab7K-_.,~+*!/", max_size=6),
    st.text("abc019", min_size=8, max_size=40),
)
joints = st.sampled_from(
    ("=", "&", "?", "/", " ", ":", ";", ", ", " (", ")", " rv:", "%20", "%C3%A9", "://", "@", "%3D")
)
begins = st.sampled_from(
    ("", "/", "http://", "https://shop.example:443/", "/items?page=", "Mozilla/5.0 (X11; rv:140.0) ")
)
requested = st.tuples(begins, words, st.lists(st.tuples(joints, words).map("".join), max_size=7)).map(
    lambda parts: "".join((parts[0], parts[1], *parts[2]))
)


@settings(max_examples=500)
@given(requested, st.sampled_from([Kind.PLAIN, Kind.PATH]), st.sampled_from([None, "x-page", "rv", "page"]))
@example("/a?input_value=x...y", Kind.PATH, None)
@example("/a?q=token:hunter2-Zx81qT", Kind.PATH, None)
@example("/a?q=1%26token%3Dhunter2-Zx81qT", Kind.PATH, None)
@example("http://token:80/", Kind.PATH, None)
@example("Mozilla/5.0 (X11; rv:140.0)", Kind.PLAIN, "rv")
@example("/a?name=password&value=hunter2", Kind.PATH, None)
@example("curl/8 -u bob http://a", Kind.PLAIN, None)
@example(
    "Mozilla/5.0 (http://bob;rv:hunter2-Zx81qThunter2-Zx81qThunter2-Zx81qThunter2-Zx81qThunter2-Zx81qT",
    Kind.PLAIN,
    None,
)
def test_what_is_ordinary_stays_as_it_is_where_every_rule_looks_at_it(
    text: str, kind: Kind, header: str | None
) -> None:
    names = Names() if header is None else Names((*DEFAULT_HEADERS, header))
    texts = Texts(names, 4096, None, lambda value, _: value)
    if text in Ordinary(names):
        with patch.object(Ordinary, "__contains__", lambda *_: False):
            assert texts.clean(text, kind) == text
        assert mask(text, names) == text


@pytest.mark.parametrize(
    "text",
    [
        "/items/7?page=3&sort=price&q=shoes",
        "http://127.0.0.1:8000/items/7?q=caf%C3%A9%20au%20lait",
        "page=3&sort=price",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ],
)
def test_what_most_clients_send_is_ordinary(text: str) -> None:
    assert text in Ordinary(NAMES)


@pytest.mark.parametrize("name", ["to-ken", "reset_code", "X-Api-Key", "name", "input_value"])
def test_a_query_with_a_name_that_may_announce_a_secret_is_not_ordinary(name: str) -> None:
    assert f"/items?page=3&{name}=hunter2-Zx81qT" not in Ordinary(NAMES)
