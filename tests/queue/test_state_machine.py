"""One model of a delivery queue, in plain dictionaries, against every store.

The machine does what senders, exporters, crashes and operators do, in any
order; after each step every ledger is balanced and is the model's.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.redis import redis_server

from opentelemetry_guard.queue.base import KINDS, Batch, DeadLetter, DeliveryQueue, Kind, Overflow, QueueOptions
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.redis.store import RedisQueue
from opentelemetry_guard.queue.redis.url import parse_redis_url
from opentelemetry_guard.queue.sqlite.local import LocalQueue
from opentelemetry_guard.queue.sqlite.store import SqliteQueue

MAX_BYTES, MAX_DEAD_LETTER_BYTES, LEASE = 250, 60, 20.0

kinds = st.sampled_from(KINDS)
policies: st.SearchStrategy[Overflow] = st.sampled_from(["drop_oldest", "drop_newest"])


@dataclass
class Row:
    """A batch as the model knows it."""

    batch: Batch
    owner: int
    in_flight: bool = False
    due: float = 0.0
    attempts: int = 0
    refusals: int = 0


class QueueMachine(RuleBasedStateMachine):
    """Two owners of one store, or one owner where a store has only one."""

    owners = 2

    def make(self, options: QueueOptions) -> DeliveryQueue:
        raise NotImplementedError

    @initialize(policy=policies)
    def begin(self, policy: Overflow) -> None:
        self.now = 1000.0
        self.directory = Path(tempfile.mkdtemp())
        self.options = QueueOptions("ab12", MAX_BYTES, MAX_DEAD_LETTER_BYTES, LEASE, policy)
        self.policy = policy
        self.queues = {number: self.make(self.options) for number in range(self.owners)}
        self.lease_until: dict[int, float] = {}
        self.next_owner = self.owners
        self.rows: dict[str, Row] = {}
        self.letters: dict[str, DeadLetter] = {}
        self.accepted: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.made = 0

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            for queue in self.queues.values():
                queue.close()
            shutil.rmtree(self.directory)

    # What the model knows

    def new_batch(self, kind: Kind, rows: int, size: int) -> Batch:
        self.made += 1
        return Batch(f"b{self.made}", kind, rows, bytes([self.made % 256]) * size, created_at=float(self.made))

    def stored(self) -> int:
        return sum(len(row.batch.body) for row in self.rows.values())

    def queued(self, kind: Kind) -> list[Row]:
        return sorted(
            (row for row in self.rows.values() if row.batch.kind == kind and not row.in_flight),
            key=lambda row: row.batch.created_at,
        )

    def drop(self, batch: Batch, reason: str) -> None:
        self.dropped[batch.kind, reason] += batch.rows

    def holders(self) -> list[int]:
        return sorted({row.owner for row in self.rows.values() if row.in_flight} & self.queues.keys())

    def pick(self, data: st.DataObject) -> tuple[int, Row]:
        """Return an owner and a batch that it has in flight."""
        owner = data.draw(st.sampled_from(self.holders()), label="owner")
        held = [row for row in self.rows.values() if row.in_flight and row.owner == owner]
        return owner, data.draw(st.sampled_from(held), label="held")

    def owner(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.queues)), label="owner")

    # Steps

    @rule(data=st.data(), kind=kinds, rows=st.integers(1, 5), size=st.integers(1, 50) | st.just(MAX_BYTES + 1))
    def append(self, data: st.DataObject, kind: Kind, rows: int, size: int) -> None:
        owner, batch = self.owner(data), self.new_batch(kind, rows, size)
        self.queues[owner].append(batch)
        self.lease_until[owner] = self.now + LEASE
        self.accepted[kind] += rows
        victims: list[Row] = []
        if self.policy == "drop_oldest":
            victims = self.queued("metrics") + (self.queued("events") if kind == "events" else [])
        elif kind == "events":
            victims = self.queued("metrics")[::-1]
        excess = self.stored() + size - MAX_BYTES
        if excess > 0 and (size > MAX_BYTES or sum(len(row.batch.body) for row in victims) < excess):
            self.drop(batch, "queue_overflow")
            return
        for row in victims:
            if excess <= 0:
                break
            excess -= len(row.batch.body)
            del self.rows[row.batch.batch_id]
            self.drop(row.batch, "queue_overflow")
        self.rows[batch.batch_id] = Row(batch, owner)

    @rule(data=st.data())
    def append_again(self, data: st.DataObject) -> None:
        known = [row.batch for row in self.rows.values()] + [letter.batch for letter in self.letters.values()]
        if known:
            owner = self.owner(data)
            self.queues[owner].append(data.draw(st.sampled_from(known)))

    @rule(data=st.data(), kind=kinds, rows=st.integers(0, 3))
    def account(self, data: st.DataObject, kind: Kind, rows: int) -> None:
        self.queues[self.owner(data)].account(kind, rows, "invalid")
        self.accepted[kind] += rows
        self.dropped[kind, "invalid"] += rows

    @rule(
        data=st.data(),
        kind=kinds,
        count=st.integers(1, 3),
        size=st.sampled_from([0, 60, 150]),
        rows=st.sampled_from([0, 4, 9]),
        oldest=st.booleans(),
    )
    def lease(self, data: st.DataObject, kind: Kind, count: int, size: int, rows: int, oldest: bool) -> None:
        owner = self.owner(data)
        self.lease_until[owner] = self.now + LEASE

        def due() -> list[Row]:
            ready = [row for row in self.queued(kind) if row.owner == owner and row.due <= self.now]
            return ready if oldest else ready[::-1]

        if oldest or not due():
            for row in self.rows.values():
                if row.batch.kind == kind and row.owner != owner and self.lease_until.get(row.owner, 0.0) < self.now:
                    row.owner, row.in_flight, row.due = owner, False, 0.0
        expected: list[Row] = []
        for row in due()[:count]:
            bodies = sum(len(other.batch.body) for other in [*expected, row])
            total = sum(other.batch.rows for other in [*expected, row])
            if expected and (row.attempts or 0 < size < bodies or 0 < rows < total):
                break
            expected.append(row)
            if row.attempts:
                break
        leases = self.queues[owner].lease(kind, self.now, count, size, rows, oldest)
        assert [(lease.batch, lease.attempts, lease.refusals) for lease in leases] == [
            (row.batch, row.attempts, row.refusals) for row in expected
        ]
        for row in expected:
            row.in_flight = True
            row.attempts += 1

    @precondition(lambda self: self.holders())
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        owner, row = self.pick(data)
        assert self.queues[owner].acknowledge(row.batch.batch_id)
        del self.rows[row.batch.batch_id]
        self.delivered[row.batch.kind] += row.batch.rows

    @rule(data=st.data())
    def move_what_is_not_held(self, data: st.DataObject) -> None:
        owner = self.owner(data)
        foreign = [name for name, row in self.rows.items() if not row.in_flight or row.owner != owner]
        name = data.draw(st.sampled_from([*foreign, *self.letters, "unknown"]))
        assert not self.queues[owner].acknowledge(name)
        assert not self.queues[owner].defer(name, 0.0)
        assert not self.queues[owner].replace([name], [])

    @precondition(lambda self: self.holders())
    @rule(data=st.data(), delay=st.integers(-5, 50), refusals=st.integers(0, 3))
    def defer(self, data: st.DataObject, delay: int, refusals: int) -> None:
        owner, row = self.pick(data)
        assert self.queues[owner].defer(row.batch.batch_id, self.now + delay, refusals)
        row.in_flight, row.due, row.refusals = False, self.now + delay, refusals

    @precondition(lambda self: self.holders())
    @rule(data=st.data(), in_flight=st.booleans())
    def merge(self, data: st.DataObject, in_flight: bool) -> None:
        owner, row = self.pick(data)
        together = [
            other
            for other in self.rows.values()
            if other.in_flight and other.owner == owner and other.batch.kind == row.batch.kind
        ]
        batch = self.new_batch(row.batch.kind, sum(other.batch.rows for other in together), 30)
        assert self.queues[owner].replace([other.batch.batch_id for other in together], [batch], in_flight=in_flight)
        for other in together:
            del self.rows[other.batch.batch_id]
        self.rows[batch.batch_id] = Row(batch, owner, in_flight, attempts=1)

    @precondition(lambda self: self.holders())
    @rule(data=st.data(), in_flight=st.booleans())
    def split(self, data: st.DataObject, in_flight: bool) -> None:
        owner, row = self.pick(data)
        if row.batch.rows < 2:
            return
        halves = [self.new_batch(row.batch.kind, part, 20) for part in (1, row.batch.rows - 1)]
        assert self.queues[owner].replace([row.batch.batch_id], halves, in_flight=in_flight)
        del self.rows[row.batch.batch_id]
        self.rows.update({half.batch_id: Row(half, owner, in_flight, attempts=1) for half in halves})

    @precondition(lambda self: self.holders())
    @rule(data=st.data())
    def dead_letter(self, data: st.DataObject) -> None:
        owner, row = self.pick(data)
        letter = DeadLetter(row.batch, 422, "refused", float(self.made))
        assert self.queues[owner].replace([row.batch.batch_id], [], [letter])
        del self.rows[row.batch.batch_id]
        if len(row.batch.body) > MAX_DEAD_LETTER_BYTES:
            self.drop(row.batch, "dead_letter_overflow")
            return
        while sum(len(kept.batch.body) for kept in (*self.letters.values(), letter)) > MAX_DEAD_LETTER_BYTES:
            # min returns the first of equals, and dictionaries keep the order of arrival
            oldest = min(self.letters.values(), key=lambda kept: kept.time)
            del self.letters[oldest.batch.batch_id]
            self.drop(oldest.batch, "dead_letter_overflow")
        self.letters[row.batch.batch_id] = letter

    def newest_letters(self) -> list[DeadLetter]:
        return sorted(self.letters.values(), key=lambda letter: letter.time)[::-1]

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), everything=st.booleans())
    def replay(self, data: st.DataObject, everything: bool) -> None:
        names = list(self.letters) if everything else [data.draw(st.sampled_from(sorted(self.letters)))]
        moved = 0
        for letter in self.newest_letters():
            batch = letter.batch
            if batch.batch_id in names and self.stored() + len(batch.body) <= MAX_BYTES:
                moved += 1
                del self.letters[batch.batch_id]
                self.rows[batch.batch_id] = Row(batch, -1, attempts=1)
        assert self.queues[self.owner(data)].replay(None if everything else names) == moved

    @precondition(lambda self: self.letters)
    @rule(data=st.data(), everything=st.booleans())
    def purge(self, data: st.DataObject, everything: bool) -> None:
        names = list(self.letters) if everything else [data.draw(st.sampled_from(sorted(self.letters)))]
        assert self.queues[self.owner(data)].purge(None if everything else names) == len(names)
        for name in names:
            self.drop(self.letters.pop(name).batch, "purged")

    @rule(seconds=st.integers(1, 60))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        owner = self.owner(data)
        self.queues[owner].renew(self.now)
        self.lease_until[owner] = self.now + LEASE

    @rule(data=st.data(), close=st.booleans())
    def give_up(self, data: st.DataObject, close: bool) -> None:
        owner = self.owner(data)
        queue = self.queues[owner]
        queue.close() if close else queue.release()
        if self.owners > 1:
            self.lease_until[owner] = 0.0

    @precondition(lambda self: self.owners > 1)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """An owner is abandoned as it is: its batches stay its own until its lease has run out."""
        del self.queues[self.owner(data)]
        self.queues[self.next_owner] = self.make(self.options)
        self.next_owner += 1

    @invariant()
    def every_ledger_is_balanced_and_the_models(self) -> None:
        if not hasattr(self, "queues"):
            return
        queue = next(iter(self.queues.values()))
        stats = queue.stats()
        for kind in KINDS:
            ledger = stats.ledger[kind]
            rows = [row for row in self.rows.values() if row.batch.kind == kind]
            assert ledger.balanced
            assert ledger.accepted == self.accepted[kind]
            assert ledger.delivered == self.delivered[kind]
            assert ledger.queued == sum(row.batch.rows for row in rows if not row.in_flight)
            assert ledger.in_flight == sum(row.batch.rows for row in rows if row.in_flight)
            assert ledger.dead_lettered == sum(x.batch.rows for x in self.letters.values() if x.batch.kind == kind)
            assert ledger.dropped == {
                reason: count for (of, reason), count in self.dropped.items() if of == kind and count
            }
        assert (stats.depth, stats.bytes) == (len(self.rows), self.stored())
        assert stats.oldest == min((row.batch.created_at for row in self.rows.values()), default=None)
        assert queue.dead_letters() == self.newest_letters()


class MemoryMachine(QueueMachine):
    owners = 1

    def make(self, options: QueueOptions) -> DeliveryQueue:
        return MemoryQueue(options, clock=lambda: self.now)


class SqliteMachine(QueueMachine):
    def make(self, options: QueueOptions) -> DeliveryQueue:
        return SqliteQueue(self.directory / "guard.db", options, clock=lambda: self.now)


class RedisMachine(QueueMachine):
    """A copy in Redis changes nothing of what the local store does."""

    url = ""

    def local(self, options: QueueOptions) -> LocalQueue:
        return SqliteQueue(self.directory / "guard.db", options, clock=lambda: self.now)

    def make(self, options: QueueOptions) -> DeliveryQueue:
        options = replace(options, destination=self.directory.name)
        queue = RedisQueue(
            parse_redis_url(self.url), options, self.local(options), clock=lambda: self.now, patience=10.0
        )
        self.made_queues = [*getattr(self, "made_queues", []), queue]
        return queue

    def teardown(self) -> None:
        for queue in getattr(self, "made_queues", []):
            assert queue.link.failures == 0
            queue.close()
        super().teardown()


class RedisOverMemoryMachine(RedisMachine):
    owners = 1

    def local(self, options: QueueOptions) -> LocalQueue:
        return MemoryQueue(options, clock=lambda: self.now)


@pytest.mark.parametrize(("machine", "examples"), [(RedisMachine, 60), (RedisOverMemoryMachine, 40)])
def test_a_copy_in_redis_changes_nothing_of_the_model(machine: type[RedisMachine], examples: int) -> None:
    with redis_server() as server:
        machine.url = server.url
        test_a_store_does_what_the_model_says(machine, examples)


@pytest.mark.parametrize(("machine", "examples"), [(MemoryMachine, 200), (SqliteMachine, 150)])
def test_a_store_does_what_the_model_says(machine: Callable[[], QueueMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
