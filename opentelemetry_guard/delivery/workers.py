"""Calls that nobody waits for beyond their time, on threads that can be left behind.

Nothing less bounds a request: resolving a name takes no timeout at all, and a
proxy's greeting or a handshake has one for each wait only.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

from opentelemetry.instrumentation.utils import suppress_instrumentation

_logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_LEFT = 4
"""Threads of this process that were left behind and still hang; while there are so many, no call is made."""
GRACE_SECONDS = 0.05
"""Seconds beyond its time in which a call that ends by itself can say why."""
JOIN_SECONDS = 0.5
"""Seconds that `close` waits for an idle thread to end, which takes an instant."""
IDLE_SECONDS = 600.0
"""Seconds after which an idle thread ends: longer than the pause between two status reports, since an interpreter that
is ending starts no other for the last one."""

_left: list[threading.Thread] = []  # a change is one atomic step


class Ended(RuntimeError):
    """A call raised what is meant to end a thread or the process (`SystemExit`, a greenlet's end); it ends the call."""


class Workers:
    """Makes calls on threads of its own, one at a time on each; a few idle threads are kept for the next calls.

    It has no lock, so a fork leaves none held: a child finds threads of its
    parent's among the idle ones, and forgets them.
    """

    def __init__(self, name: str, at_end: Callable[[], None], most_idle: int = 1) -> None:
        """Make one that keeps `most_idle` idle threads.

        `at_end` runs on each thread when it ends, and frees what calls have opened there.
        """
        self._name = name
        self._most_idle = most_idle
        self._at_end = at_end
        self._idle: deque[_Worker] = deque()
        # Its idle threads must not outlive it; and at the end of the process there is nothing to free.
        weakref.finalize(self, _dismiss, self._idle).atexit = False

    def call(self, job: Callable[[], T], seconds: float, keep: bool = True) -> T:
        """Return what `job` returns, or raise what it raises; without `keep` its thread ends.

        Where the interpreter starts no threads any more, the job runs on the calling thread.

        Raises:
            TimeoutError: it took longer than `seconds`, and is left to end by itself; or too many were.
        """
        if seconds <= 0:
            raise TimeoutError("there is no time left for a call")
        deadline = time.monotonic() + seconds + GRACE_SECONDS
        worker = self._take()
        if worker is None:
            return job()
        answer = worker.do(job)
        try:
            result = answer.result(min(threading.TIMEOUT_MAX, max(0.0, deadline - time.monotonic())))
        except FutureTimeoutError:
            if answer.done():
                self._settle(worker, keep)
                raise  # its own
            _left.append(worker.thread)
            worker.end()
            raise TimeoutError(f"the call has timed out after {seconds:.3g} seconds") from None
        except Exception:
            self._settle(worker, keep)
            raise
        except BaseException:
            # The caller is interrupted while it waits; the job ends by itself.
            worker.end()
            raise
        self._settle(worker, keep)
        return result

    def close(self) -> None:
        """End the idle threads; a later call starts another."""
        while (worker := self._pop()) is not None:
            worker.end()
            worker.thread.join(JOIN_SECONDS)

    def _take(self) -> _Worker | None:
        worker = self._pop()
        if worker is not None:
            return worker
        hanging = _hanging()
        if hanging >= MAX_LEFT:
            raise TimeoutError(f"{hanging} earlier calls have timed out and still hang, in resolving a name perhaps")
        try:
            return _Worker(self._name, self._at_end, self._idle)
        except RuntimeError:
            if hanging:
                raise TimeoutError("an earlier call still hangs, and the interpreter starts no threads") from None
            return None

    def _pop(self) -> _Worker | None:
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:
                break
            if worker.pid == os.getpid() and worker.thread.is_alive():
                return worker
        return None

    def _settle(self, worker: _Worker, keep: bool) -> None:
        if len(self._idle) >= self._most_idle or not keep:
            worker.end()
        else:
            self._idle.append(worker)


def _dismiss(idle: deque[_Worker]) -> None:
    for worker in tuple(idle):
        worker.end()


class _Worker:
    """A daemon thread that does jobs until it is told to end."""

    def __init__(self, name: str, at_end: Callable[[], None], idle: deque[_Worker]) -> None:
        self.pid = os.getpid()
        self._at_end = at_end
        self._idle = idle
        self._inbox: SimpleQueue[tuple[Callable[[], object], Future[object]] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def do(self, job: Callable[[], T]) -> Future[T]:
        """Do a job after those before it."""
        answer: Future[object] = Future()
        self._inbox.put((job, answer))
        return cast("Future[T]", answer)

    def end(self) -> None:
        """End the thread after what it is doing."""
        self._inbox.put(None)

    def _run(self) -> None:
        with suppress_instrumentation():
            while (item := self._next()) is not None:
                job, answer = item
                try:
                    answer.set_result(job())
                except Exception as error:  # noqa: BLE001  it is raised where the answer is waited for
                    answer.set_exception(error)
                except BaseException as error:  # noqa: BLE001  what should end a thread or process must not end the caller's
                    answer.set_exception(Ended(f"{type(error).__name__}: {error}"))
                del item, job, answer
            try:
                self._at_end()
            except Exception as error:  # noqa: BLE001  closing what is broken may fail in any way; nothing depends on it
                _logger.debug("connections could not be closed: %s", error)

    def _next(self) -> tuple[Callable[[], object], Future[object]] | None:
        while True:
            try:
                return self._inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:
                    continue  # somebody has taken it just now, and will say what to do
                return None


def _hanging() -> int:
    for thread in tuple(_left):
        if not thread.is_alive() and thread in _left:
            _left.remove(thread)
    return len(_left)
