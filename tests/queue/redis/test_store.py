"""The queue with a copy in Redis."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from support.redis import RedisServer, eventually, proxy, redis_server

from opentelemetry_guard.queue.base import KINDS, Batch, DeadLetter, DeliveryQueue, Kind, Lease, QueueOptions
from opentelemetry_guard.queue.conformance import QueueConformance, make_batch
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.redis import claims as claims_module
from opentelemetry_guard.queue.redis import copies as redis_module
from opentelemetry_guard.queue.redis import link as redis_link
from opentelemetry_guard.queue.redis.arbiter import Script
from opentelemetry_guard.queue.redis.book import BACKLOG
from opentelemetry_guard.queue.redis.claims import CLAIM_BATCHES
from opentelemetry_guard.queue.redis.scripts import CLAIM, PUT, SWAP
from opentelemetry_guard.queue.redis.store import RedisQueue
from opentelemetry_guard.queue.redis.url import parse_redis_url
from opentelemetry_guard.queue.sqlite.local import LocalQueue
from opentelemetry_guard.queue.sqlite.store import SqliteQueue

PATIENCE = 10.0
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


class RedisConformance(QueueConformance):
    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer, tmp_path: Path) -> Iterator[None]:
        self.server, self.directory = server, tmp_path
        self.queues: list[RedisQueue] = []
        yield
        for queue in self.queues:
            queue.close()

    def open(self, options: QueueOptions, local: LocalQueue) -> RedisQueue:
        queue = RedisQueue(parse_redis_url(self.server.url), options, local, patience=PATIENCE)
        self.queues.append(queue)
        return queue


class TestRedisOverSqlite(RedisConformance):
    def make_queue(self, options: QueueOptions) -> DeliveryQueue:
        with self.server.client() as client:
            client.flushall()
        return self.open(options, SqliteQueue(self.directory / f"{next(_numbers)}.db", options))

    def make_sibling(self, queue: DeliveryQueue, options: QueueOptions) -> DeliveryQueue:
        assert isinstance(queue, RedisQueue)
        assert isinstance(queue.local, SqliteQueue)
        return self.open(options, SqliteQueue(queue.local.path, options))


class TestRedisOverMemory(RedisConformance):
    def make_queue(self, options: QueueOptions) -> DeliveryQueue:
        with self.server.client() as client:
            client.flushall()
        return self.open(options, MemoryQueue(options))


# A fleet: machines that share nothing but Redis.

FLEET = QueueOptions("fleet", max_bytes=100_000, lease_seconds=1.0)
CALM = replace(FLEET, lease_seconds=5.0)
"""For machines that live: a test that stands still for a second on a busy machine has not died."""


class Fleet:
    """Machines with a local store each. A machine that makes no call is as good as dead."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.machines: list[RedisQueue] = []

    def machine(
        self, options: QueueOptions = FLEET, *, url: str | None = None, patience: float = PATIENCE
    ) -> RedisQueue:
        queue = RedisQueue(parse_redis_url(url or self.server.url), options, MemoryQueue(options), patience=patience)
        self.machines.append(queue)
        return queue

    def value(self, name: str, options: QueueOptions = FLEET) -> int:
        with closing(self.server.client()) as client:
            return int(client.get(f"{{guard:{options.destination}}}:{name}") or 0)

    def copies(self, options: QueueOptions = FLEET) -> int:
        with closing(self.server.client()) as client:
            return sum(int(client.xlen(f"{{guard:{options.destination}}}:{kind}")) for kind in KINDS)

    def names(self, kind: Kind, options: QueueOptions = FLEET) -> set[bytes]:
        with closing(self.server.client()) as client:
            return {fields[b"batch_id"] for _, fields in client.xrange(f"{{guard:{options.destination}}}:{kind}")}


@pytest.fixture
def fleet(server: RedisServer) -> Iterator[Fleet]:
    with closing(server.client()) as client:
        client.flushall()
    fleet = Fleet(server)
    yield fleet
    for queue in fleet.machines:
        queue.close()


