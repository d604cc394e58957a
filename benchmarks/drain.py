"""How fast what is stored leaves: ``python -m benchmarks.drain [events]``.

A backend in a process of its own that keeps up, and a process that finds the events in its store: in SQLite, in Redis
as its own (it has accepted them itself while the backend was away), as what another process of its machine has left,
and as what another machine has left. Events lie in full batches, or in batches of 50, as an application with little
traffic leaves them. Events a second are those of the wall; the CPU of the process and the commands of Redis tell what
stands behind it on a machine that does other things too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.filler import row
from support.redis import redis_server

from benchmarks.accepting import Backend, accepting

EVENTS = 100_000
WANTED_EVENTS_PER_SECOND = 20_000
FULL, SMALL = 500, 50
"""Rows of a batch: what the SDK's batch processor exports at once, and what a second of little traffic leaves."""
SECONDS = 300.0


@dataclass(frozen=True)
class Case:
    """What is drained: from `store` (sqlite or redis), left by whom (own, sibling, machine), in batches of `rows`."""

    store: str
    left_by: str
    rows: int
    milliseconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.store}, left by {self.left_by}, batches of {self.rows}, answers after {self.milliseconds:.0f} ms"


CASES = [
    Case("sqlite", "own", FULL),
    Case("sqlite", "own", SMALL, 20),
    Case("redis", "own", FULL),
    Case("redis", "own", SMALL, 20),
    Case("redis", "sibling", FULL),
    Case("redis", "machine", FULL),
    Case("redis", "machine", SMALL, 20),
]


def work(order: str, events: int, rows: int) -> None:
    """In a process of its own: ``fill``, ``drain`` or both; prints what it took as JSON."""
    from opentelemetry_guard.delivery.delivery import Delivery
    from opentelemetry_guard.delivery.stores import open_store
    from opentelemetry_guard.settings.delivery import GuardConfig

    config = GuardConfig.resolve()
    queue = open_store(config)
    delivery = Delivery(config, queue)
    if order != "drain":
        # Not by `submit`, which wakes the sender: it is to find all of it
        for first in range(0, events, rows):
            for batch in delivery._encoder.encode("events", [row(n) for n in range(first, first + rows)]):
                queue.append(batch)
        if hasattr(queue, "_copies"):
            until_copied(queue)
    if order == "fill":
        delivery.close(0.0)
        return
    print("{}", flush=True)
    sys.stdin.readline()
    began, cpu = time.monotonic(), time.process_time()
    delivery.start()
    while (done := delivery.stats().ledger["events"].delivered) < events and time.monotonic() < began + SECONDS:
        time.sleep(0.02)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    delivery.close(0.0)
    print(json.dumps({"delivered": done, "seconds": seconds, "cpu": cpu}))


def until_copied(queue: Any) -> None:
    """Wait until Redis has all copies: the housekeeping makes those for which an append had no time."""
    while queue._copies.get().book.uncopied():
        queue.renew(time.time())
        time.sleep(0.05)


def run(
    order: str, events: int, rows: int, settings: dict[str, str], begins: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Run `work` in a process of its own; `begins` is called before it drains anything."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | settings
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.drain", order, str(events), str(rows)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline():
        begins()
    output, _ = process.communicate("\n")
    if process.returncode:
        raise RuntimeError(f"{order} ended with status {process.returncode}")
    return json.loads(output) if output else {}


@contextmanager
def store(name: str, directory: Path) -> Iterator[tuple[str, Any]]:
    """Yield the URL of an empty store, and a client of the Redis behind it."""
    if name == "sqlite":
        yield f"sqlite://{directory}/queue.db", None
        return
    with redis_server() as server, server.client() as client:
        yield server.url, client


def commands(client: Any) -> dict[str, Any]:
    """Return how often Redis ran a script and how long that took in total (seconds)."""
    found = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): counts for name, counts in found.items()}
    scripts = [calls[name] for name in ("evalsha", "eval") if name in calls]
    return {"calls": sum(each["calls"] for each in scripts), "seconds": sum(each["usec"] for each in scripts) / 1e6}


def measure(case: Case, events: int = EVENTS) -> dict[str, float]:
    """Return what draining took: ``events_per_second``, ``cpu_us`` per event, ``requests``, and of Redis ``calls``
    and its time per event in ``redis_us``."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guard-drain-")))
        backend: Backend = stack.enter_context(accepting(case.milliseconds))
        url, redis = stack.enter_context(store(case.store, directory))
        settings = {
            "OTEL_EXPORTER_GUARD_ENDPOINT": backend.url,
            "OTEL_EXPORTER_GUARD_API_KEY": "drain-key-0123456789",
            "OTEL_EXPORTER_GUARD_PROJECT_ID": "bench",
            "OTEL_EXPORTER_GUARD_QUEUE_URL": url,
            "OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES": str(1024**3),
            "XDG_STATE_HOME": str(directory / "state"),
        }
        order = "both"
        if case.left_by != "own":
            run("fill", events, case.rows, settings)
            order = "drain"
        if case.left_by == "machine":
            settings["XDG_STATE_HOME"] = str(directory / "elsewhere")
        took = run(order, events, case.rows, settings, lambda: redis and redis.config_resetstat())
        if took["delivered"] < events:
            raise RuntimeError(f"{case}: {took['delivered']} of {events} events were delivered in {SECONDS} s")
        result = {
            "events_per_second": events / took["seconds"],
            "cpu_us": took["cpu"] / events * 1e6,
            "requests": backend.counts()["requests"],
        }
        if redis is not None:
            told = commands(redis)
            result |= {"calls": told["calls"], "redis_us": told["seconds"] / events * 1e6}
        return result


def show(case: Case, found: dict[str, float]) -> None:
    redis = f", {found['calls']:.0f} calls to Redis of {found['redis_us']:.1f} us per event" if "calls" in found else ""
    print(
        f"  {case!s:<66}{found['events_per_second']:>9,.0f} events/s, {found['cpu_us']:>6.1f} us CPU per event, "
        f"{found['requests']:.0f} requests{redis}",
        flush=True,
    )


def main(events: int = EVENTS) -> dict[str, dict[str, float]]:
    """Measure all cases, print them, and return the figures by case."""
    print(f"Drain of {events} stored events; at least {WANTED_EVENTS_PER_SECOND} events/s are wanted")
    found: dict[str, dict[str, float]] = {}
    for case in CASES:
        found[str(case)] = measure(case, events)
        show(case, found[str(case)])
    return found


if __name__ == "__main__":
    if len(sys.argv) == 4:
        work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
