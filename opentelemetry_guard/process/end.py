"""The end of this process, however it comes: what is held anywhere is handed on once, within one deadline.

An end comes in many ways: `signals` notices those that ask for it, `children`
those of child processes, and `atexit` is for the rest. Whoever notices one
calls `end`; whoever holds something registers with `on_end` and `on_flush`.
Neither knows the other, and the global providers are found where OpenTelemetry
keeps them.

- An end is made once, however many notice it: whoever comes later waits for it (`_Ending`).
- It goes down the road of an event (`Stage`): what is put off is emitted, then all providers are shut down at once,
  then the deliveries are closed.
- One clock runs for all of it (`CLOCK`), and stops when it turns out that the process goes on (`goes_on`).
- Nothing here takes a lock that the code which a signal has interrupted may hold, not even to start a thread.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import time
from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import partial

from opentelemetry._logs import get_logger_provider
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider

from ..settings.delivery import GuardConfig
from ..settings.setting import SettingError

_logger = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds for the SDK's own work on top of the delivery's shutdown timeout."""


class Stage(IntEnum):
    """The order in which an end goes down the road of an event; those of one stage are called side by side."""

    EMISSION = 0
    PIPELINE = 1
    DELIVERY = 2


class ShutdownClock:
    """Starts at the first shutdown, and again once the process goes on after it.

    The providers of the three signals are shut down one after the other, each
    with about 30 seconds of its own. A service that is being replaced has a
    few seconds in all, so one clock runs for everybody. It takes no lock: a
    signal's handler may ask it in the midst of anything.
    """

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def remaining(self, total: float) -> float:
        """Return the seconds that are left of `total`, starting the clock if it stands still."""
        now = time.monotonic()
        return max(0.0, self._ends.setdefault("at", now + total) - now)

    def reset(self) -> None:
        """Stop the clock: the process goes on."""
        self._ends = {}


class _Ending:
    """An end that has begun, and who waits for it.

    Each waits with a lock of its own: a signal's handler that interrupts one
    wait would find a common one taken.
    """

    def __init__(self) -> None:
        self._over = False
        self._made_by: dict[str, object] = {}
        self._waiting: list[_thread.LockType] = []

    def begin(self) -> bool:
        """Whether it is the caller's to make: only the first one's."""
        me = object()
        return self._made_by.setdefault("maker", me) is me

    def finish(self) -> None:
        """Say that it is over."""
        self._over = True
        for waiting in self._waiting:
            waiting.release()

    def wait(self, seconds: float) -> None:
        """Wait until it is over, for at most `seconds`."""
        mine = _thread.allocate_lock()
        mine.acquire()
        self._waiting.append(mine)
        if not self._over:
            mine.acquire(timeout=seconds)


CLOCK = ShutdownClock()
"""The clock of this process."""

# Lists are replaced whole: an end reads them in the midst of anything, and takes no lock.
_private_providers: list[object] = []
_ends: dict[Callable[[], object], Stage] = {}
_flushes: list[Callable[[float], bool]] = []
_ending: dict[str, _Ending] = {}  # "now": the end that has begun


_flushing = _thread.allocate_lock()  # held by a flush in the background


def on_end(callback: Callable[[], object], stage: Stage = Stage.PIPELINE) -> None:
    """Have `callback` called at the end of the process; a second time changes nothing."""
    global _ends
    _ends = {**_ends, callback: stage}


def forget(callback: Callable[[], object]) -> None:
    """Take back `on_end`."""
    global _ends
    _ends = {known: stage for known, stage in _ends.items() if known != callback}


def on_flush(callback: Callable[[float], bool]) -> None:
    """Have `callback` called by each `flush` with the seconds that are left; it returns whether nothing is left."""
    global _flushes
    _flushes = [*(known for known in _flushes if known != callback), callback]


def follow_provider(provider: object) -> None:
    """Flush and shut down a provider that is not a global one, too."""
    global _private_providers
    _private_providers = [*(known for known in _private_providers if known is not provider), provider]


def unfollow_provider(provider: object) -> None:
    """Take back `follow_provider`."""
    global _private_providers
    _private_providers = [known for known in _private_providers if known is not provider]


def goes_on() -> None:
    """Say that the process goes on, so that a later end is a new one with its own deadline."""
    CLOCK.reset()
    _ending.clear()


def end() -> None:
    """Shut telemetry down, once, and return when that is done or the shutdown timeout is over.

    A call while an end is under way, and one after it, waits for that end.
    """
    _end(_providers())