def deliver(queue: RedisQueue, kind: Kind = "events") -> list[str]:
    """Take and acknowledge everything that is due."""
    names: list[str] = []
    while leases := queue.lease(kind, time.time()):
        for lease in leases:
            assert queue.acknowledge(lease.batch.batch_id)
            names.append(lease.batch.batch_id)
    return names


def delivered_by(queue: RedisQueue, count: int, kind: Kind = "events") -> list[str]:
    """Deliver until there were `count` batches."""
    names: list[str] = []
    eventually(lambda: len(names) >= count or names.extend(deliver(queue, kind)) or len(names) >= count)
    return names


def assert_balanced(*queues: RedisQueue) -> None:
    for queue in queues:
        for ledger in queue.stats().ledger.values():
            assert ledger.balanced, ledger


def patient(queue: RedisQueue, options: QueueOptions = FLEET) -> None:
    """Wait until a machine has seen Redis long enough to believe that a lease has run out."""
    queue.renew(time.time())
    eventually(lambda: queue._copies.get().link.up_for() > options.lease_seconds / 2)


def test_a_batch_moves_to_another_machine_when_its_owner_died(fleet: Fleet) -> None:
    first, second = fleet.machine(), fleet.machine()
    for name in "abc":
        first.append(make_batch(name, rows=2))
    assert sorted(delivered_by(second, 3)) == ["a", "b", "c"]
    assert second.stats().ledger["events"].delivered == 6
    assert fleet.copies() == fleet.value("bytes") == 0
    assert_balanced(second)


def test_an_owner_that_comes_back_does_not_send_what_others_took(fleet: Fleet) -> None:
    first, second = fleet.machine(), fleet.machine(CALM)
    for name in "abc":
        first.append(make_batch(name))
    patient(second, CALM)
    eventually(lambda: fleet_takes(second, 3))
    assert first.lease("events", time.time()) == []
    assert_balanced(first, second)
    for name in "abc":
        assert second.acknowledge(name)
    eventually(lambda: first.lease("events", time.time() + 100.0) == [] and first.stats().depth == 0)
    assert first.stats().ledger["events"].accepted == 0
    assert second.stats().ledger["events"].delivered == 3
    assert_balanced(first, second)


def fleet_takes(queue: RedisQueue, count: int) -> bool:
    queue.lease("events", time.time())
    return queue.stats().ledger["events"].in_flight == count


def test_nothing_is_taken_from_a_living_owner(fleet: Fleet) -> None:
    first, second = fleet.machine(CALM), fleet.machine(CALM)
    first.append(make_batch("a"))
    patient(second, CALM)
    for step in range(20):
        now = time.time() + step * 0.7 * CALM.lease_seconds
        first.renew(now)
        assert second.lease("events", now) == []
    assert deliver(first) == ["a"]


def test_leasing_alone_keeps_an_owner_alive(fleet: Fleet) -> None:
    """A sender that is busy sending calls `lease` and never `renew`."""
    first, second = fleet.machine(CALM), fleet.machine(CALM)
    first.append(make_batch("a"))
    first.lease("events", time.time())
    patient(second, CALM)
    begun = second._copies.get().link.up_for()

    def lived() -> bool:
        assert first.lease("events", time.time()) == []
        assert second.lease("events", time.time()) == []
        return second._copies.get().link.up_for() > begun + 1.5 * CALM.lease_seconds

    eventually(lived)
    assert first.acknowledge("a")


def test_what_was_released_is_taken_at_once(fleet: Fleet) -> None:
    long = replace(FLEET, lease_seconds=1000.0)
    first, second = fleet.machine(long), fleet.machine(long)
    first.append(make_batch("a"))
    first.append(make_batch("m", "metrics"))
    first.close()
    assert deliver(second) == ["a"]
    assert deliver(second, "metrics") == ["m"]


