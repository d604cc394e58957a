"""A fleet of machines on one Redis, in any order of events: every batch is sent, and by one machine only."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

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
from support.redis import RedisServer, redis_server

from opentelemetry_guard.queue.base import KINDS, Batch, Kind, QueueOptions
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.redis.link import Link
from opentelemetry_guard.queue.redis.store import RedisQueue
from opentelemetry_guard.queue.redis.url import parse_redis_url

LEASE = 20.0

kinds = st.sampled_from(KINDS)


class FleetMachine(RuleBasedStateMachine):
    """Machines with nothing but memory, which append, send, stall, leave, crash and see Redis flushed."""

    server: RedisServer

    @initialize()
    def begin(self) -> None:
        with closing(self.server.client()) as client:
            client.flushall()
        self.now = 1000.0
        self.made = 0
        self.opened: list[RedisQueue] = []
        self.machines: dict[int, RedisQueue] = {}
        self.held: dict[int, list[Batch]] = {}
        self.rows: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        for _ in range(2):
            self.join()

    def teardown(self) -> None:
        if not hasattr(self, "machines"):
            return
        for number in list(self.machines):
            self.finish(number)
        self.now += 10 * LEASE
        last = self.join()
        for _ in range(3):
            for number in self.machines:
                self.tick(1.0)
                for kind in KINDS:
                    while self.take(number, kind):
                        self.finish(number)
        assert self.sent == self.rows
        assert self.machines[last].stats().depth == 0
        with closing(self.server.client()) as client:
            assert int(client.get("{guard:fleet}:bytes") or 0) == 0
        for queue in self.opened:
            assert queue.link.failures == 0
            queue.close()

    def join(self) -> int:
        options = QueueOptions("fleet", 100_000, 100_000, LEASE)
        queue = RedisQueue(
            parse_redis_url(self.server.url), options, MemoryQueue(options), clock=lambda: self.now, patience=10.0
        )
        self.opened.append(queue)
        number = len(self.opened)
        self.machines[number] = queue
        self.held[number] = []
        queue.renew(self.now)
        return number

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.machines)), label="machine")

    def take(self, number: int, kind: Kind, count: int = 1, oldest: bool = False) -> bool:
        leases = self.machines[number].lease(kind, self.now, count, oldest=oldest)
        self.held[number] += [lease.batch for lease in leases]
        return bool(leases)

    def finish(self, number: int) -> None:
        """The backend takes what a machine has in flight."""
        for batch in self.held[number]:
            assert self.machines[number].acknowledge(batch.batch_id)
            self.sent["rows"] += batch.rows
        self.held[number] = []

    @rule(data=st.data(), kind=kinds, rows=st.integers(1, 4))
    def append(self, data: st.DataObject, kind: Kind, rows: int) -> None:
        self.made += 1
        self.machines[self.pick(data)].append(
            Batch(f"b{self.made}", kind, rows, b"x" * 10, created_at=float(self.made))
        )
        self.rows["rows"] += rows

    @rule(data=st.data(), kind=kinds, count=st.integers(1, 3), oldest=st.booleans(), sends=st.booleans())
    def lease(self, data: st.DataObject, kind: Kind, count: int, oldest: bool, sends: bool) -> None:
        number = self.pick(data)
        self.take(number, kind, count, oldest)
        if sends:
            self.finish(number)

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        number = self.pick(data)
        together = [batch for batch in self.held[number] if batch.kind == "events"]
        if together:
            self.made += 1
            rows = sum(batch.rows for batch in together)
            merged = Batch(f"b{self.made}", "events", rows, b"y" * 10, created_at=float(self.made))
            assert self.machines[number].replace([batch.batch_id for batch in together], [merged])
            self.held[number] = [batch for batch in self.held[number] if batch.kind != "events"]

    @rule(data=st.data(), delay=st.integers(0, 30))
    def defer(self, data: st.DataObject, delay: int) -> None:
        number = self.pick(data)
        for batch in self.held[number]:
            assert self.machines[number].defer(batch.batch_id, self.now + delay)
        self.held[number] = []

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A machine is lost as it is; its memory is lost with it."""
        number = self.pick(data)
        del self.machines[number], self.held[number]
        self.join()

    @precondition(lambda self: len(self.machines) < 4)
    @rule()
    def one_more_joins(self) -> None:
        self.join()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A machine ends orderly, and what it has left is up for grabs."""
        number = self.pick(data)
        self.finish(number)
        self.machines.pop(number).close()
        self.join()

    @rule(seconds=st.integers(1, 15), stalls=st.booleans(), data=st.data())
    def time_passes(self, seconds: int, stalls: bool, data: st.DataObject) -> None:
        """Everybody renews; one that has nothing in flight may stall until its lease has run out."""
        idle = [number for number, held in self.held.items() if not held]
        asleep = data.draw(st.sampled_from(idle), label="asleep") if stalls and idle else None
        for _ in range(2 if asleep else 1):
            self.now += seconds
            for number, queue in self.machines.items():
                if number != asleep:
                    queue.renew(self.now)

    @rule()
    def redis_is_flushed(self) -> None:
        """Every machine notices at its next renewal, and has what it needs."""
        with closing(self.server.client()) as client:
            for queue in self.machines.values():
                queue.renew(self.now)
            if client.exists("{guard:fleet}:owners") and self.nobody_is_dead(client):
                client.flushall()
                for queue in self.machines.values():
                    queue.renew(self.now)
                    tidying = queue._copies.get().tidying
                    if tidying is not None:
                        tidying.result(10.0)

    def nobody_is_dead(self, client: object) -> bool:
        """What only Redis has is lost with it; that is the one documented loss."""
        living = {queue._copies.get().consumer.encode() for queue in self.machines.values()}
        pending = set()
        for kind in KINDS:
            if client.exists(f"{{guard:fleet}}:{kind}"):  # type: ignore[attr-defined]
                found = client.xpending(f"{{guard:fleet}}:{kind}", "senders")  # type: ignore[attr-defined]
                pending |= {about["name"] for about in found["consumers"] or []}
        return pending <= living

    @invariant()
    def every_ledger_is_balanced(self) -> None:
        for queue in getattr(self, "machines", {}).values():
            assert all(ledger.balanced for ledger in queue.stats().ledger.values())


def test_every_batch_is_sent_by_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    # Time is simulated, but how long Redis has been up is not
    monkeypatch.setattr(Link, "up_for", lambda self: float("inf"))
    with redis_server() as server:
        FleetMachine.server = server
        run_state_machine_as_test(
            FleetMachine,
            settings=settings(
                max_examples=40,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
