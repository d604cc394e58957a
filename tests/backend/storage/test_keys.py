"""Keys and secrets of a backend."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.ingest.handout import matches_etag
from opentelemetry_guard.backend.settings import BackendSettings, decode_encryption_key
from opentelemetry_guard.backend.storage.keys import ApiKeys, generate_key


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)), st.text())
def test_a_key_opens_its_own_project_alone(projects: dict[str, str], other: str) -> None:
    keys = ApiKeys(projects)
    for key, project in projects.items():
        assert keys.project_of(key) == project
    assert keys.project_of(other) == projects.get(other)


def test_an_empty_key_or_project_is_refused() -> None:
    with pytest.raises(ValueError, match="API key is empty"):
        ApiKeys({"": "p"})
    with pytest.raises(ValueError, match="project id is empty"):
        ApiKeys({"k": ""})


def test_generated_keys_differ() -> None:
    assert generate_key() != generate_key()


def test_nothing_secret_is_in_a_repr_or_kept_as_text() -> None:
    settings = BackendSettings(ApiKeys({"hunter2": "p"}), signing_secret=b"hunter2", encryption_key=b"hunter2")
    assert "hunter2" not in repr(settings) + repr(vars(settings.keys))


@given(st.binary(min_size=32, max_size=32), st.booleans())
def test_an_encryption_key_is_32_bytes_with_or_without_padding(key: bytes, padded: bool) -> None:
    text = base64.urlsafe_b64encode(key).decode()
    assert decode_encryption_key(text if padded else text.rstrip("=")) == key


@pytest.mark.parametrize("text", ["", "hunter2", "hunter2!", base64.urlsafe_b64encode(b"x" * 16).decode(), "é" * 43])
def test_another_encryption_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="urlsafe base64 of 32 bytes") as caught:
        decode_encryption_key(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "matches"),
    [("", False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_if_none_match_is_compared_weakly(header: str, matches: bool) -> None:
    assert matches_etag(header, '"a"') is matches