def test_a_claimed_batch_is_what_it_was_byte_by_byte(fleet: Fleet) -> None:
    batch = Batch("id-1", "metrics", 7, bytes(range(256)), "gzip", True, 1_700_000_000.123456)
    first, second = fleet.machine(), fleet.machine()
    first.append(batch)
    first.close()
    (lease,) = second.lease("metrics", time.time())
    assert lease.batch == batch


def test_two_machines_share_what_a_third_left_and_send_nothing_twice(fleet: Fleet) -> None:
    dead, *living = fleet.machine(), fleet.machine(), fleet.machine()
    names = [f"b{number}" for number in range(100)]
    for name in names:
        dead.append(make_batch(name))
    dead.close()
    sent: list[str] = []

    def work(queue: RedisQueue) -> None:
        eventually(lambda: sent.extend(deliver(queue)) or len(sent) >= len(names))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, queue) for queue in living]:
            done.result()
    assert sorted(sent) == sorted(names)
    assert sum(queue.stats().ledger["events"].delivered for queue in living) == 100
    assert_balanced(*living)


def test_a_machine_takes_no_more_than_its_store_has_room_for(fleet: Fleet) -> None:
    first, small = fleet.machine(), fleet.machine(replace(FLEET, max_bytes=100))
    for number in range(10):
        first.append(make_batch(str(number), size=40))
    first.close()
    assert len(delivered_by(small, 10)) == 10
    assert small.stats().ledger["events"].dropped == {}


def test_a_merge_takes_the_place_of_its_parts_for_everybody(fleet: Fleet) -> None:
    first, second = fleet.machine(), fleet.machine()
    for name in "abc":
        first.append(make_batch(name))
    leases = first.lease("events", time.time(), max_batches=3)
    assert first.replace([lease.batch.batch_id for lease in leases], [make_batch("merged", rows=3)])
    assert fleet.copies() == 1
    first.close()
    assert deliver(second) == ["merged"]
    assert fleet.value("bytes") == 0


def test_a_dead_letter_has_no_copy_and_gets_one_when_it_is_replayed(fleet: Fleet) -> None:
    first, second = fleet.machine(), fleet.machine()
    first.append(make_batch("bad"))
    first.lease("events", time.time())
    assert first.replace(["bad"], [], [DeadLetter(make_batch("bad"), 422, "no", 1.0)])
    assert fleet.copies() == 0
    first.append(make_batch("bad"))
    assert fleet.copies() == 0
    assert first.replay() == 1
    (lease,) = first.lease("events", time.time())
    assert fleet.copies() == 1
    first.defer(lease.batch.batch_id, 0.0)
    first.close()
    assert deliver(second) == ["bad"]


def test_what_the_local_store_evicts_leaves_redis_too(fleet: Fleet) -> None:
    options = replace(FLEET, max_bytes=1000, lease_seconds=30.0)
    queue = fleet.machine(options)
    for number in range(40):
        queue.append(make_batch(str(number), size=100, created_at=float(number)))

    newest = {str(number).encode() for number in range(30, 40)}

    def caught_up() -> bool:
        # By name: Redis is full of ten batches at every moment of catching up
        queue.renew(time.time())
        return fleet.names("events") == newest and fleet.value("bytes") == 1000

    eventually(caught_up)


