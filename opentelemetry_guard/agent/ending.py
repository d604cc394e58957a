"""How an agent that nobody stops still delivers what it holds when the process ends.

`process.end` notices the end, and the signals are handled where they have the
system's default action. uvicorn takes them for itself while it serves, and
raises them again afterwards with the action that it found: an agent that
starts inside of uvicorn comes too late to change that, so it stops when the
server has shut down.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import cache
from types import ModuleType
from typing import Any

import wrapt

from ..process import end as process_end
from ..process import signals
from ..settings.instrumentation import GuardOptions

_stops: set[Callable[[], None]] = set()  # of the agents that run and may act on a signal; a change is one atomic step


def follow(stop: Callable[[], None]) -> None:
    """Have an agent stopped at the end of the process; `stop` does nothing at a second call."""
    process_end.on_end(stop)
    if GuardOptions.read("sigterm_handler"):
        _stops.add(stop)
        signals.install()
        signals.follow_uvicorn()
        _follow_shutdown()


def unfollow(stop: Callable[[], None]) -> None:
    """Take back `follow`."""
    process_end.forget(stop)
    _stops.discard(stop)


@cache
def _follow_shutdown() -> None:
    wrapt.register_post_import_hook(_wrap_shutdown, "uvicorn.server")


def _wrap_shutdown(module: ModuleType) -> None:
    wrapt.wrap_function_wrapper(module, "Server.shutdown", _shutdown)


async def _shutdown(
    wrapped: Callable[..., Awaitable[Any]], server: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Any:
    result = await wrapped(*arguments, **keywords)
    # A server that was told to end in another way may not be the end of its process.
    if len(getattr(server, "_captured_signals", ())):
        for stop in tuple(_stops):
            await asyncio.to_thread(stop)
    return result


def apart(work: Callable[[], object]) -> None:
    """Do `work` to its end, and never on the main thread.

    A signal's handler runs there, in the midst of anything: one that ends the
    agents would wait for the locks of work that can't go on before it returns.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    future: Future[object] = Future()
    try:
        threading.Thread(target=_settle, args=(future, work), name="OtelGuardEnding", daemon=True).start()
    except RuntimeError:
        work()  # the interpreter ends, and gives no thread any more
    else:
        future.result()


def _settle(future: Future[object], work: Callable[[], object]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
        future.set_exception(error)
