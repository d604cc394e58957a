"""Time that no setting of the clock changes: seconds since this machine was started, the same for all its processes.

Callers of a queue name times in Unix seconds. What a queue keeps of them is how far they are from now, so that a
clock that is set by an hour moves neither the end of a lease nor the time of a retry. While a machine sleeps, all
its processes do, and this time stands still for all of them.
"""

from __future__ import annotations

import time
import zlib
from pathlib import Path

TOLERANCE = 0.5
"""Seconds by which the two clocks may drift apart before that is taken for a clock that was set."""


class Steady:
    """Translates Unix seconds, as the clock shows them now, to seconds since the machine was started."""

    def __init__(self) -> None:
        """Begin with what the clocks show now."""
        self._offset = _offset()

    def at(self, unix: float) -> float:
        """Return the steady time of `unix` seconds; the infinities stay what they are.

        The clock may be set after a caller has read it and before this is called. The call that notices a clock that
        was set takes `unix` by it or by the one before, whichever is nearer to now: callers name times near to now.
        """
        before, offset = self._offset, _offset()
        # One offset for as long as it is right, so that equal times stay equal
        if abs(offset - before) <= TOLERANCE:
            return unix + before
        self._offset = offset
        now = time.monotonic()
        return min(unix + offset, unix + before, key=lambda at: abs(at - now))


def _offset() -> float:
    return time.monotonic() - time.time()


STEADY = Steady()
"""The one of this process, so that its queues agree to the last digit."""


def boot() -> int:
    """Return a number that is another one after the machine was started again, 0 where nothing tells."""
    try:
        return zlib.crc32(Path("/proc/sys/kernel/random/boot_id").read_bytes()) or 1
    except OSError:
        return 0