def test_redis_holds_no_more_bytes_than_the_bound(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    options = replace(FLEET, max_bytes=1000, lease_seconds=30.0)
    machines = [fleet.machine(options) for _ in range(3)]
    for queue, number in itertools.product(machines, range(9)):
        queue.append(make_batch(f"{id(queue)}-{number}", size=100))
    assert fleet.value("bytes") == 1000
    assert [record.message for record in caplog.records if "is full" in record.message] == [ANY]
    assert sum(queue.link.refused for queue in machines) == 17
    for queue in machines:
        queue.renew(time.time())
    assert sum(queue.link.refused for queue in machines) == 17
    assert [len(deliver(queue)) for queue in machines] == [9, 9, 9]
    assert fleet.value("bytes") == fleet.copies() == 0


def test_a_batch_costs_one_round_trip_and_no_search_for_keys(fleet: Fleet) -> None:
    queue = fleet.machine(replace(FLEET, lease_seconds=1000.0))
    queue.append(make_batch("first"))
    with closing(fleet.server.client()) as client:
        client.config_resetstat()
        for number in range(200):
            queue.append(make_batch(str(number)))
        stats = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 200
    assert not {"cmdstat_keys", "cmdstat_scan", "cmdstat_eval"} & stats.keys()


@pytest.mark.parametrize("lost", [PUT, CLAIM, SWAP])
def test_an_answer_that_is_lost_neither_loses_nor_doubles_a_batch(
    fleet: Fleet, lost: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "FIRST_PAUSE", 0.02)
    names = {f"b{number}" for number in range(5)}
    with proxy(fleet.server.port) as between:
        first, second = fleet.machine(url=between.url), fleet.machine(url=between.url)
        first.append(make_batch("b0"))
        deliver(second)
        between.cut_after = lost.sha.encode()
        for name in sorted(names - {"b0"}):
            first.append(make_batch(name))
        copied = {name.encode() for name in names}
        eventually(
            lambda: first.renew(time.time()) or (fleet.copies() == len(names) and fleet.names("events") == copied)
        )
        first.release()
        sent: list[str] = []
        eventually(lambda: sent.extend(deliver(second)) or second.renew(time.time()) or len(sent) >= 5)
        assert sorted(sent) == sorted(names)
        eventually(lambda: second.renew(time.time()) or fleet.copies() == 0)
        assert between.cuts == 1
        assert_balanced(second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_another_consumer_with_a_connection_of_its_own(fleet: Fleet) -> None:
    queue = fleet.machine(replace(FLEET, lease_seconds=1000.0))
    queue.append(make_batch("parent"))
    pid = os.fork()
    if pid == 0:
        try:
            queue.append(make_batch("child"))
            alone = [lease.batch.batch_id for lease in queue.lease("events", time.time())] == ["child"]
            os._exit(0 if alone and queue.link.up else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert deliver(queue) == ["parent"]
    with closing(fleet.server.client()) as client:
        assert len(client.xinfo_consumers("{guard:fleet}:events", "senders")) == 2


APPENDING = """
import sys, time
from opentelemetry_guard.queue.base import QueueOptions
from opentelemetry_guard.queue.conformance import make_batch
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.redis.store import RedisQueue
from opentelemetry_guard.queue.redis.url import parse_redis_url
options = QueueOptions("fleet", max_bytes=100_000, lease_seconds=1.0)
queue = RedisQueue(parse_redis_url(sys.argv[1]), options, MemoryQueue(options), patience=10.0)
for number in range(20):
    queue.append(make_batch(str(number)))
queue.lease("events", time.time())
print("stored", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_had_is_delivered_by_another_machine(fleet: Fleet) -> None:
    command = [sys.executable, "-c", APPENDING, fleet.server.url]
    root = Path(redis_link.__file__).parents[3]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        process.kill()
    assert sorted(delivered_by(fleet.machine(), 20), key=int) == [str(number) for number in range(20)]


def test_workers_of_one_host_share_a_ledger_and_hand_over(fleet: Fleet, tmp_path: Path) -> None:
    def worker() -> RedisQueue:
        queue = RedisQueue(
            parse_redis_url(fleet.server.url), FLEET, SqliteQueue(tmp_path / "guard.db", FLEET), patience=PATIENCE
        )
        fleet.machines.append(queue)
        return queue

    first, second, elsewhere = worker(), worker(), fleet.machine()
    for name in "abc":
        first.append(make_batch(name))
    second.append(make_batch("d"))
    sent: list[str] = []
    eventually(lambda: sent.extend(deliver(second) + deliver(elsewhere)) or len(sent) >= 4)
    eventually(lambda: deliver(second) == [] and second.stats().depth == 0)
    assert sorted(sent) == ["a", "b", "c", "d"]
    total = second.stats().ledger["events"].delivered + elsewhere.stats().ledger["events"].delivered
    assert total == 4
    assert first.stats() == second.stats()
    assert_balanced(second, elsewhere)


def test_a_machine_that_is_never_idle_takes_over_too(fleet: Fleet) -> None:
    dead, busy = fleet.machine(), fleet.machine()
    dead.append(make_batch("left", created_at=1.0))
    dead.close()
    sent: list[str] = []

    def work() -> bool:
        busy.append(make_batch(f"own{next(_numbers)}", created_at=time.time()))
        for lease in busy.lease("events", time.time(), oldest=True):
            assert busy.acknowledge(lease.batch.batch_id)
            sent.append(lease.batch.batch_id)
        return "left" in sent

    eventually(work)
    assert_balanced(busy)


def test_a_busy_machine_leaves_others_what_it_cannot_send_soon(fleet: Fleet) -> None:
    long = replace(FLEET, lease_seconds=1000.0)
    dead, busy = fleet.machine(long), fleet.machine(long)
    for number in range(200):
        dead.append(make_batch(str(number)))
    dead.close()
    for _ in range(10):
        busy.lease("events", time.time(), oldest=True)
    assert busy.stats().depth == CLAIM_BATCHES


def test_claims_follow_each_other_while_they_bring_something(fleet: Fleet) -> None:
    long = replace(FLEET, lease_seconds=100_000.0)
    dead, heir = fleet.machine(long), fleet.machine(long)
    for number in range(200):
        dead.append(make_batch(str(number)))
    dead.close()
    assert len(deliver(heir)) == 200


def test_appending_shows_that_redis_was_emptied(fleet: Fleet) -> None:
    queue = fleet.machine(replace(FLEET, lease_seconds=1000.0))
    for number in range(20):
        queue.append(make_batch(str(number)))
    queue.renew(time.time())
    with closing(fleet.server.client()) as client:
        client.flushall()
    queue.append(make_batch("next"))
    eventually(lambda: fleet.copies() == 21)


@pytest.mark.parametrize("key", ["events", "metrics", "index", "owners", "done", "bytes", "epoch", "claims"])
def test_a_redis_that_drops_a_key_takes_nothing_from_a_machine_that_lives_and_keeps_its_bound(
    fleet: Fleet, key: str
) -> None:
    options = replace(FLEET, lease_seconds=1000.0)
    owner, other = fleet.machine(options), fleet.machine(options)
    for number in range(10):
        owner.append(make_batch(str(number)))
    other.append(make_batch("other"))
    patient(other)
    deliver(other)
    owner.lease("events", time.time())
    with closing(fleet.server.client()) as client:
        client.delete(f"{{guard:fleet}}:{key}")
    for queue in (owner, other):
        queue.renew(time.time())
    assert other.lease("events", time.time(), oldest=True) == []
    assert other.lease("events", time.time() + 60.0) == []
    assert owner.acknowledge("9")
    assert len(deliver(owner)) == 9
    eventually(lambda: fleet.copies() == fleet.value("bytes") == 0)
    owner.append(make_batch("after", size=100))
    eventually(lambda: fleet.value("bytes") == 100)
    assert_balanced(owner, other)


def test_a_redis_that_comes_back_from_an_old_snapshot_offers_nothing_that_was_delivered(tmp_path: Path) -> None:
    with redis_server() as server:
        options = replace(FLEET, lease_seconds=20.0)
        address = parse_redis_url(server.url)
        local = SqliteQueue(tmp_path / "guard.db", options, remembers=1000)
        owner = RedisQueue(address, options, local, patience=PATIENCE)
        for number in range(50):
            owner.append(make_batch(str(number)))
        with closing(server.client()) as client:
            client.save()
        assert len(deliver(owner)) == 50
        server.stop()
        server.start()
        with closing(server.client()) as client:
            assert client.xlen("{guard:fleet}:events") == 50
            other = RedisQueue(address, options, MemoryQueue(options), patience=PATIENCE)
            assert other.lease("events", time.time(), oldest=True) == []
            eventually(
                lambda: (
                    owner.renew(time.time())
                    or client.xlen("{guard:fleet}:events") == int(client.get("{guard:fleet}:bytes") or 0) == 0
                )
            )
        assert deliver(other) == []
        assert_balanced(owner, other)
        owner.close()
        other.close()


def test_appending_does_not_put_the_renewal_off(fleet: Fleet) -> None:
    queue = fleet.machine(replace(FLEET, lease_seconds=1000.0))
    now = time.time()
    queue.renew(now)
    queue._clock = lambda: now + 300.0
    queue.append(make_batch("a"))
    queue.lease("events", now + 300.0)
    assert queue._copies.get().renewed_at == now + 300.0


def test_a_full_redis_soon_has_the_newest_batches_without_any_renewal(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "SWEEP_SECONDS", 0.0)
    queue = fleet.machine(replace(FLEET, max_bytes=1000, lease_seconds=1000.0))
    for number in range(40):
        queue.append(make_batch(str(number), size=100, created_at=float(number)))
    newest = {str(number).encode() for number in range(30, 40)}
    with closing(fleet.server.client()) as client:
        eventually(lambda: {fields[b"batch_id"] for _, fields in client.xrange("{guard:fleet}:events")} == newest)


def test_what_was_done_is_remembered_for_a_week(fleet: Fleet) -> None:
    queue = fleet.machine()
    day, now = 24 * 3600 * 1000, time.time() * 1000
    with closing(fleet.server.client()) as client:
        client.zadd("{guard:fleet}:done", {"old": now - 8 * day, "young": now - 6 * day})
        queue.append(make_batch("a"))
        assert deliver(queue) == ["a"]
        assert set(client.zrange("{guard:fleet}:done", 0, -1)) == {b"young", b"a"}


def test_what_replaces_a_batch_in_flight_can_be_sent_at_once(fleet: Fleet) -> None:
    queue = fleet.machine()
    for name in "ab":
        queue.append(make_batch(name))
    leases = queue.lease("events", time.time(), max_batches=2)
    names = [lease.batch.batch_id for lease in leases]
    assert queue.replace(names, [make_batch("merged", rows=2)], in_flight=True)
    assert queue.lease("events", time.time()) == []
    assert queue.acknowledge("merged")
    assert fleet.copies() == 0
    assert_balanced(queue)


def test_batches_that_come_together_cost_one_question(fleet: Fleet) -> None:
    queue = fleet.machine(replace(FLEET, lease_seconds=1000.0))
    queue.renew(time.time())
    for number in range(50):
        queue.local.append(make_batch(str(number)))
    with closing(fleet.server.client()) as client:
        client.config_resetstat()
        assert len(queue.lease("events", time.time(), max_batches=50)) == 50
        eventually(lambda: fleet.copies() == 50)
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] <= 52


def test_people_see_what_the_whole_fleet_has(fleet: Fleet) -> None:
    long = replace(FLEET, lease_seconds=1000.0)
    first, second = fleet.machine(long), fleet.machine(long)
    first.append(make_batch("a", rows=2, size=30, created_at=7.0))
    first.append(make_batch("b", "metrics"))
    second.append(make_batch("c"))
    copies = second.fleet()
    assert copies is not None
    assert (dict(copies.batches), copies.bytes) == ({"events": 2, "metrics": 1}, 50)
    own, *others = second.waiting()
    assert (own.batch_id, own.elsewhere) == ("c", False)
    seen = {batch.batch_id: batch for batch in others}
    assert set(seen) == {"a", "b"}
    assert all(batch.elsewhere for batch in others)
    assert (seen["a"].kind, seen["a"].rows, seen["a"].size, seen["a"].created_at) == ("events", 2, 30, 7.0)
    assert [batch.batch_id for batch in second.waiting(limit=1, offset=1)] == [others[0].batch_id]
    assert delivered_by(first, 1) == ["a"]
    remaining = second.fleet()
    assert remaining is not None
    assert remaining.batches["events"] == 1


def test_what_nobody_has_begun_to_send_comes_together_from_a_dead_machine_and_the_rest_alone(fleet: Fleet) -> None:
    dead, heir = fleet.machine(), fleet.machine()
    for number in range(12):
        dead.append(make_batch(f"{number:02}", created_at=float(number)))
    begun = [lease.batch.batch_id for lease in dead.lease("events", time.time(), max_batches=3)]
    assert begun == ["11", "10", "09"]
    dead.release()
    taken: list[list[str]] = []

    def take() -> bool:
        leases = heir.lease("events", time.time(), max_batches=100)
        taken.append([lease.batch.batch_id for lease in leases])
        assert all(heir.acknowledge(lease.batch.batch_id) for lease in leases)
        return sum(map(len, taken)) == 12

    eventually(take)
    alone = {names[0] for names in taken if len(names) == 1}
    # The first ones were added while nothing waited, so that their delivery could begin in that instant
    assert alone == {*begun, *(f"{number:02}" for number in range(BACKLOG))}
    assert ["08", "07", "06", "05", "04"] in taken


def test_a_delivery_that_an_heir_has_begun_is_known_to_the_next_one(fleet: Fleet) -> None:
    dead, heir, last = fleet.machine(), fleet.machine(), fleet.machine()
    for number in range(10):
        dead.append(make_batch(str(number)))
    dead.release()
    eventually(lambda: len(heir.lease("events", time.time(), max_batches=100)) > 1)
    heir.release()
    names: list[str] = []

    def take() -> bool:
        leases = last.lease("events", time.time(), max_batches=100)
        assert len(leases) < 2
        names.extend(lease.batch.batch_id for lease in leases if last.acknowledge(lease.batch.batch_id))
        return len(names) == 10

    eventually(take)


def test_an_idle_machine_asks_redis_once_in_a_quarter_of_its_lease(fleet: Fleet) -> None:
    options = replace(FLEET, lease_seconds=20.0)
    idle, others = fleet.machine(options), [fleet.machine(options) for _ in range(3)]
    now = time.time()
    for number, other in enumerate(others):
        other.append(make_batch(str(number)))
        other.renew(now + 100.0)
    idle.renew(now)
    with closing(fleet.server.client()) as client:
        client.config_resetstat()
        for turn in range(12):
            idle.renew(now + 5.0 * turn)
            assert [idle.lease(kind, now + 5.0 * turn) for kind in KINDS] == [[], []]
        stats = client.info("commandstats")
    # What the others have begun may end late on a busy machine, once each; asking twice a turn would be 24.
    assert 12 <= stats["cmdstat_evalsha"]["calls"] <= 12 + len(others)


def test_a_claim_whose_answer_was_lost_is_asked_for_again_when_nothing_else_is_offered(fleet: Fleet) -> None:
    dead = fleet.machine(replace(FLEET, lease_seconds=1000.0))
    dead.append(make_batch("left"))
    dead.close()
    with closing(fleet.server.client()) as client:
        client.script_load(CLAIM.text)
    with proxy(fleet.server.port) as between:
        heir = fleet.machine(replace(FLEET, lease_seconds=1000.0), url=between.url, patience=0.3)
        heir.renew(time.time())
        between.cut_after = CLAIM.sha.encode()
        later = iter(range(10_000))

        def take() -> list[Lease]:
            # Whatever RENEW says: what was claimed is offered to nobody else
            now = time.time() + 300.0 * next(later)
            heir.renew(now)
            return heir.lease("events", now)

        def is_lost() -> bool:
            # On a busy machine the questions before the claim may end without an answer
            assert take() == []
            return between.cuts == 1

        eventually(is_lost)
        eventually(take)


def test_a_batch_that_a_machine_holds_and_knows_nothing_of_is_given_back(fleet: Fleet) -> None:
    """A fail-over brings back what a machine has claimed, or has delivered, a moment before."""
    unaware, heir = fleet.machine(CALM), fleet.machine(CALM)
    unaware.append(make_batch("known"))
    for queue in (unaware, heir):
        queue.renew(time.time())
    stranger = fleet.machine()
    stranger.append(make_batch("stranger"))
    key = f"{{guard:{FLEET.destination}}}"
    with closing(fleet.server.client()) as client:
        entry = client.hget(f"{key}:index", "stranger").split()[1]
        consumer = unaware._copies.get().consumer
        client.xclaim(f"{key}:events", "senders", consumer, 0, [entry])
    names: list[str] = []

    def take() -> bool:
        unaware.renew(time.time())
        heir.renew(time.time())
        names.extend(lease.batch.batch_id for lease in heir.lease("events", time.time()))
        return bool(names)

    eventually(take)
    assert names == ["stranger"]
    assert deliver(unaware) == ["known"]


@pytest.fixture
def set_clock(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the clock of the server by so many seconds."""
    modules = (redis_module, claims_module)
    scripts = [(m, name, each.text) for m in modules for name, each in vars(m).items() if isinstance(each, Script)]

    def by(seconds: int) -> None:
        clock = f"{{redis.call('TIME')[1] + ({seconds}), redis.call('TIME')[2]}}"
        for module, name, text in scripts:
            monkeypatch.setattr(module, name, Script(text.replace("redis.call('TIME')", clock)))

    return by


def test_a_servers_clock_that_is_set_forward_takes_nothing_from_the_living(
    fleet: Fleet, set_clock: Callable[[int], None]
) -> None:
    options = replace(FLEET, lease_seconds=4.0)
    living, heir = fleet.machine(options), fleet.machine(options)
    living.append(make_batch("mine"))
    heir.renew(time.time())
    eventually(lambda: heir._copies.get().link.up_for() > 2.1)
    living.renew(time.time())
    set_clock(3600)
    assert heir.lease("events", time.time()) == []
    heir.renew(time.time())
    living.renew(time.time())
    eventually(lambda: heir._copies.get().link.up_for() > 4.5)
    living.renew(time.time())
    assert heir.lease("events", time.time()) == []
    assert deliver(living) == ["mine"]


def test_a_servers_clock_that_is_set_back_does_not_keep_what_the_dead_have_left(
    fleet: Fleet, set_clock: Callable[[int], None]
) -> None:
    set_clock(3600)
    dead, heir = fleet.machine(), fleet.machine()
    dead.append(make_batch("left"))
    heir.renew(time.time())
    set_clock(0)
    assert delivered_by(heir, 1) == ["left"]


def test_a_question_costs_no_more_in_a_large_fleet(fleet: Fleet) -> None:
    options = replace(FLEET, lease_seconds=20.0)
    for number in range(40):
        fleet.machine(options).append(make_batch(str(number)))
    idle = fleet.machine(options)
    idle.renew(time.time())
    with closing(fleet.server.client()) as client:
        client.config_resetstat()
        idle.renew(time.time())
        stats = client.info("commandstats")
    commands = {name: each["calls"] for name, each in stats.items() if name not in ("cmdstat_info", "cmdstat_config")}
    assert commands["cmdstat_evalsha"] == 1
    assert sum(commands.values()) < 40, commands


def test_what_was_merged_keeps_its_copies_until_the_merger_has_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = fleet.machine()
    for name in ("one", "two"):
        queue.append(make_batch(name))
    names = [lease.batch.batch_id for lease in queue.lease("events", time.time(), max_batches=2)]
    copies = queue._copies.get()
    with monkeypatch.context() as slow:
        slow.setattr(copies.link, "call", lambda *_: None)  # no answer in time
        assert queue.replace(names, [make_batch("both", rows=2)], in_flight=True)
    with monkeypatch.context() as dying:
        dying.setattr(copies, "_tidy_missing", lambda _: False)
        copies.catch_up(PATIENCE)
        assert fleet.copies() == 2
    copies.catch_up(PATIENCE)
    eventually(lambda: queue.renew(time.time()) or fleet.copies() == 1)
    assert queue.acknowledge("both")
    assert fleet.copies() == 0
