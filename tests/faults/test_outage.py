"""The backend is away for half a minute in four different ways, and nothing is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.faults import SCALE, Emitter, FaultyBackend

pytestmark = pytest.mark.faults

RATE = 500
SECONDS = 60 * SCALE
PHASES = ("refused", "unavailable", "hang", "lost")
PHASE_SECONDS = 30 * SCALE / len(PHASES)
# What bounds the time to notice that the backend is back is as much shorter as the outage is.
SETTINGS = {
    "OTEL_EXPORTER_GUARD_TIMEOUT": str(10 * SCALE),
    "OTEL_EXPORTER_GUARD_BREAKER_MAX_RECOVERY": str(10 * SCALE),
}
RECOVERED_WITHIN = 15.0
FRESH_WITHIN = 1.0


def test_an_outage_loses_nothing_and_is_over_when_the_backend_is_back(
    backend: FaultyBackend, environment: dict[str, str], tmp_path: Path
) -> None:
    emitter = Emitter(tmp_path / "journal", {**environment, **SETTINGS}, rate=RATE, seconds=SECONDS)
    back_at = 0.0
    clock = threading.Event()  # never set: the schedule of the outage is the experiment
    try:
        emitter.started()
        clock.wait(10 * SCALE)
        for phase in PHASES:
            backend.set_mode(phase)
            clock.wait(PHASE_SECONDS)
        back_at = backend.set_mode("up")
        said = emitter.emitted(SECONDS + 60)
        waited = backend.wait(count=said["emitted"], timeout=60)
        stats = emitter.drain(30)
        emitter.finish()
    finally:
        emitter.close()

    report = backend.report()
    times = report.accepted_at()
    reopened_at = min(at for _, at in times.values() if at > back_at)
    fresh = sorted(at - emitted for emitted, at in times.values() if emitted > reopened_at)
    before = sorted(at - emitted for emitted, at in times.values() if at < back_at - len(PHASES) * PHASE_SECONDS)
    backlog_at = max(at for emitted, at in times.values() if emitted < back_at)
    duplicates = report.duplicates()
    print(
        f"\noutage: {len(report.keys)} of {said['emitted']} delivered, {len(duplicates)} stored more than once, "
        f"first accepted {reopened_at - back_at:.2f} s after recovery, "
        f"backlog gone after {backlog_at - back_at:.2f} s; "
        f"emit to accepted: before the outage max {before[-1]:.3f} s, "
        f"fresh after it p50 {fresh[len(fresh) // 2]:.3f} s, p99 {fresh[len(fresh) * 99 // 100]:.3f} s, "
        f"max {fresh[-1]:.3f} s; {report.requests} requests, answers {report.answers}; "
        f"emit p99 {said['emit_seconds']['p99'] * 1e3:.2f} ms, max {said['emit_seconds']['max'] * 1e3:.1f} ms"
    )
    assert waited["done"], waited
    assert report.problems == []
    assert len(times) == said["emitted"] == RATE * SECONDS
    ledger = stats["ledger"]["events"]
    assert (ledger["accepted"], ledger["delivered"], ledger["dropped"]) == (said["emitted"], said["emitted"], {})
    assert all(ledger["balanced"] for ledger in stats["ledger"].values())
    for key, batches in duplicates.items():
        lost = [batch for batch in batches if not batch["answered"]]
        assert len(batches) - len(lost) == 1, f"event {key} was answered in {len(batches) - len(lost)} requests"
        assert {batch["mode"] for batch in lost} <= {"hang", "lost"}
        assert len({batch["batch_id"] for batch in batches}) == 1, f"event {key} came in different batches"
    assert backlog_at - back_at < RECOVERED_WITHIN
    assert fresh[-1] < FRESH_WITHIN, "a fresh event waited"


@pytest.fixture(autouse=True)
def _the_amounts_are_whole() -> None:
    assert (RATE * SECONDS).is_integer(), f"FAULTS_SCALE={SCALE} gives no whole number of events"
