"""Clocks that are set, by an hour and by a day, both ways: nothing waits for them and nothing is sent twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentelemetry_guard.queue import steady
from opentelemetry_guard.queue.base import DeliveryQueue, QueueOptions
from opentelemetry_guard.queue.conformance import make_batch
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.sqlite import schema as sqlite
from opentelemetry_guard.queue.sqlite.store import SqliteQueue

HOUR, DAY = 3600.0, 86_400.0
OPTIONS = QueueOptions(destination="ab12")
JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR, DAY, -DAY], ids=["hour on", "hour back", "day on", "day back"])


class Clocks:
    """The two clocks of a machine, which `steady` reads instead of the true ones."""

    def __init__(self) -> None:
        self.unix, self.since_start = 1_800_000_000.0, 5_000.0

    def pass_by(self, seconds: float) -> None:
        self.unix += seconds
        self.since_start += seconds

    def time(self) -> float:
        return self.unix

    def monotonic(self) -> float:
        return self.since_start


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(steady, "time", made)
    return made


@pytest.fixture(params=["memory", "sqlite"])
def queue(request: pytest.FixtureRequest, tmp_path: Path, clocks: Clocks) -> Iterator[DeliveryQueue]:
    made: DeliveryQueue = (
        MemoryQueue(OPTIONS)
        if request.param == "memory"
        else SqliteQueue(tmp_path / "guard.db", OPTIONS, clock=clocks.time)
    )
    yield made
    made.close()


@JUMPS
def test_a_batch_waits_as_long_as_it_was_deferred_whatever_the_clock_shows(
    queue: DeliveryQueue, clocks: Clocks, jump: float
) -> None:
    queue.append(make_batch("a"))
    assert queue.lease("events", clocks.time())
    queue.defer("a", clocks.time() + 30.0)
    clocks.unix += jump
    assert not queue.lease("events", clocks.time())
    clocks.pass_by(29.0)
    assert not queue.lease("events", clocks.time())
    clocks.pass_by(1.1)
    assert queue.lease("events", clocks.time())


@JUMPS
def test_a_clock_that_is_set_after_a_caller_has_read_it_moves_neither_a_retry_nor_a_lease(
    tmp_path: Path, clocks: Clocks, jump: float
) -> None:
    owner, sibling = (SqliteQueue(tmp_path / "guard.db", OPTIONS, clock=clocks.time) for _ in range(2))
    for name in ("a", "b"):
        owner.append(make_batch(name))
        assert owner.lease("events", clocks.time())
    until = clocks.time() + 30.0
    clocks.unix += jump
    owner.defer("a", until)
    owner.renew(clocks.time())
    assert not sibling.lease("events", clocks.time(), oldest=True)
    clocks.pass_by(15.0)
    now = clocks.time()
    clocks.unix -= jump
    owner.renew(now)
    clocks.pass_by(14.0)
    now = clocks.time()
    clocks.unix += jump
    assert not sibling.lease("events", now, oldest=True)
    assert not owner.lease("events", clocks.time())
    clocks.pass_by(1.1)
    assert [lease.batch.batch_id for lease in owner.lease("events", clocks.time())] == ["a"]
    owner.close()
    sibling.close()


@JUMPS
def test_a_living_owner_keeps_what_it_sends_and_a_dead_one_loses_it_after_one_lease_time(
    tmp_path: Path, clocks: Clocks, jump: float
) -> None:
    owner, sibling = (SqliteQueue(tmp_path / "guard.db", OPTIONS, clock=clocks.time) for _ in range(2))
    owner.append(make_batch("a"))
    assert owner.lease("events", clocks.time())
    clocks.unix += jump
    assert not sibling.lease("events", clocks.time(), oldest=True)
    clocks.pass_by(15.0)
    owner.renew(clocks.time())
    clocks.pass_by(15.0)
    assert not sibling.lease("events", clocks.time(), oldest=True)
    clocks.pass_by(OPTIONS.lease_seconds)
    assert sibling.lease("events", clocks.time(), oldest=True)
    owner.close()
    sibling.close()


def test_a_machine_that_slept_for_a_day_still_holds_what_it_was_sending(tmp_path: Path, clocks: Clocks) -> None:
    owner, sibling = (SqliteQueue(tmp_path / "guard.db", OPTIONS, clock=clocks.time) for _ in range(2))
    owner.append(make_batch("a"))
    assert owner.lease("events", clocks.time())
    clocks.unix += DAY  # while the other one stood still
    assert not sibling.lease("events", clocks.time(), oldest=True)
    assert owner.acknowledge("a")
    owner.close()
    sibling.close()


@pytest.mark.parametrize("number", [7, 0], ids=["told by its number", "told by nothing"])
def test_after_a_restart_of_the_machine_nothing_is_waited_for(
    tmp_path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    clocks.since_start = 50 * DAY
    monkeypatch.setattr(sqlite, "boot", lambda: number and number - 1)
    before = SqliteQueue(tmp_path / "guard.db", OPTIONS, clock=clocks.time)
    for name in ("a", "b"):
        before.append(make_batch(name))
    assert len(before.lease("events", clocks.time())) == 1
    assert before.lease("events", clocks.time())
    before.defer("a", clocks.time() + 60.0)
    before._database.close()  # without giving up the lease
    clocks.since_start = 10.0
    monkeypatch.setattr(sqlite, "boot", lambda: number)
    monkeypatch.setattr(sqlite, "time", clocks)
    after = SqliteQueue(tmp_path / "guard.db", OPTIONS, clock=clocks.time)
    taken = [lease.batch.batch_id for _ in range(2) for lease in after.lease("events", clocks.time(), oldest=True)]
    assert sorted(taken) == ["a", "b"]
    after.close()


def test_the_two_clocks_may_drift_apart(monkeypatch: pytest.MonkeyPatch, clocks: Clocks) -> None:
    kept, now = steady.Steady(), clocks.time()
    first = kept.at(now)
    clocks.unix += steady.TOLERANCE / 2
    assert kept.at(now) == first
    clocks.unix += 2 * steady.TOLERANCE
    kept.at(clocks.time())
    assert kept.at(now) == pytest.approx(first - 2.5 * steady.TOLERANCE)
    assert kept.at(float("inf")) == float("inf")
    assert time.time() < clocks.time()
