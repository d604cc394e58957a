"""A polite end by a signal: shut telemetry down within a deadline, then end as the signal demands.

The default action of SIGTERM ends a process on the spot, and no ``atexit``
handler runs. What the SDK's batch processors hold is lost then. Python's own
handler of SIGINT raises KeyboardInterrupt, which leads to ``atexit``; only
where a process has the system's default action instead is SIGINT handled here.

The first process of a container is another case: the kernel keeps every
default action from it, so the process would go on, and so does its telemetry.
What it holds is sent when the signal comes, since SIGKILL may come next.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import count
from types import FrameType, ModuleType
from typing import TypeVar

import wrapt
from opentelemetry.instrumentation.utils import unwrap

from . import end as process_end
from . import interruption

T = TypeVar("T")

SIGNALS = tuple(
    number for name in ("SIGTERM", "SIGINT", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)
"""What asks a process to end; Windows has no SIGHUP."""

MAX_ATTEMPTS = 100
"""How often a signal is put off that comes in the midst of telemetry's own work."""
PAUSE = 0.005
"""Seconds between two attempts."""

_attempts = count()

INIT = 1
"""The process id of a container's first process."""


def install() -> bool:
    """Handle the signals, on the main thread and over the default action only; return whether one was taken."""
    if threading.current_thread() is not threading.main_thread():
        return False
    taken = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _terminate)
    return bool(taken)


def uninstall() -> None:
    """Give the signals their default action back, unless somebody else has taken them since."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is _terminate:
                signal.signal(number, signal.SIG_DFL)


def follow_uvicorn() -> None:
    """Install again when a uvicorn server begins to serve, in this process or a forked one.

    A gunicorn worker puts the default actions back after the fork; uvicorn
    then ends the process by the signal that it has caught. Importing uvicorn
    is left to the application.
    """
    wrapt.register_post_import_hook(_wrap_serve, "uvicorn.server")


def unfollow_uvicorn() -> None:
    """Take the wrapper off again."""
    module = sys.modules.get("uvicorn.server")
    if module is not None:
        unwrap(module.Server, "serve")


def _wrap_serve(module: ModuleType) -> None:
    # What the class gives out is a bound wrapper, which tells nothing about who made it.
    if getattr(vars(module.Server)["serve"], "_self_wrapper", None) is not _serve:
        wrapt.wrap_function_wrapper(module, "Server.serve", _serve)


def _serve(
    wrapped: Callable[..., T], instance: object, arguments: tuple[object, ...], keywords: Mapping[str, object]
) -> T:
    install()
    return wrapped(*arguments, **keywords)


def _terminate(signum: int, frame: FrameType | None) -> None:
    if os.getpid() == INIT:
        process_end.flush_in_background()
        return
    if interruption.interrupts() and next(_attempts) < MAX_ATTEMPTS:
        # What is interrupted may be an emission, or hold a lock that the providers want: let it go on first.
        _thread.start_new_thread(_again, (signum,))
        return
    # A second signal ends the process at once.
    uninstall()
    try:
        process_end.end()
    finally:
        os.kill(os.getpid(), signum)


def _again(signum: int) -> None:
    time.sleep(PAUSE)
    os.kill(os.getpid(), signum)
