"""How long a sender may take over a body: who drips bytes holds a connection, and keeps the process from ending."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..refusal import Refusal

BODY_SECONDS = 30.0
"""Seconds that a whole body may take; the largest one that is taken needs 170 kB/s."""


class BodiesInTime:
    """ASGI middleware that refuses a request with 408 whose body isn't complete in time; senders try again."""

    def __init__(self, app: ASGIApp, seconds: float = BODY_SECONDS) -> None:
        """Stand before `app`, and give each body so many `seconds`."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its body as long as it comes in time."""
        now = asyncio.get_running_loop().time
        deadline, complete = now() + self._seconds, False

        async def receive_in_time() -> Message:
            nonlocal complete
            # After the body only the end of the connection comes, and that may take its time.
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - now())
            except asyncio.TimeoutError:
                raise Refusal(408, f"The body did not come within {self._seconds:g} s: send it again.") from None
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time if scope["type"] == "http" else receive, send)
