"""Whether something takes a time in proportion to the length of a text that a hostile client writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

SIZES = (4096, 8192, 16384)
"""Lengths that are compared."""
MOST = 10
"""How much longer four times the text may take: 4 would be ideal, 16 is quadratic."""


def seconds(work: Callable[[], object], tries: int, before: Callable[[], object] = bool) -> float:
    """Return the processor time that `work` takes, the least of some tries; `before` each of them is not measured."""
    times = []
    for _ in range(tries):
        before()
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return min(times)


def growth(measured: Callable[[int, int], float], noticeable: float, tries: Sequence[int]) -> float:
    """Return how much longer the largest text takes than the smallest, 0 where even that takes no noticeable time.

    Args:
        measured: returns the processor time for a text of so many characters, the least of so many tries.
        noticeable: seconds below which the largest text is not compared: that is less than the clock's noise.
        tries: of each measurement; a first one that is good enough spares the others, which are there for the noise.
    """
    if measured(SIZES[-1], 1) < noticeable:
        return 0
    ratio = 0.0
    for number in tries:
        small, middle, large = (measured(size, number) for size in SIZES)
        ratio = min(large / small, (large / middle) ** 2)
        if ratio <= MOST:
            break
    return ratio
