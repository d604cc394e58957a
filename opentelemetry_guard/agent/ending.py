"""How an agent that nobody stops still delivers what it holds when the process ends.

`process_end` notices the end, and SIGTERM is handled where it has the system's
default action. uvicorn takes the signal for itself while it serves, and raises
it again afterwards with the action that it found: an agent that starts inside
of uvicorn comes too late to change that, so it stops when the server has shut
down.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from types import ModuleType
from typing import Any, Protocol

import wrapt

from ..process import end as process_end
from ..process import signals as termination
from ..settings.instrumentation import GuardOptions


class Stoppable(Protocol):
    """What has to be stopped before the process ends."""

    def end(self) -> None:
        """Stop; a second call does nothing."""
        ...


_running: weakref.WeakSet[Stoppable] = weakref.WeakSet()


def follow(agent: Stoppable) -> None:
    """Have `agent` stopped at the end of the process; a second time changes nothing."""
    first = not _running
    _running.add(agent)
    if first:
        process_end.on_end(_end_all)
        # Else an agent that is told to leave signals alone would still act on one, through uvicorn.
        if GuardOptions.read("sigterm_handler"):
            termination.install()
            termination.follow_uvicorn()
            _hooks()


def unfollow(agent: Stoppable) -> None:
    """Take back `follow`."""
    _running.discard(agent)
    if not _running:
        process_end.forget(_end_all)


def _hooks() -> None:
    module = sys.modules.get("uvicorn.server")
    if module is not None:
        _wrap_shutdown(module)
    else:
        wrapt.register_post_import_hook(_wrap_shutdown, "uvicorn.server")


def _wrap_shutdown(module: ModuleType) -> None:
    if getattr(vars(module.Server)["shutdown"], "_self_wrapper", None) is not _shutdown:
        wrapt.wrap_function_wrapper(module, "Server.shutdown", _shutdown)


async def _shutdown(
    wrapped: Callable[..., Awaitable[Any]], server: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Any:
    result = await wrapped(*arguments, **keywords)
    # A server that was told to end in another way may not be the end of its process.
    if _running and len(getattr(server, "_captured_signals", ())):
        await asyncio.to_thread(_end_all)
    return result


def _end_all() -> None:
    def end_each() -> None:
        for agent in list(_running):
            agent.end()

    apart(end_each)


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
