"""How an agent that nobody stops still delivers what it holds when the process ends.

`atexit` covers an ordinary end, and SIGTERM is handled where it has the
system's default action. uvicorn takes the signal for itself while it serves,
and raises it again afterwards with the action that it found: an agent that
starts inside of uvicorn comes too late to change that, so it stops when the
server has shut down.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
import weakref
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

import wrapt

from ..instrumentation import termination
from ..instrumentation.options import GuardOptions


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
        atexit.register(_end_all)
        # Else an agent that is told to leave signals alone would still act on one, through uvicorn.
        if GuardOptions.resolve().sigterm_handler:
            termination.shut_down_too(_end_all)
            termination.install()
            termination.follow_uvicorn()
            _hooks()


def unfollow(agent: Stoppable) -> None:
    """Take back `follow`."""
    _running.discard(agent)
    if not _running:
        atexit.unregister(_end_all)
        termination.no_more(_end_all)


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
    for agent in list(_running):
        agent.end()
