"""The feed gives a program that has a key its project's events, each once, in the order of their arrival."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import event, send

from opentelemetry_guard.backend.storage.keys import StoredKeys
from opentelemetry_guard.backend.storage.store import Store


@pytest.fixture(scope="module")
def backend(module_database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=module_database, password="correct horse") as running:
        yield running


def ask(backend: RunningBackend, **parameters: object) -> dict[str, Any]:
    answer = backend.http.get(f"{backend.url}/local/feed", params=parameters, headers=backend.headers, timeout=60)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def reasons(told: dict[str, Any]) -> list[str]:
    return [one["event"]["reason"] for one in told["events"]]


def test_the_latest_come_first_and_then_what_arrives_each_once(backend: RunningBackend) -> None:
    send(backend, *(event(reason=f"old {n}", timestamp=f"2026-01-01T00:00:0{n}Z") for n in range(5)))
    told = ask(backend, last=3)
    assert reasons(told) == ["old 2", "old 3", "old 4"]
    assert ask(backend, after=told["next"]) == {"events": [], "next": told["next"], "more": False}
    send(backend, event(reason="late", timestamp="2020-01-01T00:00:00Z"), event(reason="new"))
    told = ask(backend, after=told["next"])
    assert reasons(told) == ["late", "new"]
    assert ask(backend, after=told["next"])["events"] == []


def test_more_than_one_answer_holds_are_paged(backend: RunningBackend) -> None:
    after = ask(backend, last=0)["next"]
    send(backend, *(event(event_type="many", reason=str(n)) for n in range(700)), event(reason="another"))
    seen: list[str] = []
    more = True
    while more:
        told = ask(backend, after=after, event_type="many")
        seen += reasons(told)
        after, more = told["next"], told["more"]
    assert seen == [str(n) for n in range(700)]


def test_it_filters_as_the_list_of_events_does(backend: RunningBackend) -> None:
    after = ask(backend, last=0)["next"]
    send(
        backend,
        event(reason="a", ip_address="198.51.100.1", metadata={"guard.service.name": "shop"}),
        event(reason="b", ip_address="198.51.100.2", metadata={"guard.service.name": "till"}),
        event(reason="c", ip_address="203.0.113.1", metadata={"guard.service.name": "shop"}),
    )
    assert reasons(ask(backend, after=after, address="198.51.100.*")) == ["a", "b"]
    assert reasons(ask(backend, after=after, service="shop")) == ["a", "c"]
    assert reasons(ask(backend, service="shop", address="203.0.113.1")) == ["c"]


def test_a_key_shows_its_project_alone_and_none_shows_nothing(backend: RunningBackend) -> None:
    store = Store(backend.db)
    _, key = StoredKeys(store.database).create("other", "")
    store.close()
    url = f"{backend.url}/local/feed"
    assert backend.http.get(url, headers={"X-API-Key": key}, timeout=60).json()["events"] == []
    assert backend.http.get(url, timeout=60).status_code == 401
    assert backend.http.get(url, headers={"X-API-Key": "wrong"}, timeout=60).status_code == 401


@pytest.mark.parametrize(
    "parameters", [{"after": "-1"}, {"last": "501"}, {"since": "soon"}, {"within": "1y"}, {"ip_adres": "x"}]
)
def test_what_cannot_be_asked_is_refused(backend: RunningBackend, parameters: dict[str, str]) -> None:
    answer = backend.http.get(f"{backend.url}/local/feed", params=parameters, headers=backend.headers, timeout=60)
    assert answer.status_code == 422
    assert next(iter(parameters)) in answer.json()["detail"]


def test_a_cursor_beyond_the_end_goes_back_to_it(backend: RunningBackend) -> None:
    told = ask(backend, after=10**9)
    assert told["events"] == []
    assert told["next"] == ask(backend, last=0)["next"]
