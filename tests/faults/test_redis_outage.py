"""Redis goes away and comes back, with its data or without: the application does not notice, and nothing is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.faults import SCALE, Emitter, FaultyBackend, read_journals
from support.redis import redis_server

pytestmark = pytest.mark.faults

RATE = 200
UP_SECONDS = 10 * SCALE
DOWN_SECONDS = 20 * SCALE
SECONDS = 2 * UP_SECONDS + DOWN_SECONDS
EXPORT_WITHIN = 1.0
EMIT_WITHIN = 0.05


@pytest.mark.parametrize("backend_is_away", [False, True], ids=["backend-up", "backend-away-too"])
@pytest.mark.parametrize("keep", [True, False], ids=["same-data", "empty"])
def test_a_stopped_redis_loses_nothing_and_never_keeps_the_application_waiting(
    backend: FaultyBackend, tmp_path: Path, keep: bool, backend_is_away: bool
) -> None:
    clock = threading.Event()  # never set: the schedule of the outage is the experiment
    journal = tmp_path / "journal"
    with redis_server() as redis:
        environment = {**backend.environment, "OTEL_EXPORTER_GUARD_QUEUE_URL": redis.url}
        emitter = Emitter(journal, environment, rate=RATE, seconds=SECONDS)
        try:
            emitter.started()
            clock.wait(UP_SECONDS)
            if backend_is_away:
                backend.set_mode("unavailable")
            redis.stop(save=keep)
            clock.wait(DOWN_SECONDS)
            redis.start(keep=keep)
            backend.set_mode("up")
            said = emitter.emitted(SECONDS + 60)
            waited = backend.wait(count=said["emitted"], timeout=60)
            stats = emitter.drain(30)
            emitter.finish()
        finally:
            emitter.close()

    report = backend.report()
    keys, exports = read_journals([journal])
    emit = said["emit_seconds"]
    print(
        f"\nredis {'kept' if keep else 'emptied'}, backend {'away' if backend_is_away else 'up'}: "
        f"{len(report.keys)} of {said['emitted']} delivered, {len(report.duplicates())} stored more than once; "
        f"emit_event p50 {emit['p50'] * 1e3:.2f} ms, p99 {emit['p99'] * 1e3:.2f} ms, max {emit['max'] * 1e3:.1f} ms; "
        f"export() median {sorted(exports)[len(exports) // 2] * 1e3:.1f} ms, max {max(exports) * 1e3:.0f} ms"
    )
    assert waited["done"], waited
    assert report.problems == []
    assert len(keys) == said["emitted"] == RATE * SECONDS
    assert keys == report.keys
    assert report.duplicates() == {}
    ledger = stats["ledger"]["events"]
    assert (ledger["accepted"], ledger["delivered"], ledger["dropped"]) == (len(keys), len(keys), {})
    assert max(exports) < EXPORT_WITHIN
    assert emit["p99"] < EMIT_WITHIN
