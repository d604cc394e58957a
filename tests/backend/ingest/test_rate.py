"""How often a key may send."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support.backend import running_backend
from support.sending import batch, event, post

from opentelemetry_guard.backend.ingest.rate import RateLimiter
from opentelemetry_guard.backend.storage.database import Database
from opentelemetry_guard.backend.storage.keys import StoredKeys
from opentelemetry_guard.backend.storage.rates import Drawn, StoredBuckets, portion_of
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.backend.storage.tables import rate_buckets


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """One for all examples, each of which has buckets of its own."""
    with tempfile.TemporaryDirectory() as directory, closing(Store(Path(directory, "backend.db"))) as store:
        yield store.database


class Fleet:
    """Limiters of several processes on one database, at a time that the test sets."""

    def __init__(self, database: Database, processes: int) -> None:
        self.now = 1_800_000_000.0
        kind = str(uuid4())
        self._limiters = [
            RateLimiter(StoredBuckets(database, self._clock).draw, kind, self._clock) for _ in range(processes)
        ]

    def _clock(self) -> float:
        return self.now

    async def wait(self, process: int, per_minute: int, who: str = "key") -> int:
        return await self._limiters[process].wait(who, per_minute)


@settings(max_examples=25)
@given(
    st.integers(1, 600),
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3), st.integers(1, 15)), max_size=30),
)
def test_no_number_of_processes_lets_through_more_than_the_bucket_and_what_they_had_drawn(
    database: Database, per_minute: int, processes: int, asked: list[tuple[float, int, int]]
) -> None:
    fleet = Fleet(database, processes)

    async def admitted() -> int:
        count = 0
        for pause, process, times in asked:
            fleet.now += pause
            for _ in range(times):
                count += await fleet.wait(process % processes, per_minute) == 0
        return count

    began = fleet.now
    most = per_minute * (1 + sum(pause for pause, _, _ in asked) / 60)
    assert asyncio.run(admitted()) <= most + 0.01
    assert fleet.now - began == pytest.approx(sum(pause for pause, _, _ in asked))


@pytest.mark.parametrize("per_minute", [30, 600])
@pytest.mark.parametrize("processes", [1, 4])
def test_a_fleet_that_is_asked_more_than_it_may_lets_through_what_the_limit_says(
    database: Database, processes: int, per_minute: int
) -> None:
    fleet = Fleet(database, processes)

    async def admitted() -> int:
        count = 0
        for number in range(6_000):
            fleet.now += 0.01
            count += await fleet.wait(number % processes, per_minute) == 0
        return count

    portion = portion_of(per_minute)
    # The last portion that has come may not be drawn yet, and each process may hold one.
    assert 2 * per_minute - (processes + 1) * portion <= asyncio.run(admitted()) <= 2 * per_minute


@settings(max_examples=25)
@given(st.integers(1, 600))
def test_after_the_wait_the_request_goes_through(database: Database, per_minute: int) -> None:
    fleet = Fleet(database, 1)

    async def run() -> None:
        assert [await fleet.wait(0, per_minute) for _ in range(per_minute)] == [0] * per_minute
        wait = await fleet.wait(0, per_minute)
        assert wait > 0
        assert await fleet.wait(0, per_minute, "another key") == 0
        fleet.now += wait
        assert await fleet.wait(0, per_minute) == 0

    asyncio.run(run())


def test_who_is_refused_asks_the_database_no_more_until_there_is_something(database: Database) -> None:
    asked: list[str] = []

    def draw(name: str, per_minute: int) -> Drawn:
        asked.append(name)
        return Drawn(0, 20.0)

    limiter = RateLimiter(draw, "key", lambda: 0.0)

    async def run() -> list[int]:
        return [await limiter.wait("one", 3) for _ in range(100)]

    assert asyncio.run(run()) == [20] * 100
    assert asked == ["key:one"]


def test_many_who_ask_at_once_draw_once(database: Database) -> None:
    asked: list[str] = []

    def draw(name: str, per_minute: int) -> Drawn:
        asked.append(name)
        return Drawn(100)

    limiter = RateLimiter(draw, "key")

    async def run() -> list[int]:
        return await asyncio.gather(*(limiter.wait("one", 6000) for _ in range(100)))

    assert asyncio.run(run()) == [0] * 100
    assert asked == ["key:one"]


def test_a_clock_that_is_set_back_locks_nobody_out(database: Database) -> None:
    now = 1_800_000_000.0
    buckets, name = StoredBuckets(database, lambda: now), str(uuid4())
    while buckets.draw(name, 60).tokens:
        pass
    now -= 86_400
    assert 0 < buckets.draw(name, 60).wait <= 1
    now += 2
    assert buckets.draw(name, 60) == Drawn(1)


def test_what_is_drawn_one_at_a_time_is_drawn_by_one_process(database: Database) -> None:
    now = 1_800_000_000.0
    first, second = (StoredBuckets(database, lambda: now) for _ in range(2))
    name = str(uuid4())
    assert first.draw(name, 120, 1) == Drawn(1)
    refused = second.draw(name, 120, 1)
    assert (refused.tokens, refused.wait) == (0, pytest.approx(0.5))
    now += 0.5
    assert second.draw(name, 120, 1) == Drawn(1)


def test_buckets_that_are_full_again_are_forgotten(database: Database) -> None:
    now = 1_800_000_000.0
    buckets = StoredBuckets(database, lambda: now)
    names = [str(uuid4()) for _ in range(3)]
    for name in names:
        buckets.draw(name, 60)
    now += 3_600
    buckets.draw(str(uuid4()), 60)
    assert database.read(select(rate_buckets.c.name).where(rate_buckets.c.name.in_(names))) == []


def test_beyond_the_limit_a_key_is_answered_429_with_the_seconds_to_wait() -> None:
    with running_backend(rate_limit="3") as backend:
        answers = [post(backend, "/api/v1/events", batch(events=[event()])) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
        assert answers[-1].json()["success"] is False
        assert len(backend.events()) == 3


@pytest.mark.parametrize("held", ["rate_limit", "address_rate_limit", "project_rate_limit"])
def test_keys_addresses_and_projects_have_limits_of_their_own(held: str) -> None:
    limits = {"rate_limit": "1000", "address_rate_limit": "1000", "project_rate_limit": "1000", held: "2"}
    with running_backend(**limits) as backend:
        answers = [post(backend, "/api/v1/events", batch(events=[event()])) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[-1].headers["Retry-After"]) >= 1
        called = {"rate_limit": "key", "address_rate_limit": "address", "project_rate_limit": "project"}[held]
        assert answers[-1].json()["detail"].startswith(f"This {called} may send 2 requests a minute")


def test_who_guesses_keys_is_held_by_the_address() -> None:
    with running_backend(address_rate_limit="2") as backend:
        statuses = [post(backend, "/api/v1/events", batch(), X_API_Key=f"guess-{n}").status_code for n in range(3)]
        assert statuses == [401, 401, 429]


def test_the_keys_of_a_project_share_its_limit(tmp_path: Path) -> None:
    db = tmp_path / "backend.db"
    with closing(Store(db)) as store:
        _, other = StoredKeys(store.database).create("test-project")
    with running_backend(db=db, project_rate_limit="2") as backend:
        used = [{}, {"X_API_Key": other}, {}]
        assert [post(backend, "/api/v1/events", batch(), **one).status_code for one in used] == [200, 200, 429]
