"""What the Redis store needs of the store on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from opentelemetry_guard.queue.base import DeadLetter, QueueOptions
from opentelemetry_guard.queue.conformance import make_batch
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.sqlite.local import LocalQueue
from opentelemetry_guard.queue.sqlite.store import SqliteQueue

OPTIONS = QueueOptions(destination="ab12")
STORES: list[Callable[[Path], LocalQueue]] = [
    lambda path: MemoryQueue(OPTIONS),
    lambda path: SqliteQueue(path / "guard.db", OPTIONS),
]


@pytest.fixture(params=STORES, ids=["memory", "sqlite"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> LocalQueue:
    store: LocalQueue = request.param(tmp_path)
    store.append(make_batch("dead"))
    store.lease("events", time.time())
    store.replace(["dead"], [], [DeadLetter(make_batch("dead"), 422, "no", 1.0)])
    store.append(make_batch("flying", rows=2))
    store.lease("events", time.time())
    store.append(make_batch("queued", "metrics", rows=3))
    return store


def test_bodies_can_be_read_without_a_lease(queue: LocalQueue) -> None:
    before = queue.stats()
    assert queue.read(["queued", "flying", "dead", "unknown"]) == [
        make_batch("queued", "metrics", rows=3),
        make_batch("flying", rows=2),
    ]
    assert queue.stats() == before


def test_it_says_where_batches_are(queue: LocalQueue) -> None:
    assert queue.holdings(["queued", "flying", "dead", "unknown"]) == {
        "queued": "mine",
        "flying": "mine",
        "dead": "dead",
    }


def test_batches_of_another_owner_are_theirs(tmp_path: Path) -> None:
    first, second = (SqliteQueue(tmp_path / "guard.db", OPTIONS) for _ in range(2))
    first.append(make_batch("a"))
    assert second.holdings(["a"]) == {"a": "theirs"}
    assert second.read(["a"]) == []
    assert not second.forget("a")


@pytest.mark.parametrize("name", ["queued", "flying"])
def test_a_forgotten_batch_takes_its_acceptance_along(queue: LocalQueue, name: str) -> None:
    before = queue.stats()
    assert queue.forget(name)
    assert not queue.forget(name)
    after = queue.stats()
    assert all(ledger.balanced for ledger in after.ledger.values())
    assert (after.depth, after.bytes) == (before.depth - 1, before.bytes - 10)
    assert sum(ledger.accepted for ledger in after.ledger.values()) == 6 - {"queued": 3, "flying": 2}[name]


@pytest.mark.parametrize("name", ["dead", "unknown"])
def test_only_what_is_queued_or_in_flight_can_be_forgotten(queue: LocalQueue, name: str) -> None:
    before = queue.stats()
    assert not queue.forget(name)
    assert queue.stats() == before


def test_an_adopted_batch_comes_alone_since_it_may_have_been_sent(queue: LocalQueue) -> None:
    queue.append(make_batch("fresh"))
    queue.adopt(make_batch("adopted"))
    queue.append(make_batch("fresher"))
    leased = [queue.lease("events", time.time(), max_batches=10) for _ in range(3)]
    assert ["adopted"] in [[lease.batch.batch_id for lease in leases] for leases in leased]


@pytest.mark.parametrize("max_bytes", [1000, 40], ids=["with room", "without"])
def test_batches_that_are_adopted_together_are_what_each_alone_would_be(tmp_path: Path, max_bytes: int) -> None:
    options = QueueOptions("adopted", max_bytes=max_bytes)
    together, alone = (SqliteQueue(tmp_path / f"{name}.db", options, remembers=10) for name in "ab")
    batches = [(make_batch(f"{number}", rows=number + 1, created_at=float(number)), number > 3) for number in range(8)]
    for queue in (together, alone):
        queue.append(make_batch("2", rows=3))
        queue.append(make_batch("1", rows=2))
        (lease,) = queue.lease("events", time.time())
        assert queue.acknowledge(lease.batch.batch_id)
    together.adopt_all(batches)
    for batch, begun in batches:
        alone.adopt(batch, begun)
    assert together.stats() == alone.stats()
    taken = [
        [(lease.batch, lease.attempts) for _ in range(10) for lease in queue.lease("events", time.time(), 10)]
        for queue in (together, alone)
    ]
    assert taken[0] == taken[1]
    assert len(taken[0]) == (7 if max_bytes == 1000 else 4)
    for queue in (together, alone):
        queue.close()


def test_a_batch_that_was_finished_here_is_not_adopted_again(tmp_path: Path) -> None:
    queue = SqliteQueue(tmp_path / "guard.db", OPTIONS, remembers=2)
    for name in ("old", "delivered", "merged"):
        queue.append(make_batch(name))
        queue.lease("events", time.time())
        if name == "merged":
            queue.replace([name], [make_batch("merger")])
        else:
            queue.acknowledge(name)
    for name in ("old", "delivered", "merged"):
        queue.adopt(make_batch(name))
    # The memory is bounded, so the oldest one is unknown again.
    assert set(queue.holdings(["old", "delivered", "merged", "merger"])) == {"old", "merger"}
