"""Ctrl+C for what has nothing to put away: the process ends on the spot, between two lines of its output.

Python's own way is an exception on the main thread, wherever that is. In a finalizer it is printed and forgotten, and
in the midst of a lock's own code it becomes another error, which looks like a failure of what was waited for. The
command then goes on, and nobody knows that it was to end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
"""Of a command that Ctrl+C has ended: 128 and the number of SIGINT."""


class CtrlC:
    """Ends the process at Ctrl+C; see `ending_on_the_spot`."""

    def __init__(self) -> None:
        """Take no signal yet."""
        self._writing = False
        self._pressed = False

    @contextmanager
    def after(self) -> Iterator[None]:
        """Let the block come to its end first, so that what it writes is whole; a second Ctrl+C doesn't wait for it."""
        self._writing = True
        try:
            yield
        finally:
            self._writing = False
            if self._pressed:
                os._exit(EXIT_CODE)

    def end(self, signum: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if self._writing and not self._pressed:
            self._pressed = True  # a reader that takes nothing any more may hold the block up for ever
        else:
            os._exit(EXIT_CODE)


@contextmanager
def ending_on_the_spot() -> Iterator[CtrlC]:
    """Have Ctrl+C end the process while the block runs, unless it is ignored: what `nohup` starts goes on.

    No `atexit` handler runs then, and nothing that is buffered is written.
    """
    ctrl_c = CtrlC()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield ctrl_c
        return
    signal.signal(signal.SIGINT, ctrl_c.end)
    try:
        yield ctrl_c
    finally:
        signal.signal(signal.SIGINT, before)
