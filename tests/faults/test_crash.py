"""Workers that share a queue are killed one after the other, and nothing that was accepted is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support.faults import SCALE, Emitter, FaultyBackend, read_journals

pytestmark = pytest.mark.faults

WORKERS = 4
RATE = 400
SECONDS = 60 * SCALE
KILL_EVERY = 5.0
TAKEN_OVER_WITHIN = 40.0
"""Seconds: a lease of 20, and the time to send what a dead worker has left."""


def test_killed_workers_lose_nothing_that_was_accepted_and_repeat_only_what_was_under_way(
    backend: FaultyBackend, environment: dict[str, str], tmp_path: Path
) -> None:
    journals: list[Path] = []
    everybody: list[Emitter] = []
    workers: list[Emitter] = []
    killed: dict[str, float] = {}
    clock = threading.Event()  # never set: the schedule of the kills is the experiment

    # Slow answers, so that a kill finds a request under way and batches that wait behind it.
    backend.set_mode("slow")
    fleet = environment["OTEL_EXPORTER_GUARD_QUEUE_URL"].startswith("redis")

    def start(seconds: float) -> Emitter:
        number = len(journals) + 1
        journals.append(tmp_path / f"journal-{number}")
        # With Redis every worker is a machine of its own, whose disk is lost with it.
        own = {"XDG_STATE_HOME": str(tmp_path / f"machine-{number}")} if fleet else {}
        settings = {**environment, **own}
        everybody.append(Emitter(journals[-1], settings, worker=number, rate=RATE / WORKERS, seconds=seconds))
        return everybody[-1]

    try:
        workers += [start(SECONDS) for _ in range(WORKERS)]
        for worker in workers:
            worker.started()
        ends_at = time.monotonic() + SECONDS
        turn = 0
        while ends_at - time.monotonic() > KILL_EVERY:
            clock.wait(KILL_EVERY)
            victim = workers[turn % WORKERS]
            killed[victim.sender] = time.time()
            victim.kill()
            workers[turn % WORKERS] = start(max(0.0, ends_at - time.monotonic()))
            workers[turn % WORKERS].started()
            turn += 1
        for worker in workers:
            worker.emitted(SECONDS + 60)
        keys, exports = read_journals(journals)
        waited = backend.wait(keys=sorted(keys), timeout=TAKEN_OVER_WITHIN)
        stats = [worker.drain(TAKEN_OVER_WITHIN) for worker in workers]
        for worker in workers:
            worker.finish()
    finally:
        for worker in everybody:
            worker.close()

    report = backend.report()
    duplicates = report.duplicates()
    repeated = {batches[0]["batch_id"]: batches for batches in duplicates.values()}
    degraded = [worker.sender for worker in everybody if worker.degraded]
    last = max(at for _, at in report.accepted_at().values())
    print(
        f"\ncrash: {len(killed)} of {len(journals)} workers killed, {len(keys)} events accepted by export(), "
        f"{len(keys & report.keys)} of them delivered, {len(report.keys - keys)} more delivered of kills between the "
        f"queue's write and the journal's, {len(repeated)} batches ({len(duplicates)} events) twice, "
        f"workers whose store could not take a batch at once: {degraded}, export() max {max(exports) * 1e3:.0f} ms, "
        f"the last {last - max(killed.values()):.1f} s after the last kill"
    )
    # Before the time: what came late isn't lost, and the ledgers say where the rest is.
    assert keys <= report.keys, (len(keys - report.keys), [each["ledger"] for each in stats])
    assert waited["done"], waited
    assert report.problems == []
    for ledger in [ledger for each in stats for ledger in each["ledger"].values()]:
        assert ledger["balanced"], ledger
        assert ledger["delivered"] == ledger["accepted"], ledger
    if not fleet and not degraded:
        assert stats[0]["ledger"]["events"]["accepted"] == len(report.keys)
    for key, batches in duplicates.items():
        assert len({batch["batch_id"] for batch in batches}) == 1, f"event {key} came in different batches"
    for batch_id, batches in repeated.items():
        first, second = batches
        assert first["sender"] in killed, f"batch {batch_id} was repeated, and nobody was killed: {batches}"
        assert first["at"] <= killed[first["sender"]] + 1.0
        assert second["sender"] != first["sender"]
    senders = [batches[0]["sender"] for batches in repeated.values()]
    assert len(senders) == len(set(senders)), f"one kill, one request under way: {senders}"
