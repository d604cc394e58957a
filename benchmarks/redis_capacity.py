"""What one Redis carries: ``python -m benchmarks.redis_capacity [seconds]``.

Two processes add batches and remove them with the scripts of the store, as processes of a fleet do that deliver what
they accept, many calls under way at once, so that Redis is never idle. What counts is Redis's own CPU per batch: that
bounds a server, whose scripts run on one core, and other work on this machine does not change it much. Once with empty
streams and once with a backlog; on one server, and on a cluster with one destination and with one on each node.
"""

from __future__ import annotations

import gzip
import multiprocessing
import sys
import time
from contextlib import ExitStack
from typing import Any

import orjson
from faults.filler import row
from support.redis import redis_cluster, redis_server

SECONDS = 3.0
SENDERS = 2
AT_ONCE = 8
"""Batches that each sender adds in one write."""
LEASE, BOUND = 20_000, 1 << 40
_CONTEXT = multiprocessing.get_context("fork")


def body_of(rows: int) -> bytes:
    """Return a body of so many events as it is stored: compressed, from 1 kB on."""
    body = orjson.dumps({"project_id": "capacity", "batch_id": "x" * 22, "events": [row(n) for n in range(rows)]})
    return gzip.compress(body, 1) if len(body) >= 1024 else body


def added(client: Any, keys: list[str], who: str, names: list[str], rows: int, body: bytes, begun: int) -> None:
    """Add batches in one write."""
    from opentelemetry_guard.queue.base import Batch
    from opentelemetry_guard.queue.redis.entries import arguments_of
    from opentelemetry_guard.queue.redis.scripts import PUT

    with client.pipeline(transaction=False) as pipe:
        for name in names:
            batch = Batch(name, "events", rows, body, "gzip")
            pipe.evalsha(PUT.sha, len(keys), *keys, who, 0, LEASE, BOUND, begun, *arguments_of(batch))
        pipe.execute()


def send(port: int, keys: list[str], who: str, rows: int, ends: float) -> None:
    """Add and remove batches until the end."""
    import redis

    from opentelemetry_guard.queue.redis.scripts import SWAP

    client, body, made = redis.Redis(port=port, protocol=2), body_of(rows), 0
    while time.monotonic() < ends:
        names = [f"{who}-{made + n}" for n in range(AT_ONCE)]
        made += AT_ONCE
        added(client, keys, who, names, rows, body, 1)
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.evalsha(SWAP.sha, len(keys), *keys, who, 0, LEASE, 0, 1, 1, name)
            pipe.execute()


def measure(targets: list[tuple[int, list[str]]], rows: int, backlog: int, seconds: float) -> dict[str, float]:
    """Load servers, each a port and the keys of a destination; return what a batch cost them, and how many went."""
    import redis

    from opentelemetry_guard.queue.redis.scripts import PUT, SWAP

    clients = [redis.Redis(port=port, protocol=2) for port, _ in targets]
    for client, (_, keys) in zip(clients, targets, strict=True):
        client.flushall()
        for script in (PUT, SWAP):
            client.script_load(script.text)
        body = body_of(rows)
        for first in range(0, backlog, 100):
            added(client, keys, "backlog", [f"old-{n}" for n in range(first, first + 100)], rows, body, 0)
        client.config_resetstat()
    before = [_cpu(client) for client in clients]
    began = time.monotonic()
    senders = [
        _CONTEXT.Process(target=send, args=(port, keys, f"sender-{n}", rows, began + seconds))
        for port, keys in targets
        for n in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    took, cpu = time.monotonic() - began, [_cpu(c) - b for c, b in zip(clients, before, strict=True)]
    calls = [client.info("commandstats")["cmdstat_evalsha"]["calls"] for client in clients]
    batches = sum(calls) / 2
    for client in clients:
        client.close()
    return {"us": sum(cpu) / batches * 1e6, "batches_per_second": batches / took, "cores": sum(cpu) / took}


def _cpu(client: Any) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


def main(seconds: float = SECONDS) -> dict[str, float]:
    """Measure, print, and return Redis's CPU microseconds of a batch by case."""
    from opentelemetry_guard.queue.redis.entries import keys_of

    found: dict[str, float] = {}

    def show(name: str, targets: list[tuple[int, list[str]]], rows: int, backlog: int = 0) -> None:
        took = measure(targets, rows, backlog, seconds)
        found[name] = took["us"]
        print(
            f"  {name:<58}{took['us']:>6.0f} us CPU per batch: a core carries {1e6 / took['us']:>6,.0f} batches/s, "
            f"{1e6 / took['us'] * rows:>10,.0f} events/s (here {took['batches_per_second']:,.0f} batches/s "
            f"with {took['cores']:.2f} cores)",
            flush=True,
        )

    print("Redis: a batch is added and removed, two scripts")
    with redis_server() as server:
        target = [(server.port, keys_of("capacity"))]
        for rows in (480, 50, 5):
            show(f"one server, batches of {rows}", target, rows)
        show("one server, batches of 480, a backlog of 10,000 batches", target, 480, 10_000)
    with ExitStack() as stack:
        cluster = stack.enter_context(redis_cluster())
        masters = cluster.servers[:3]
        clients = [stack.enter_context(each.client()) for each in masters]
        targets: dict[int, tuple[int, list[str]]] = {}
        for number in range(1000):
            keys = keys_of(f"capacity{number}")
            slot = int(clients[0].execute_command("CLUSTER", "KEYSLOT", keys[0]))
            targets.setdefault(min(2, slot // 5461), (masters[min(2, slot // 5461)].port, keys))
        show("cluster, one destination, batches of 480", [targets[0]], 480)
        show("cluster, a destination on each node, batches of 480", list(targets.values()), 480)
    return found


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
