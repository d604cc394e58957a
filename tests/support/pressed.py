"""Ctrl+C at many points of a command: ``pressed.py POINTS ARGUMENTS...``.

Each point is a number of calls and returns in what the main thread waits with,
counted from the command's first output on; there SIGINT comes. An exception
that is raised in the code of a lock easily becomes another. Each point is tried
in a child of its own, which has loaded everything already. Prints a line of
JSON for each: the point, the exit code, and what was said on standard error.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import sys
import threading
import time
from types import FrameType

from opentelemetry_guard.cli import app, events, main

WAITING = (threading.__file__, concurrent.futures.Future.result.__code__.co_filename)
"""Where points are counted."""

SECONDS = 60
"""When a command that has not ended is given up."""


def press_at(point: int) -> None:
    """Send SIGINT to this process at a point after its first output."""
    left = [point]

    def count(frame: FrameType, kind: str, argument: object) -> None:
        if frame.f_code.co_filename not in WAITING:
            return
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    printed, pause = events._print, time.sleep

    def then_count(*arguments: object) -> None:
        printed(*arguments)  # type: ignore[arg-type]
        sys.setprofile(count)

    time.sleep = lambda seconds: pause(min(seconds, 0.01))
    events._print = then_count  # type: ignore[assignment]


def tried(point: int, arguments: list[str]) -> tuple[int, str]:
    """Run the command in a child, and return how it ended and what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.close(reading)
        signal.alarm(SECONDS)
        sys.argv = ["opentelemetry-guard", *arguments]
        press_at(point)
        try:
            main()
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 99)
        os._exit(98)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


if __name__ == "__main__":
    assert threading.active_count() == 1
    assert app
    for each in json.loads(sys.argv[1]):
        code, said = tried(each, sys.argv[2:])
        print(json.dumps([each, code, said]), flush=True)
