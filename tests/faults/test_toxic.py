"""One bad event among a thousand costs nothing but itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.faults import Emitter, FaultyBackend

pytestmark = pytest.mark.faults

EVENTS = 1000


def test_one_bad_event_in_a_thousand_is_dead_lettered_with_the_reason_and_the_others_are_delivered(
    backend: FaultyBackend, environment: dict[str, str], tmp_path: Path
) -> None:
    emitter = Emitter(tmp_path / "journal", environment, rate=EVENTS, seconds=1, poison_every=EVENTS)
    try:
        emitter.started()
        emitter.emitted(60)
        stats = emitter.drain(30)
        letters = emitter.letters()
        emitter.finish()
    finally:
        emitter.close()

    report = backend.report()
    print(f"\ntoxic: {len(report.keys)} delivered, {len(letters)} dead letters, {report.requests} requests")
    assert stats["drained"], stats
    assert len(report.keys) == EVENTS - 1
    assert report.duplicates() == {}
    (letter,) = letters
    assert letter["rows"] == 1
    assert letter["status"] == 422
    assert "poison" in letter["reason"]
    assert not set(letter["keys"]) & report.keys
    ledger = stats["ledger"]["events"]
    assert (ledger["accepted"], ledger["delivered"], ledger["dead_lettered"]) == (EVENTS, EVENTS - 1, 1)
    assert ledger["balanced"]
