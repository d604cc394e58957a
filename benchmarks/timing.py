"""Timing that holds up on a shared machine: the minimum of several runs, and ratios between things run in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def compare(candidates: Mapping[str, Callable[[], object]], *, rounds: int = 7, calls: int = 1) -> dict[str, float]:
    """Return the seconds of one call of each candidate: the minimum over `rounds`, run in turn, `calls` at a time."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, call in candidates.items():
            began = time.perf_counter()
            for _ in range(calls):
                call()
            best[name] = min(best[name], (time.perf_counter() - began) / calls)
    return best


def show(title: str, seconds: Mapping[str, float], unit: float = 1e-6, unit_name: str = "us") -> None:
    """Print the figures, each with its ratio to the first."""
    print(title)
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:<44}{value / unit:>10.2f} {unit_name}{value / first:>8.2f} x")
