"""An event loop in a thread of its own, for coroutines of the user's that are called from threads of ours."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import os
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines one after the other or side by side, as they come.

    `_lock` guards `_loop` and is held while the thread is started, which
    happens once, at the first coroutine.
    """

    def __init__(self, name: str) -> None:
        """Make one; the thread starts with the first coroutine and is called `name`."""
        self._name = name
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = math.inf) -> T:
        """Run a coroutine from another thread and return what it returns.

        Raises:
            TimeoutError: it took longer than `timeout` seconds and was cancelled.
            Exception: what the coroutine raises.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result(None if math.isinf(timeout) else max(0.0, timeout))
        except concurrent.futures.TimeoutError as error:
            if future.done():
                raise  # its own
            future.cancel()
            raise TimeoutError(f"it has not answered within {timeout:.1f} seconds") from error

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(self._loop,), name=self._name, daemon=True).start()
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()


_all: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The thread does not exist in the child, which makes its own when it needs one.
    for thread in _all:
        thread._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
