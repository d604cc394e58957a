"""Machines that share nothing but Redis drain a backlog while some of them, and Redis's master, are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.faults import SCALE, python_environment

pytestmark = pytest.mark.faults

MACHINES = 4 + int(16 * SCALE)
EVENTS = MACHINES * int(20_000 * SCALE)
KILLS = 1 + int(SCALE)
SECONDS = 150.0
ROOT = Path(__file__).parents[2]


def _soak(on: str) -> dict[str, Any]:
    order = ["--on", on, "--machines", MACHINES, "--events", EVENTS, "--kills", KILLS, "--seconds", SECONDS]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.redis_fleet", *map(str, order)],
        cwd=ROOT,
        env=python_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=2 * SECONDS + 60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    print(
        f"\nfleet on {on}: {found['machines']} machines, {found['events']} events in {found['stored_batches']} batches "
        f"and {found['memory'] / 1e6:.1f} MB of Redis; {found['events_per_second']} events/s, handed over after "
        f"{found['handed_over_seconds']} s; {found['lost']} lost, {found['came_twice']} came twice, "
        f"{found['came_twice_of_living']} of them from machines that live"
    )
    return found


@pytest.mark.parametrize("on", ["single", "sentinel", "cluster"])
def test_a_fleet_drains_a_backlog_and_what_the_dead_have_left(on: str) -> None:
    found = _soak(on)
    assert found["came_twice_of_living"] == 0
    assert (found["lost_of_living"], found["dropped"], found["uncopied"]) == (0, 0, 0)
    if on == "single":
        assert (found["lost"], found["waiting_at_the_end"], found["copies_at_the_end"]) == (0, 0, 0)
        # What comes twice was on its way when its machine was killed
        assert found["came_twice"] <= 2 * KILLS * 4 * 1000
