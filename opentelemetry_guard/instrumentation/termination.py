"""A polite end by SIGTERM: shut telemetry down within a deadline, then end as the signal demands.

The default action of SIGTERM ends a process on the spot, and no ``atexit``
handler runs. What the SDK's batch processors hold is lost then.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from opentelemetry._logs import get_logger_provider
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider

from ..config import DEFAULT_SHUTDOWN_TIMEOUT, GuardConfig, SettingError

_logger = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds for the SDK's own work on top of the delivery's shutdown timeout."""


def install() -> bool:
    """Handle SIGTERM, on the main thread and over the default action only; return whether it is handled."""
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False
    signal.signal(signal.SIGTERM, _terminate)
    return True


def uninstall() -> None:
    """Give SIGTERM its default action back, unless somebody else has taken it since."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(signum: int, frame: FrameType | None) -> None:
    # A second SIGTERM ends the process at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _shut_down_providers(time.monotonic() + _seconds())
    finally:
        os.kill(os.getpid(), signum)


def _shut_down_providers(deadline: float) -> None:
    # In threads of their own: the signal may have interrupted code that holds a lock of the SDK, and an exporter that
    # hangs in one provider must not keep the others from finishing. Bare threads: `Thread.start` takes a lock of the
    # threading module, which may be what the signal has interrupted.
    running = []
    for provider in (get_logger_provider(), get_meter_provider(), get_tracer_provider()):
        shutdown = getattr(provider, "shutdown", None)
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
