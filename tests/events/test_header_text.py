"""The text of headers, as bytes and as frameworks have read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.events.header_text import header_text, repaired


@given(st.text())
def test_utf_8_is_read_as_such_also_where_a_framework_took_it_for_latin_1(text: str) -> None:
    assert header_text(text.encode("utf-8", "surrogatepass")) in (
        text,
        text.encode("utf-8", "surrogatepass").decode("latin-1"),
    )
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert header_text(text.encode()) == text
        assert repaired(text.encode().decode("latin-1")) == text


@given(st.binary())
def test_whatever_is_sent_has_a_text(value: bytes) -> None:
    assert repaired(value.decode("latin-1")) == header_text(value)


def test_latin_1_stays_latin_1() -> None:
    assert header_text(b"caf\xe9") == repaired("caf\xe9") == "café"
    assert repaired("Яндекс") == "Яндекс"


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.integers(0, 40))
def test_a_cut_leaves_whole_characters(text: str, limit: int) -> None:
    assert header_text(text.encode(), limit) == text[:limit]


@pytest.mark.parametrize("sent", ["Браузер/1.0", "ブラウザ", "café 🚀"])
def test_the_user_agent_of_an_event_is_what_the_client_sent(sent: str) -> None:
    for given_as in (sent, sent.encode().decode("latin-1")):
        row, _ = to_row({"event_type": "x", "user_agent": given_as})
        assert row["user_agent"] == sent
