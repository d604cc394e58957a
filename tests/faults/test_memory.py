"""A long outage costs disk, not memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.faults import SCALE, FaultyBackend, python_environment

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]

EVENTS = int(1_000_000 * SCALE)
BOUND = 80 * 1024 * 1024
SECONDS = 600


def _filler(environment: dict[str, str], order: str, amount: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "faults.filler", order, str(amount)],
        env=python_environment(environment),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=SECONDS + 60,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    print(
        f"\nmemory: {order} took {report['seconds']:.1f} s and {report['above'] / 1e6:.1f} MB above a start of "
        f"{report['start'] / 1e6:.1f} MB; {report['waiting']} events wait in {report['depth']} batches, "
        f"{report['bytes'] / 1e6:.1f} MB"
    )
    return report


def test_a_million_queued_events_stay_out_of_the_process(backend: FaultyBackend, environment: dict[str, str]) -> None:
    settings = {**environment, "OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES": str(1024**3)}
    backend.set_mode("refused")
    filled = _filler(settings, "fill", EVENTS)
    backend.set_mode("up")
    drained = _filler(settings, "drain", SECONDS)

    assert (filled["accepted"], filled["waiting"], filled["dropped"]) == (EVENTS, EVENTS, {})
    assert filled["above"] < BOUND
    assert (drained["delivered"], drained["waiting"], drained["dropped"]) == (EVENTS, 0, {})
    assert drained["above"] < BOUND
    assert backend.summary()["events"] == EVENTS
