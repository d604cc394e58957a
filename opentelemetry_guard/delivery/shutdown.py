"""One deadline for all shutdowns of a process.

The providers of the three signals are shut down one after the other, each
with about 30 seconds of its own. A service that is being replaced has a few
seconds in all, so the first shutdown starts one clock for everybody.
"""

from __future__ import annotations

import os
import threading
import time


class ShutdownClock:
    """Starts at the first shutdown, and again once an exporter was constructed after that. The lock guards `_ends`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: float | None = None

    def remaining(self, total: float) -> float:
        """Return the seconds that are left of `total`, starting the clock if it stands still."""
        now = time.monotonic()
        with self._lock:
            if self._ends is None:
                self._ends = now + total
            return max(0.0, self._ends - now)

    def reset(self) -> None:
        """Stop the clock: the process goes on, with a new exporter."""
        with self._lock:
            self._ends = None


CLOCK = ShutdownClock()
"""The clock of this process."""

if hasattr(os, "register_at_fork"):
    # The child's life begins; and its parent's lock may have been held by a thread that does not exist in it.
    os.register_at_fork(after_in_child=CLOCK.__init__)  # type: ignore[misc]
