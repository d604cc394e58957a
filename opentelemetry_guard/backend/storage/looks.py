"""How far one look at a list goes whose rows have to be compared one by one: for a bounded time and number of rows.

How long a row takes depends on the machine, on the table, and on whether the rows that are walked lie beside each
other, in a cache or on a disk: some ten thousand may be compared in a hundredth of a second, or some hundred. So rows
are walked in stretches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

LOOK_SECONDS = 0.04
"""When no further stretch is begun."""

COMPARED_ROWS = 50_000
"""Rows that are compared in one look, however fast."""

STRETCH_ROWS = 1_000
"""Rows of a stretch. The first one is always walked: every look comes forward."""


def stretches() -> Iterator[int]:
    """Give how many rows to walk, again and again, until a look has taken its time or has compared enough."""
    end, left = time.monotonic() + LOOK_SECONDS, COMPARED_ROWS
    while left > 0:
        rows = min(STRETCH_ROWS, left)
        yield rows
        left -= rows
        if time.monotonic() >= end:
            return
