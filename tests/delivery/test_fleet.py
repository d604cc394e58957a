"""A small fleet, simulated: how it comes back after an outage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.fleet import Scenario, simulate
from opentelemetry_guard.delivery.outage import FLEET_SIZE

FLEET = Scenario(agents=1_000, capacity=200.0)
"""A tenth of the agents at a tenth of the capacity."""
SLOW = replace(FLEET, capacity=50.0)


@pytest.mark.parametrize("retry_after", [None, 30.0])
@pytest.mark.parametrize("fleet", [FLEET, SLOW], ids=["fast", "slow"])
def test_a_fleet_comes_back_without_a_herd_and_wastes_little(fleet: Scenario, retry_after: float | None) -> None:
    figures = simulate(replace(fleet, retry_after=retry_after))
    assert figures.goodput >= 0.9
    assert figures.refused <= 0.1
    # A tenth of a second of the slow server is five requests: chance alone makes more than twice of that.
    assert figures.largest <= (2.0 if fleet is FLEET else 4.0)
    assert figures.probes <= 10.0


@pytest.mark.parametrize(
    "change",
    [{"load": 0.2}, {"restart": 60.0}, {"answered": False}, {"outage": 300.0, "capacity": 100.0}],
    ids=["fresh requests beside", "all are restarted", "nobody answered", "a longer outage"],
)
def test_neither_do_turns_fail_where_more_happens(change: dict[str, float]) -> None:
    figures = simulate(replace(FLEET, **change))  # type: ignore[arg-type]
    assert figures.goodput >= 0.9
    assert figures.refused <= 0.1
    assert figures.largest <= 3.0
    assert figures.probes <= 10.0


@pytest.mark.parametrize("answered", [True, False])
def test_an_agent_that_is_told_nothing_is_back_within_seconds(answered: bool) -> None:
    for seed in range(20):
        alone = Scenario(agents=1, fleet_size=FLEET_SIZE, capacity=200.0, answered=answered, seed=seed)
        assert simulate(alone).back <= 15.0


def test_a_short_outage_keeps_nobody_away_for_a_period() -> None:
    assert simulate(Scenario(agents=10, outage=5.0, backlog=1)).back <= 15.0


def test_the_same_seed_gives_the_same_figures() -> None:
    small = Scenario(agents=20, capacity=4.0, restart=30.0, shards=2, slow_shard=0.5, load=0.1, strict=True)
    assert simulate(small) == simulate(small)
    assert simulate(small) != simulate(replace(small, seed=2))
