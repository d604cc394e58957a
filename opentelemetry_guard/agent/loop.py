"""An event loop in a thread of its own, for coroutines of the user's that are called from threads of ours."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_logger = logging.getLogger(__name__)

T = TypeVar("T")


class LoopThread:
    """Runs coroutines one after the other or side by side, as they come.

    `_lock` guards `_loop` and `_thread` and is held while the thread is
    started: at the first coroutine, and at the first after `close` or after
    a task of the user's has ended the loop with `SystemExit` or the like.
    """

    def __init__(self, name: str) -> None:
        """Make one; the thread starts with the first coroutine and is called `name`."""
        self._name = name
        self.reset()

    def reset(self) -> None:
        """Forget the thread, in the child of a fork, where it does not exist: the next coroutine makes another."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine from another thread and return what it returns.

        Raises:
            TimeoutError: it took longer than `timeout` seconds and was cancelled.
            Exception: what the coroutine raises.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result(min(max(0.0, timeout), threading.TIMEOUT_MAX))
        except concurrent.futures.TimeoutError as error:
            if future.done():
                raise  # its own
            future.cancel()
            raise TimeoutError(f"it has not answered within {timeout:.1f} seconds") from error

    def close(self, timeout: float) -> None:
        """End the loop and close it; a task that holds it up for more than `timeout` seconds is left behind."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        try:
            loop.call_soon_threadsafe(loop.stop)
        except RuntimeError:
            return  # it has ended already
        if thread is not threading.current_thread():
            thread.join(timeout)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    except BaseException as error:  # noqa: BLE001  a task of the user's raised it; it must not show as a crash of ours
        _logger.error("a task on a loop of ours raised %s: %s; the next call has another loop", type(error), error)
    finally:
        loop.close()
