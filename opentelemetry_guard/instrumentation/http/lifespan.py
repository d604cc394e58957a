"""The end of an application, which is often the last that a server lets it do: what is held is sent before it is told.

A server may end its worker as soon as the application has said that its
shutdown is complete, in ways that no handler sees.
"""

from __future__ import annotations

from ...process import end as process_end
from .following import Message, Receive, Send

_OVER = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


def flushing(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Return a lifespan's `receive` and `send` that flush telemetry at its shutdown, within the shutdown timeout.

    Telemetry goes on: a process may serve several applications one after the other, as a test does.
    """

    async def listen() -> Message:
        message = await receive()
        if message["type"] == "lifespan.startup":
            process_end.goes_on()
        return message

    async def tell(message: Message) -> None:
        if message["type"] in _OVER:
            # Imported here: it comes with Starlette, and works in whatever loop the server has.
            from anyio import to_thread

            await to_thread.run_sync(process_end.flush_before_end)
        await send(message)

    return listen, tell
