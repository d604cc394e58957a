"""A polite end by a signal: shut telemetry down within a deadline, then end as the signal demands.

The default action of SIGTERM ends a process on the spot, and no ``atexit``
handler runs. What the SDK's batch processors hold is lost then. Python's own
handler of SIGINT raises KeyboardInterrupt, which leads to ``atexit``; only
where a process has the system's default action instead is SIGINT handled here.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType, ModuleType
from typing import TypeVar

import wrapt
from opentelemetry._logs import get_logger_provider
from opentelemetry.instrumentation.utils import unwrap
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider

from ..config import DEFAULT_SHUTDOWN_TIMEOUT, GuardConfig, SettingError

_logger = logging.getLogger(__name__)

T = TypeVar("T")

GRACE = 1.0
"""Seconds for the SDK's own work on top of the delivery's shutdown timeout."""


SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What asks a process to end."""


_also: list[Callable[[], object]] = []
# Appended to and removed from whole; the signal's handler reads a copy.


def shut_down_too(shutdown: Callable[[], object]) -> None:
    """Have `shutdown` called beside the global providers' own; a second time changes nothing."""
    if shutdown not in _also:
        _also.append(shutdown)


def no_more(shutdown: Callable[[], object]) -> None:
    """Take back `shut_down_too`."""
    if shutdown in _also:
        _also.remove(shutdown)


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
    # A second signal ends the process at once.
    uninstall()
    try:
        _shut_down_providers(time.monotonic() + _seconds())
    finally:
        os.kill(os.getpid(), signum)


def _shut_down_providers(deadline: float) -> None:
    # In threads of their own: the signal may have interrupted code that holds a lock of the SDK, and an exporter that
    # hangs in one provider must not keep the others from finishing. Bare threads: `Thread.start` takes a lock of the
    # threading module, which may be what the signal has interrupted.
    running = []
    providers = (get_logger_provider(), get_meter_provider(), get_tracer_provider())
    for shutdown in (*(getattr(provider, "shutdown", None) for provider in providers), *_also):
        if callable(shutdown):
            done = _thread.allocate_lock()
            done.acquire()
            _thread.start_new_thread(_call, (shutdown, done))
            running.append(done)
    for done in running:
        done.acquire(timeout=max(0.0, deadline - time.monotonic()))


def _call(shutdown: Callable[[], object], done: _thread.LockType) -> None:
    try:
        shutdown()
    except Exception:
        _logger.exception("a telemetry provider failed to shut down")
    finally:
        done.release()


def _seconds() -> float:
    try:
        return GuardConfig.resolve().shutdown_timeout + GRACE
    except SettingError:
        return DEFAULT_SHUTDOWN_TIMEOUT + GRACE
