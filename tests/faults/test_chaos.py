"""A random schedule of every fault there is, and books that balance at the end.

The seed is printed; ``CHAOS_SEED=<seed>`` replays the schedule.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.faults import SCALE, Emitter, FaultyBackend, read_journals
from support.redis import RedisServer, redis_server

pytestmark = pytest.mark.faults

WORKERS = 3
RATE = 60
SECONDS = 180 * SCALE
POISON_EVERY = 500
SHUTDOWN_WITHIN = 10.0
DRAINED_WITHIN = 120.0
"""Seconds: two leases, and the time to send what has piled up."""

BACKEND_FAULTS = {
    "up": 5,
    "slow": 2,
    "refused": 2,
    "unavailable": 2,
    "hang": 1,
    "reset": 2,
    "lost": 2,
    "small": 2,
    "partial": 1,
    "unauthorized": 1,
}
WORKER_FAULTS = {"kill": 3, "terminate": 2}
REDIS_FAULTS = {"stop": 2, "stop and lose": 2, "pause": 1, "flush": 1}


@dataclass(frozen=True)
class Step:
    """Do something to somebody, `at` seconds after the start."""

    at: float
    target: str
    what: str


def schedule(seed: int, seconds: float, with_redis: bool) -> list[Step]:
    """Return the steps of a seed; the same seed gives the same steps."""
    steps = [*_steps(random.Random(f"{seed} backend"), "backend", BACKEND_FAULTS, seconds, 0.5, 6.0)]
    steps += _steps(random.Random(f"{seed} worker"), "worker", WORKER_FAULTS, seconds, 4.0, 10.0)
    if with_redis:
        steps += _steps(random.Random(f"{seed} redis"), "redis", REDIS_FAULTS, seconds, 5.0, 12.0)
    return sorted(steps, key=lambda step: step.at)


def _steps(
    chance: random.Random, target: str, faults: dict[str, int], seconds: float, least: float, most: float
) -> Iterator[Step]:
    at = chance.uniform(least, most)
    while at < seconds:
        yield Step(at, target, chance.choices(list(faults), list(faults.values()))[0])
        at += chance.uniform(least, most)


@dataclass
class Scene:
    """Everybody whom a step can hit."""

    directory: Path
    environment: dict[str, str]
    backend: FaultyBackend
    redis: RedisServer | None
    journals: list[Path] = field(default_factory=list)
    everybody: list[Emitter] = field(default_factory=list)
    workers: list[Emitter] = field(default_factory=list)
    shutdowns: list[float] = field(default_factory=list)
    redis_data_is_kept: bool = True
    redis_is_stopped: bool = False
    turn: int = 0

    def start_worker(self, seconds: float) -> Emitter:
        number = len(self.journals) + 1
        self.journals.append(self.directory / f"journal-{number}")
        worker = Emitter(
            self.journals[-1],
            self.environment,
            worker=number,
            rate=RATE / WORKERS,
            seconds=seconds,
            poison_every=POISON_EVERY,
        )
        self.everybody.append(worker)
        return worker

    def take(self, step: Step, seconds_left: float) -> None:
        """Do what a step says."""
        if step.target == "backend":
            self.backend.set_mode(step.what, limit=3000)
        elif step.target == "worker":
            self._hit_worker(step.what, seconds_left)
        elif self.redis is not None:
            self._hit_redis(self.redis, step.what)

    def _hit_worker(self, what: str, seconds_left: float) -> None:
        victim = self.workers.pop(0)
        if what == "kill":
            victim.kill()
        else:
            began = time.monotonic()
            victim.terminate()
            self.shutdowns.append(time.monotonic() - began)
        self.workers.append(self.start_worker(seconds_left))

    def _hit_redis(self, redis: RedisServer, what: str) -> None:
        """Every second step heals what the one before has done."""
        self.turn += 1
        if self.turn % 2 == 0:
            self.heal_redis(redis)
        elif what == "flush":
            with closing(redis.client()) as client:
                client.flushall()
        elif what == "pause":
            redis.pause()
        else:
            self.redis_data_is_kept = what == "stop"
            redis.stop(save=self.redis_data_is_kept)
            self.redis_is_stopped = True

    def heal_redis(self, redis: RedisServer) -> None:
        """Let Redis run again."""
        redis.resume()
        if self.redis_is_stopped:
            redis.start(keep=self.redis_data_is_kept)
            self.redis_is_stopped = False


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_the_books_balance_after_every_fault_at_random(backend: FaultyBackend, tmp_path: Path, store: str) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    print(f"\nchaos: CHAOS_SEED={seed}")
    if store == "sqlite":
        _run(seed, backend, tmp_path, f"sqlite://{tmp_path}/queue/guard.db", None)
    else:
        with redis_server() as redis:
            _run(seed, backend, tmp_path, redis.url, redis)


def _run(seed: int, backend: FaultyBackend, directory: Path, url: str, redis: RedisServer | None) -> None:
    environment = {
        **backend.environment,
        "OTEL_EXPORTER_GUARD_QUEUE_URL": url,
        "OTEL_EXPORTER_GUARD_TIMEOUT": "3",
        "OTEL_EXPORTER_GUARD_BREAKER_MAX_RECOVERY": "3",
    }
    scene = Scene(directory, environment, backend, redis)
    clock = threading.Event()  # never set: the schedule is the experiment
    try:
        scene.workers += [scene.start_worker(SECONDS) for _ in range(WORKERS)]
        for worker in scene.workers:
            worker.started()
        began = time.monotonic()
        for step in schedule(seed, SECONDS, redis is not None):
            clock.wait(max(0.0, began + step.at - time.monotonic()))
            print(f"  {time.monotonic() - began:6.2f} s (due {step.at:6.2f}) {step.target}: {step.what}")
            scene.take(step, max(0.0, began + SECONDS - time.monotonic()))
        clock.wait(max(0.0, began + SECONDS - time.monotonic()))
        backend.set_mode("up")
        if redis is not None:
            scene.heal_redis(redis)
        # A worker whose key was refused asks again in minutes, a new one at once: so the rest is left to a new one.
        for worker in scene.workers:
            began = time.monotonic()
            worker.terminate()
            scene.shutdowns.append(time.monotonic() - began)
        began = time.monotonic()
        last = scene.start_worker(0.0)
        scene.workers.append(last)
        last.started()
        last.emitted(60)
        stats = last.drain(DRAINED_WITHIN)
        drained_in = time.monotonic() - began
        letters = last.letters()
        last.finish()
    finally:
        for worker in scene.everybody:
            worker.close()

    report = backend.report()
    accepted, exports = read_journals(scene.journals)
    dead = {key for letter in letters for key in letter["keys"] if key}
    events, metrics = stats["ledger"]["events"], stats["ledger"]["metrics"]
    print(
        f"chaos: {len(accepted)} events accepted by export() in {len(scene.journals)} processes, {events}; "
        f"{len(report.keys)} stored by the backend ({len(report.duplicates())} more than once), {len(dead)} dead "
        f"letters {sorted({letter['status'] for letter in letters})}; metrics {metrics}, "
        f"{report.metric_rows()} rows stored; {report.answered_again()} events answered again; "
        f"drained in {drained_in:.1f} s; export() max {max(exports) * 1e3:.0f} ms, "
        f"SIGTERM max {max(scene.shutdowns):.1f} s; {report.requests} requests, answers {report.answers}"
    )
    assert stats["drained"], stats
    assert report.problems == []
    assert accepted <= report.keys | dead
    assert events["balanced"], events
    assert metrics["balanced"], metrics
    assert events["dead_lettered"] == len(dead)
    # What a stalled disk made a worker keep in its memory is in that worker's ledger, which is gone.
    if not any(worker.degraded for worker in scene.everybody):
        assert events["accepted"] == len(report.keys | dead)
        assert events["delivered"] == len(report.keys - dead)
    assert events["dropped"] == metrics["dropped"] == {}
    assert metrics["delivered"] + metrics["dead_lettered"] == metrics["accepted"]
    assert max(exports) < 1.0
    assert max(scene.shutdowns) < SHUTDOWN_WITHIN
