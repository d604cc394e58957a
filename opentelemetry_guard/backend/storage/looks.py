"""How far one look at a list goes whose rows have to be compared one by one: for a bounded time and number of rows.

How long a row takes depends on the machine, on the table, and on whether the rows that are walked lie beside each
other: some hundred thousand may be compared in a tenth of a second, or some thousand. So rows are walked in stretches,
the first of which is short.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

LOOK_SECONDS = 0.04
"""When no further stretch is begun."""

COMPARED_ROWS = 50_000
"""Rows that are compared in one look, however fast."""

FIRST_ROWS = 1_000
"""Rows of the first stretch, which is always walked: every look comes forward."""

STRETCH_ROWS = 4_000
"""Rows of the longest: what lies in a cache tells nothing of what comes after it."""


def stretches() -> Iterator[int]:
    """Give how many rows to walk, again and again, until a look has taken its time or has compared enough."""
    end, left, rows = time.monotonic() + LOOK_SECONDS, COMPARED_ROWS, FIRST_ROWS
    while left > 0:
        rows = min(rows, left)
        yield rows
        left, rows = left - rows, min(2 * rows, STRETCH_ROWS)
        if time.monotonic() >= end:
            return
