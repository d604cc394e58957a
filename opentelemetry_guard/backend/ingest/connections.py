"""Connections whose request is not complete: how long head and body may take, how many there are, which makes room.

Uvicorn waits for a request's head without an end, and its `limit_concurrency`
answers 503 to everybody once enough clients dawdle. Here the longest waiting
connection makes room for a new one, so that whoever sends a request at once is
served however many others don't.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...decision.addresses import subscriber
from ..refusal import Refusal

HEAD_SECONDS = 10.0
"""Seconds that a connection may take to send the head of a request, from its start or from the head's first byte."""

BODY_SECONDS = 30.0
"""Seconds that a whole body may take; the largest one that is taken needs 170 kB/s."""

MOST_CONNECTIONS = 400
"""Connections at once; a process may open 1,024 files on most systems."""

MOST_OF_ONE_CLIENT = 200
"""Connections at once of one IPv4 address or one IPv6 network of 64 bits."""


STREAMED, CONNECTION = "opentelemetry_guard.streamed", "connection"
"""The extension of an ASGI scope, and where in it the request's `StreamedConnection` is."""


class StreamedConnection(Protocol):
    """A connection whose answer doesn't end."""

    def becomes_stream(self) -> None:
        """Count it no more: those who answer so count for themselves."""
        ...

    def cut_off(self) -> None:
        """Close it at once, whatever is still to be sent."""
        ...


class Doorkeeper:
    """Counts connections, and knows those that wait for the rest of a request; used on the event loop alone."""

    def __init__(self, most: int = MOST_CONNECTIONS, most_of_one: int = MOST_OF_ONE_CLIENT) -> None:
        """Allow so many connections in all, and of one client."""
        self._most, self._most_of_one = most, most_of_one
        self._open: dict[PatientProtocol, str] = {}
        self._of_client: Counter[str] = Counter()

    def enter(self, connection: PatientProtocol, client: str) -> None:
        """Let a connection in; of too many the longest waiting one is closed, or this one where none waits."""
        self._open[connection] = client
        self._of_client[client] += 1
        if self._of_client[client] > self._most_of_one:
            self._make_room(connection, client)
        elif len(self._open) > self._most:
            self._make_room(connection, None)

    def leave(self, connection: PatientProtocol) -> None:
        """Forget a connection."""
        client = self._open.pop(connection, None)
        if client is not None:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

    def _make_room(self, newest: PatientProtocol, client: str | None) -> None:
        waiting = (one for one, its in self._open.items() if client in (None, its) and one.waits)
        leaving = next(waiting, newest)
        self.leave(leaving)
        leaving.transport.abort()


class PatientProtocol(H11Protocol):
    """Uvicorn's protocol with a doorkeeper and a time for the head of a request."""

    doorkeeper: Doorkeeper
    head_seconds = HEAD_SECONDS
    _head_timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether the connection's current request, head or body, is not complete."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and wait for a head."""
        super().connection_made(transport)
        self._start_timer()
        self.doorkeeper.enter(self, subscriber(self.client[0]) if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        self.doorkeeper.leave(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has come; the time for a head runs from its first byte to its last."""
        former = self.scope
        super().handle_events()
        if self.scope is not former:
            # The application begins after this.
            self.scope["extensions"] = {**(self.scope.get("extensions") or {}), STREAMED: {CONNECTION: self}}
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self.conn.trailing_data[0] and self._head_timer is None:
            self._start_timer()

    def becomes_stream(self) -> None:
        """Count it no more (`StreamedConnection`)."""
        self.doorkeeper.leave(self)

    def cut_off(self) -> None:
        """Close it at once (`StreamedConnection`)."""
        self.transport.abort()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def protocol(doorkeeper: Doorkeeper) -> type[PatientProtocol]:
    """Return the protocol of a server whose connections `doorkeeper` counts."""
    return type("_GuardedProtocol", (PatientProtocol,), {"doorkeeper": doorkeeper})


class BodiesInTime:
    """ASGI middleware that refuses a request with 408 whose body isn't complete in time; senders try again.

    Who drips bytes would keep the process from ending.
    """

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
