"""Advisory locks on open files, which keep other processes out and end with the process that holds them.

Each lock belongs to one opening of a file, so it keeps threads of this process apart as well. On Windows nobody is kept
out.
"""

from __future__ import annotations

import sys
import time

if sys.platform != "win32":
    import fcntl

PAUSE = 0.005
"""Seconds between two looks at whether a lock is free."""


def lock(descriptor: int, deadline: float = float("-inf")) -> bool:
    """Lock an open file; return False where another held it until `deadline` (monotonic seconds), or now without one.

    Raises:
        OSError: the file system has no locks.
    """
    if sys.platform == "win32":
        return True
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            # Not by a lock that waits in the kernel: that has no deadline.
            time.sleep(PAUSE)


def unlock(descriptor: int) -> None:
    """Give up a lock; closing alone would leave it to a child that was forked meanwhile, which shares the opening."""
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_UN)
