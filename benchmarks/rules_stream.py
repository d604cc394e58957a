"""How soon a ban reaches many processes: ``python -m benchmarks.rules_stream [--processes 200] [--bans 20]``.

One backend, and processes that each hold a stream of rules to it and would poll
once a day. Each ban is set as ``opentelemetry-guard backend ban`` does it: in
the database, by another process than the backend. Times are from the commit of
the ban to the return of a subscriber's callback in each process.

It prints one JSON document: the times, and what a connection costs the backend
in memory and, while nothing happens, in CPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

from support.backend import RunningBackend, running_backend

from opentelemetry_guard import rules
from opentelemetry_guard.models import DynamicRules

SECRET = "benchmark-secret"
IDLE_SECONDS = 30.0
"""Seconds for which the backend's CPU time is counted while nothing is told: two heartbeats of each connection."""
WARM = 50
"""Streams that are there before memory is counted: the first ones load what all need, and start the threads."""
LIVE = -1
"""What a process says in the place of a version when its stream is there."""
PATIENCE = 120.0
_CONTEXT = multiprocessing.get_context("fork")


def listen(told: Connection, environment: dict[str, str]) -> None:
    """Be a process that enforces rules, and say when each version is there."""
    os.environ.update(environment)
    rules.subscribe(lambda old, new: told.send((new.version, time.time())), interval=86_400)
    client = rules._client
    while client is None or client._stream._live_for is None:
        time.sleep(0.05)
    told.send((LIVE, time.time()))
    signal.pause()


def processes(number: int, environment: dict[str, str]) -> dict[Connection, multiprocessing.process.BaseProcess]:
    """Start so many listeners, and return when each has its stream."""
    started = {}
    for _ in range(number):
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=listen, args=(theirs, environment), daemon=True)
        process.start()
        theirs.close()
        started[ours] = process
    arrivals(list(started), LIVE)
    return started


def arrivals(pipes: list[Connection], version: int) -> list[float]:
    """Return when each process had a version."""
    times, waiting, deadline = [], set(pipes), time.monotonic() + PATIENCE
    while waiting:
        ready = wait(waiting, deadline - time.monotonic())
        if not ready:
            raise TimeoutError(f"{len(waiting)} processes have not heard of version {version}")
        for pipe in ready:
            heard, at = pipe.recv()  # type: ignore[union-attr]
            if heard == version:
                times.append(at)
                waiting.discard(pipe)  # type: ignore[arg-type]
    return times


def memory(pid: int) -> int:
    """Return the bytes of memory that only this process has."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith(("Private_Dirty", "Private_Clean")))


def cpu(pid: int) -> float:
    """Return the seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(backend: RunningBackend, number: int, bans: int, directory: str) -> dict[str, object]:
    """Connect, ban, and count."""
    environment = {
        **backend.environment,
        "OTEL_EXPORTER_GUARD_SIGNING_SECRET": SECRET,
        "XDG_STATE_HOME": directory,
    }
    listeners = processes(WARM, environment)
    before = memory(backend.pid)
    listeners |= processes(number - WARM, environment)
    per_connection = (memory(backend.pid) - before) / (number - WARM)
    delays: list[float] = []
    for ban in range(1, bans + 1):
        version = backend.set_rules(DynamicRules(ip_blacklist=[f"198.51.100.{ban}"])).version
        begun = time.time()
        delays += [at - begun for at in arrivals(list(listeners), version)]
        time.sleep(0.1 + 0.007 * ban)  # so that bans fall on any moment between two looks
    idle = cpu(backend.pid)
    time.sleep(IDLE_SECONDS)
    idle = cpu(backend.pid) - idle
    for process in listeners.values():
        process.kill()
    quantiles = statistics.quantiles(delays, n=100)
    return {
        "processes": number,
        "bans": bans,
        "seconds from the ban to the process": {
            "p50": round(quantiles[49], 3),
            "p99": round(quantiles[98], 3),
            "max": round(max(delays), 3),
        },
        "backend's kB a connection": round(per_connection / 1024, 1),
        "backend's CPU while idle, share of a core": round(idle / IDLE_SECONDS, 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--bans", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_backend(signing_secret=SECRET) as backend:
        print(json.dumps(measure(backend, arguments.processes, arguments.bans, directory), indent=2))


if __name__ == "__main__":
    main()
