"""A fleet on one Redis: ``python -m benchmarks.redis_fleet [--on single|sentinel|cluster] [--machines 50] [...]``.

Processes that share nothing but Redis, each with an SQLite file of its own, as machines have. They accept a backlog
while nobody sends; some are killed then and some in the middle of the drain, and with sentinels or a cluster the
master is killed as well. A backend in a process of its own knows every event: which were lost, which came twice, and
whether the machine that had accepted them was alive then.

It prints one JSON document: the figures of the fleet, of Redis (memory, scripts and their time per batch), and what
went wrong, which is nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import re
import resource
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from faults.emitter import key_of
from faults.filler import row
from support.redis import redis_cluster, redis_sentinel, redis_server

from benchmarks.accepting import ANSWER

ROWS = 500
"""Events of a batch, what the SDK's batch processor exports at once."""
RENEW_SECONDS = 4.0
PROJECT = "fleet"
_KEY = re.compile(rb'"idempotency_key":"(\w{8})-0000-4000-8000-(\w{12})"')
_BATCH = re.compile(rb'"batch_id":"([^"]*)"')
_HEAD = re.compile(rb"(content-length|x-sender|content-encoding): *([^\r\n]*)", re.IGNORECASE)
_CONTEXT = multiprocessing.get_context("fork")
Json = dict[str, Any]


# The backend.


class Register:
    """Every event that was taken: `seen` by machine, `again` those that came twice.

    An entry of `again` is the owner, the serial, who sent it then, when, and whether that was the same batch again,
    which any backend can tell by its id.
    """

    def __init__(self, machines: int, events: int) -> None:
        self.seen = [bytearray(events) for _ in range(machines)]
        self.last_at = [0.0] * machines
        self.again: list[tuple[int, int, int, float, bool]] = []
        self._batches: set[bytes] = set()
        self.taken = self.requests = 0
        self._lock = threading.Lock()

    def take(self, sender: int, body: bytes) -> None:
        keys = [(int(owner, 16), int(serial, 16)) for owner, serial in _KEY.findall(body)]
        found = _BATCH.search(body)
        batch, now = found[1] if found else b"", time.time()
        with self._lock:
            self.requests += 1
            known = batch in self._batches
            self._batches.add(batch)
            for owner, serial in keys:
                if self.seen[owner][serial]:
                    self.again.append((owner, serial, sender, now, known))
                else:
                    self.taken += 1
                self.seen[owner][serial] = 1
            for owner in {owner for owner, _ in keys}:
                self.last_at[owner] = now

    def report(self) -> Json:
        with self._lock:
            missing = [len(each) - sum(each) for each in self.seen]
            return {
                "taken": self.taken,
                "requests": self.requests,
                "missing": missing,
                "again": list(self.again),
                "last_at": list(self.last_at),
            }


def serve(register: Register, listener: socket.socket, orders: Connection) -> None:
    """Take everything; for each order tell what was taken so far."""

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        with suppress(OSError):
            while True:
                while (end := data.find(b"\r\n\r\n")) < 0:
                    if not (more := connection.recv(1 << 16)):
                        return
                    data += more
                head = {name.lower(): value for name, value in _HEAD.findall(data[:end])}
                body, size = bytearray(data[end + 4 :]), int(head[b"content-length"])
                while len(body) < size:
                    if not (more := connection.recv(size - len(body))):
                        return  # it was killed: a request that is not whole is none
                    body += more
                data = b""
                if b"x-sender" in head:
                    plain = gzip.decompress(body) if b"gzip" in head.get(b"content-encoding", b"") else bytes(body)
                    register.take(int(head[b"x-sender"]), plain)
                connection.sendall(ANSWER)

    threading.Thread(target=accept, daemon=True).start()
    with suppress(EOFError):
        while True:
            orders.send(register.taken if orders.recv() == "taken" else register.report())


# A machine.


