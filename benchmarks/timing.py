"""Timing that holds up on a shared machine: the minimum of several runs, and ratios between things run in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def compare(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    calls: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    pause: float = 0.0,
) -> dict[str, float]:
    """Return the seconds of one call of each candidate: the minimum over `rounds`, run in turn, `calls` at a time.

    Args:
        candidates: what is measured, by name.
        rounds: turns of each.
        calls: of one turn.
        clock: seconds; `time.thread_time` leaves out what other threads and processes take.
        pause: seconds of sleep after each call, in which others get hold of the caches.
    """
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, call in candidates.items():
            taken = _rested(call, calls, clock, pause) if pause else _at_once(call, calls, clock)
            best[name] = min(best[name], taken / calls)
    return best


def _at_once(call: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(calls):
        call()
    return clock() - began


def _rested(call: Callable[[], object], calls: int, clock: Callable[[], float], pause: float) -> float:
    taken = 0.0
    for _ in range(calls):
        time.sleep(pause)
        began = clock()
        call()
        taken += clock() - began
    return taken


def show(title: str, seconds: Mapping[str, float], unit: float = 1e-6, unit_name: str = "us") -> None:
    """Print the figures, each with its ratio to the first."""
    print(title)
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:<44}{value / unit:>10.2f} {unit_name}{value / first:>8.2f} x")
