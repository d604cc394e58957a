"""Backend processes on one database are killed, one after the other, and every acknowledged event is stored once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.backend import running_backend
from support.faults import SCALE
from support.load import Load, stored_keys
from support.redis import eventually

pytestmark = pytest.mark.faults

RATE = 5_000 * SCALE
SECONDS = 60 * SCALE
KILLS = max(2, round(6 * SCALE))


def test_killed_backends_lose_nothing_that_was_acknowledged_and_store_nothing_twice(database: Path | URL) -> None:
    clock = threading.Event()  # never set: the schedule of the kills is the experiment
    with (
        running_backend(db=database, rate_limit="0") as one,
        running_backend(db=database, rate_limit="0") as other,
        Load([one.url, other.url], one.api_key, one.project, rate=RATE) as load,
    ):
        ends_at = time.monotonic() + SECONDS
        for turn in range(KILLS):
            clock.wait(SECONDS / KILLS)
            victim = (one, other)[turn % 2]
            # However slow the machine is, a kill is to meet a backend that is at work.
            before = load.batches_of[victim.url]
            eventually(lambda: load.batches_of[victim.url] > before, seconds=120, told=load.told)  # noqa: B023
            victim.kill()
            victim.start()
        clock.wait(max(0.0, ends_at - time.monotonic()))
        load.stop()
    kept = stored_keys(database)
    kind = "SQLite" if isinstance(database, Path) else "PostgreSQL"
    print(f"\n{kind}: {KILLS} kills; {load.told()}; {len(kept):,} events stored")
    assert len(kept) == len(set(kept))
    assert set(kept) == load.acknowledged