def flush(timeout: float | None = None) -> bool:
    """Hand on everything that this process has emitted, and send what can be sent; telemetry goes on.

    That is all providers' `force_flush`, and then the delivery's, which the
    SDK's `force_flush` of logs and spans does not reach. For functions that
    are frozen or ended between two calls.

    Args:
        timeout: seconds for all of it. Default: the shutdown timeout.

    Returns:
        Whether nothing is left to send.

    .. versionadded:: 1.0
    """
    deadline = time.monotonic() + (_seconds() if timeout is None else timeout)
    _at_stage(Stage.EMISSION, deadline)
    left = max(1, int((deadline - time.monotonic()) * 1000))
    flushes = [getattr(provider, "force_flush", None) for provider in _providers()]
    done = _side_by_side([partial(flush, left) for flush in flushes if callable(flush)], deadline)
    for callback in _flushes:
        done = callback(max(0.0, deadline - time.monotonic())) and done
    return done


def flush_before_end() -> None:
    """Flush since an end is near, within its deadline; if nothing is left to send, the clock stands still again."""
    if flush(CLOCK.remaining(_seconds())):
        CLOCK.reset()


def flush_in_background() -> None:
    """Flush, and wait for nothing; from a signal's handler too. While such a flush is under way, nothing happens."""
    if not _flushing.acquire(blocking=False):
        return
    # A bare thread: `Thread.start` takes a lock of the threading module, which may be what the signal has interrupted.
    _thread.start_new_thread(_do, (flush, _flushing.release))


def _providers() -> list[object]:
    return [get_logger_provider(), get_meter_provider(), get_tracer_provider(), *_private_providers]


def _end(providers: Iterable[object]) -> None:
    ending = _ending.setdefault("now", _Ending())
    deadline = time.monotonic() + CLOCK.remaining(_seconds()) + GRACE
    shutdowns = [shutdown for each in providers if (shutdown := _shutdown_of(each)) is not None]
    # In a thread of its own: the signal that brought the end may have interrupted another call of this function, which
    # can't go on now, or code that holds a lock of the SDK. Each call starts one, since the other may not have come
    # so far; the first that runs makes the end.
    _apart(partial(_go_down, ending, shutdowns, deadline - GRACE / 2, deadline), bool)
    ending.wait(max(0.0, deadline - time.monotonic()))


def _go_down(ending: _Ending, shutdowns: list[Callable[[], object]], pipelines_until: float, deadline: float) -> None:
    if not ending.begin():
        return
    try:
        _at_stage(Stage.EMISSION, pipelines_until)
        # An exporter that hangs in one provider must not keep the others from finishing, nor the delivery from closing.
        _at_stage(Stage.PIPELINE, pipelines_until, shutdowns)
        _at_stage(Stage.DELIVERY, deadline)
    finally:
        ending.finish()


def _at_stage(stage: Stage, deadline: float, also: Iterable[Callable[[], object]] = ()) -> None:
    _side_by_side([*also, *(callback for callback, its in _ends.items() if its is stage)], deadline)


def _side_by_side(calls: Iterable[Callable[[], object]], deadline: float) -> bool:
    """Make the calls at once, each in a thread; return whether all have ended in time, and none with False or badly."""
    results: list[object] = []
    running = []
    for call in calls:
        done = _thread.allocate_lock()
        done.acquire()
        _apart(partial(_keep_result, call, results), done.release)
        running.append(done)
    in_time = [done.acquire(timeout=max(0.0, deadline - time.monotonic())) for done in running]
    return all(in_time) and False not in results


def _apart(work: Callable[[], object], then: Callable[[], object]) -> None:
    try:
        # A bare one: `Thread.start` takes a lock of the threading module, which may be what a signal has interrupted.
        _thread.start_new_thread(_do, (work, then))
    except RuntimeError:
        _do(work, then)  # the interpreter ends, and gives no thread any more


def _do(work: Callable[[], object], then: Callable[[], object]) -> None:
    try:
        work()
    finally:
        then()


def _keep_result(call: Callable[[], object], results: list[object]) -> None:
    try:
        results.append(call())
    except Exception:
        results.append(False)
        _logger.exception("a part of telemetry failed to flush or to shut down")


def _shutdown_of(provider: object) -> Callable[[], object] | None:
    shutdown = getattr(provider, "shutdown", None)
    # A MeterProvider warns of a second shutdown; those of logs and traces do nothing then.
    return shutdown if callable(shutdown) and getattr(provider, "_shutdown", False) is not True else None


def _seconds() -> float:
    try:
        return float(GuardConfig.read("shutdown_timeout"))
    except SettingError:
        return GuardConfig().shutdown_timeout


def _at_exit() -> None:
    """End what has not ended by itself: providers have handlers of their own, unless their maker didn't want them."""
    own = ("_at_exit_handler", "_atexit_handler")
    _end([provider for provider in _providers() if any(getattr(provider, name, None) for name in own)])


# Handlers run last one first: this one runs after those of providers that were made since.
atexit.register(_at_exit)


def _after_fork_in_child() -> None:
    global _flushing
    _flushing = _thread.allocate_lock()
    goes_on()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
