"""Streams of rules on the backend's side: who is told, what they cost, and how many there may be."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from starlette.requests import Request
from starlette.types import Message, Scope

from opentelemetry_guard.backend.ingest import streams
from opentelemetry_guard.backend.ingest.connections import CONNECTION, STREAMED
from opentelemetry_guard.backend.ingest.documents import Signatures
from opentelemetry_guard.backend.ingest.streams import Streams, Told
from opentelemetry_guard.backend.refusal import Refusal
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.decision.signing import Proof, context_of, is_genuine
from opentelemetry_guard.models import DynamicRules

NONCE = "n" * 32
WATCHDOG = 60.0
REQUEST = Request({"type": "http", "headers": [(b"x-api-key", b"k"), (b"x-rules-nonce", NONCE.encode())]})


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.01)


class Caller:
    """Somebody who is told, on a connection of theirs."""

    def __init__(self, all_streams: Streams, known: str = "", secret: bytes | None = None, key: bytes = b"k") -> None:
        self.tags: list[str] = []
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.left = asyncio.Event()
        self.reads = True
        self.is_stream = self.is_cut_off = False
        told = Told(known, Signatures(REQUEST, secret), self.tags.append)
        response = all_streams.response("p", key, told)
        scope: Scope = {"type": "http", "extensions": {STREAMED: {CONNECTION: self}}}
        self.answer = asyncio.ensure_future(response(scope, self._receive, self._send))

    def becomes_stream(self) -> None:
        self.is_stream = True

    def cut_off(self) -> None:
        self.is_cut_off = True
        self.left.set()

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if not self.reads:
            await asyncio.Event().wait()
        if message["type"] == "http.response.body":
            await self.pieces.put(message["body"])

    async def next(self) -> dict[str, str]:
        """Return the fields of what comes next; nothing for a comment."""
        piece = await asyncio.wait_for(self.pieces.get(), WATCHDOG)
        lines = [line for line in piece.decode().splitlines() if line and not line.startswith(":")]
        return dict(line.split(": ", 1) for line in lines)

    async def ended(self) -> None:
        await asyncio.wait_for(self.answer, WATCHDOG)


def ban(store: Store, address: str = "192.0.2.1", project: str = "p") -> int:
    return store.set_rules(project, DynamicRules(ip_blacklist=[address])).version


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_caller_is_told_of_what_it_lacks_and_of_each_change(store: Store) -> None:
    async def told() -> None:
        every = Streams(store)
        caller = Caller(every)
        first = await caller.next()
        assert DynamicRules.model_validate_json(first["data"]).version == 0
        ban(store)
        second = await caller.next()
        assert DynamicRules.model_validate_json(second["data"]).ip_blacklist == ["192.0.2.1"]
        again = Caller(every, known=second["id"])
        assert await again.next() == {}
        assert again.tags == [second["id"]]
        assert caller.is_stream
        for one in (caller, again):
            one.left.set()
            await one.ended()
        assert (every._feeds, every._of_key) == ({}, {})

    run(told)


def test_each_is_signed_for_its_caller_and_its_place(store: Store) -> None:
    async def signed() -> None:
        caller = Caller(Streams(store), secret=b"s")
        for number in (1, 2):
            event = await caller.next()
            proof = Proof(context_of("k", NONCE, number), event["signature"])
            assert is_genuine("s", proof, event["data"].encode())
            ban(store)
        caller.left.set()
        await caller.ended()

    run(signed)


def test_a_change_by_another_process_and_of_another_project(database: Path | URL, store: Store) -> None:
    async def seen() -> None:
        caller = Caller(Streams(store))
        await caller.next()
        with closing(Store(database)) as other:
            ban(other, project="elsewhere")
            ban(other, "192.0.2.9")
        assert "192.0.2.9" in (await caller.next())["data"]
        caller.left.set()
        await caller.ended()
        left = [caller.pieces.get_nowait() for _ in range(caller.pieces.qsize())]
        assert not [piece for piece in left if b"data" in piece]

    run(seen)


def test_while_nothing_happens_it_is_said_that_somebody_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.01)

    async def heard() -> None:
        caller = Caller(Streams(store))
        tag = (await caller.next())["id"]
        for _ in range(3):
            assert await caller.next() == {}
        assert set(caller.tags) == {tag}
        caller.left.set()
        await caller.ended()

    run(heard)


def test_the_end_of_the_process_and_the_end_of_its_life_end_a_stream(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended() -> None:
        every = Streams(store)
        caller = Caller(every)
        await caller.next()
        every.end()
        await caller.ended()
        with pytest.raises(Refusal) as refused:
            Caller(every)
        assert refused.value.status == 503
        monkeypatch.setattr(streams, "LIFE_SECONDS", 0.0)
        await Caller(Streams(store)).ended()

    run(ended)


def test_a_key_and_the_process_have_as_many_as_they_may(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_OF_A_KEY", 2)
    monkeypatch.setattr(streams, "MOST_STREAMS", 3)

    async def bounded() -> None:
        every = Streams(store)
        callers = [Caller(every), Caller(every)]
        for caller in callers:
            await caller.next()
        with pytest.raises(Refusal) as of_key:
            Caller(every)
        callers.append(Caller(every, key=b"another"))
        await callers[-1].next()
        with pytest.raises(Refusal) as of_all:
            Caller(every, key=b"a third")
        for refusal, status in ((of_key.value, 429), (of_all.value, 503)):
            assert refusal.status == status
            assert refusal.headers is not None
            assert int(refusal.headers["Retry-After"]) > 0
        callers[0].left.set()
        await callers[0].ended()
        callers[0] = Caller(every)
        await callers[0].next()
        every.end()
        for caller in callers:
            await caller.ended()

    run(bounded)


def test_who_does_not_read_is_cut_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STUCK_SECONDS", 0.01)

    async def stuck() -> None:
        every = Streams(store)
        caller = Caller(every)
        await caller.next()
        caller.reads = False
        ban(store)
        await caller.ended()
        assert caller.is_cut_off
        assert every._feeds == {}

    run(stuck)


def test_a_database_that_fails_for_a_while_is_told_once_and_ends_no_stream(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = itertools.count()
    look = store.rules_marks

    def fail(project_ids: list[str]) -> dict[str, object]:
        if next(failures) < 5:
            raise OSError("the disk is gone")
        return look(project_ids)

    # From the first look on: one that is under way could find the ban before it fails.
    monkeypatch.setattr(store, "rules_marks", fail)

    async def lasts() -> None:
        caller = Caller(Streams(store))
        await caller.next()
        ban(store)
        assert "192.0.2.1" in (await caller.next())["data"]
        caller.left.set()
        await caller.ended()

    run(lasts)
    assert len([text for text in caplog.messages if "the disk is gone" in text]) == 1
