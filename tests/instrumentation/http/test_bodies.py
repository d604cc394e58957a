"""The strings of a JSON body are looked at in a time in proportion to its length, under whatever names they are."""

from __future__ import annotations

import orjson
import pytest

from opentelemetry_guard.instrumentation.http.bodies import texts_of


def test_each_string_has_its_name_before_it() -> None:
    body = orjson.dumps({"user": {"name": "ada", "tags": ["a", 7]}, "$where": "x"})
    assert sorted(texts_of(body)) == ["$where=x", "=$where", "user.name=ada", "user.tags=7", "user.tags=a"]


@pytest.mark.parametrize(
    "body",
    [
        {"a" * 30_000: dict.fromkeys(map(str, range(2_000)), 1)},
        {"a" * 30_000: list(range(2_000))},
        {"a" * 10_000: {"b" * 10_000: {"c" * 10_000: dict.fromkeys(map(str, range(2_000)), 1)}}},
    ],
    ids=["names", "list", "nested"],
)
def test_a_long_name_is_not_repeated_before_each_of_many_values(body: object) -> None:
    sent = orjson.dumps(body)
    assert sum(map(len, texts_of(sent))) < 12 * len(sent)


def test_a_long_name_is_looked_at_all_the_same() -> None:
    sent = orjson.dumps({"__proto__": {"a" * 200: {"isAdmin": True}}})
    assert any(text.startswith("__proto__.") for text in texts_of(sent))