def live(number: int, events: int, environment: dict[str, str], orders: Connection) -> None:
    """Accept a backlog, wait for the order to send, and send until told to end."""
    os.environ.update(environment)
    from opentelemetry_guard.delivery.delivery import Delivery
    from opentelemetry_guard.delivery.stores import open_store
    from opentelemetry_guard.settings.delivery import GuardConfig

    config = GuardConfig.resolve()
    queue: Any = open_store(config)
    delivery = Delivery(config, queue)
    for first in range(0, events, ROWS):
        rows = [row(serial) for serial in range(first, min(first + ROWS, events))]
        for serial, each in enumerate(rows, first):
            each["idempotency_key"] = key_of(number, serial)
        for batch in delivery._encoder.encode("events", rows):
            queue.append(batch)
    copies = queue._copies.get()
    while copies.book.uncopied() > copies.book.refused():
        queue.renew(time.time())
        time.sleep(0.1)
    orders.send({"uncopied": copies.book.uncopied(), "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
    while not orders.poll(RENEW_SECONDS):
        queue.renew(time.time())
    cpu = time.process_time()
    delivery.start()
    with suppress(EOFError):
        while orders.recv() != "end":
            pass
    stats = delivery.stats()
    ledger = stats.ledger["events"]
    delivery.close(5.0)
    orders.send(
        {
            "accepted": ledger.accepted,
            "delivered": ledger.delivered,
            "dropped": dict(ledger.dropped),
            "waiting": stats.depth,
            "cpu": time.process_time() - cpu,
            "outages": copies.link.outages,
        }
    )


class Machine:
    """The hand on one."""

    def __init__(self, number: int, events: int, environment: dict[str, str]) -> None:
        self.orders, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=live, args=(number, events, environment, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.killed_at: float | None = None

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.killed_at = time.time()

    def ask(self, order: str, seconds: float = 120.0) -> Json:
        self.orders.send(order)
        return self.told(seconds)

    def told(self, seconds: float) -> Json:
        if not self.orders.poll(seconds):
            raise RuntimeError(f"a machine has said nothing for {seconds} s")
        answer: Json = self.orders.recv()
        return answer


# Redis.


class Single:
    """One server. `master` is the one that has the fleet's keys now."""

    def __init__(self, url: str, servers: list[Any], key: str) -> None:
        self.url = url
        self._servers = servers
        self._key = key

    @property
    def master(self) -> Any:
        """Return the server that has the keys and may change them."""
        import redis

        while True:
            for server in self._servers:
                with suppress(redis.RedisError, OSError), server.client(1.0) as client:
                    if client.info("replication")["role"] == "master":
                        client.execute_command("EXISTS", self._key)
                        return server
            time.sleep(0.1)

    def info(self) -> Json:
        """Return scripts and their microseconds so far, bytes of memory, and seconds of CPU."""
        with self.master.client() as client:
            found = client.info("commandstats")
            scripts = [found[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in found]
            memory, cpu = client.info("memory"), client.info("cpu")
            return {
                "calls": sum(each["calls"] for each in scripts),
                "usec": sum(each["usec"] for each in scripts),
                "memory": memory["used_memory"],
                "bytes": int(client.get(self._key.replace(":index", ":bytes")) or 0),
                "batches": client.hlen(self._key),
                "cpu": cpu["used_cpu_user"] + cpu["used_cpu_sys"],
            }


@contextmanager
def servers(topology: str, key: str) -> Iterator[Single]:
    """Run Redis: one server, a master with a replica and sentinels, or a cluster of three masters and replicas."""
    if topology == "single":
        with redis_server() as server:
            yield Single(server.url, [server], key)
    elif topology == "sentinel":
        with redis_sentinel() as found:
            yield Single(found.url, [found.master, found.replica], key)
    else:
        with redis_cluster() as cluster:
            yield Single(cluster.url, cluster.servers, key)


# The soak.


def soak(topology: str, machines: int, events: int, kills: int, seconds: float, max_bytes: int) -> Json:
    """Run a fleet of `machines` with `events` each, of which `kills` are killed before the drain and as many in it."""
    from opentelemetry_guard.delivery import delivery  # noqa: F401  before the fork, so that all share it
    from opentelemetry_guard.queue.redis import store  # noqa: F401
    from opentelemetry_guard.queue.redis.entries import keys_of
    from opentelemetry_guard.settings.delivery import GuardConfig

    register = Register(machines, events)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    settings = {
        "OTEL_EXPORTER_GUARD_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}",
        "OTEL_EXPORTER_GUARD_API_KEY": "fleet-key-0123456789",
        "OTEL_EXPORTER_GUARD_PROJECT_ID": PROJECT,
        "OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES": str(max_bytes),
        "OTEL_EXPORTER_GUARD_STATUS_INTERVAL": "0",
    }
    os.environ.update(settings)
    key = keys_of(GuardConfig.resolve().destination)[2]
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="guard-redis-fleet-"))
        orders, theirs = _CONTEXT.Pipe()
        backend = _CONTEXT.Process(target=serve, args=(register, listener, theirs), daemon=True)
        backend.start()
        stack.callback(backend.kill)
        redis = stack.enter_context(servers(topology, key))
        empty = redis.info()["memory"]
        began = time.time()
        fleet: list[Machine] = []
        for number in range(machines):
            own = {
                **settings,
                "OTEL_EXPORTER_GUARD_QUEUE_URL": redis.url,
                "OTEL_EXPORTER_GUARD_HEADERS": f"x-sender={number}",
                "XDG_STATE_HOME": str(Path(directory, str(number))),
            }
            fleet.append(Machine(number, events, own))
            stack.callback(fleet[-1].process.kill)
        filled = [machine.told(seconds) for machine in fleet]
        full, filled_in = redis.info(), time.time() - began
        for machine in fleet[:kills]:
            machine.kill()
        began, before = time.time(), redis.info()
        for machine in fleet[kills:]:
            machine.orders.send("go")
        _drain(redis if topology != "single" else None, fleet[kills : 2 * kills], orders, machines * events, seconds)
        orders.send("report")
        report: Json = orders.recv()
        after, drained_in = redis.info(), max(report["last_at"]) - began
        told = [machine.ask("end") for machine in fleet if machine.killed_at is None]
        left = redis.info()
    again_of_living = [each for each in report["again"] if fleet[each[0]].killed_at is None]
    living = [n for n, machine in enumerate(fleet) if machine.killed_at is None]
    own_in = max(report["last_at"][n] for n in living) - began
    handed_over = [report["last_at"][n] - (m.killed_at or 0.0) for n, m in enumerate(fleet) if m.killed_at]
    stored = max(1, full["batches"])
    result: Json = {
        "on": topology,
        "machines": machines,
        "events": machines * events,
        "lost": sum(report["missing"]),
        "lost_of_living": sum(report["missing"][n] for n in living),
        "came_twice": len(report["again"]),
        "came_twice_in_another_batch": sum(not known for *_, known in report["again"]),
        "came_twice_of_living": len(again_of_living),
        "waiting_at_the_end": sum(each["waiting"] for each in told),
        "dropped": sum(sum(each["dropped"].values()) for each in told),
        "copies_at_the_end": left["batches"],
        "outages_seen": sum(each["outages"] for each in told),
        "uncopied": sum(each["uncopied"] for each in filled),
        "fill_seconds": round(filled_in, 1),
        "drain_seconds": round(drained_in, 1),
        "own_seconds": round(own_in, 1),
        "events_per_second": round(len(living) * events / own_in),
        "handed_over_seconds": round(max(handed_over, default=0.0), 1),
        "requests": report["requests"],
        "stored_batches": full["batches"],
        "stored_bytes": full["bytes"],
        "memory": full["memory"] - empty,
        "memory_per_event": round((full["memory"] - empty) / (machines * events), 1),
        "memory_to_bytes": round((full["memory"] - empty) / max(1, full["bytes"]), 2),
        "memory_at_the_end": left["memory"] - empty,
        "fill_calls_per_batch": round(full["calls"] / stored, 2),
        "fill_us_per_batch": round(full["usec"] / stored),
        "cpu_us_per_event": round(sum(each["cpu"] for each in told) / (machines * events) * 1e6, 1),
        "rss_mb": round(max(each["rss"] for each in filled) / 1e6),
    }
    if after["calls"] >= before["calls"]:  # the same server, which no fail-over has replaced
        result["drain_calls_per_batch"] = round((after["calls"] - before["calls"]) / stored, 2)
        result["drain_us_per_batch"] = round((after["usec"] - before["usec"]) / stored)
        result["redis_cpu_share"] = round((after["cpu"] - before["cpu"]) / drained_in, 3)
    return result


def _drain(failing: Single | None, victims: list[Machine], orders: Connection, total: int, seconds: float) -> None:
    """Wait until the backend has `total` events; kill machines after a fifth, and the master after two fifths."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        orders.send("taken")
        taken: int = orders.recv()
        if taken >= total:
            return
        if taken >= total / 5:
            while victims:
                victims.pop().kill()
        if failing is not None and taken >= 2 * total / 5:
            failing.master.stop()
            failing = None
        time.sleep(0.05)


def main() -> None:
    """Run one soak and print it."""
    parser = argparse.ArgumentParser(prog="benchmarks.redis_fleet", description=__doc__)
    parser.add_argument("--on", choices=("single", "sentinel", "cluster"), default="single")
    parser.add_argument("--machines", type=int, default=50)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the whole fleet")
    parser.add_argument("--kills", type=int, default=5, help="before the drain, and as many in it")
    parser.add_argument("--seconds", type=float, default=200.0, help="of the drain, at most")
    parser.add_argument("--max-bytes", type=int, default=1024**3, help="the bound of the copies")
    asked = parser.parse_args()
    each = asked.events // asked.machines
    print(json.dumps(soak(asked.on, asked.machines, each, asked.kills, asked.seconds, asked.max_bytes), indent=1))


if __name__ == "__main__":
    main()
