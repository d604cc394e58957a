"""A body comes in time, or its sender is told so; and nobody who is slow keeps the backend from ending."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.types import Message, Receive, Scope, Send
from support.backend import running_backend

from opentelemetry_guard.backend.ingest.connections import BodiesInTime
from opentelemetry_guard.backend.refusal import Refusal

HALF: Message = {"type": "http.request", "body": b"{", "more_body": True}
WHOLE: Message = {"type": "http.request", "body": b"{}", "more_body": False}


def received(*messages: Message, reads: int, within: float = 60.0) -> list[Message]:
    """Return what an application reads of `messages`, after which nothing ever comes; it has some seconds to read."""
    found: list[Message] = []

    async def application(_: Scope, receive: Receive, __: Send) -> None:
        while len(found) < reads:
            found.append(await receive())

    async def run() -> None:
        coming = iter(messages)

        async def receive() -> Message:
            message = next(coming, None)
            return await asyncio.get_running_loop().create_future() if message is None else message

        async def send(_: Message) -> None:
            raise AssertionError("nothing is answered")

        in_time = BodiesInTime(application, seconds=0.05)
        await asyncio.wait_for(in_time({"type": "http"}, receive, send), within)

    asyncio.run(run())
    return found


def test_a_body_that_stops_halfway_is_refused_with_408() -> None:
    with pytest.raises(Refusal, match=r"did not come within 0\.05 s") as refused:
        received(HALF, reads=2)
    assert refused.value.status == 408


def test_after_the_body_the_connection_may_stay_open_as_long_as_it_likes() -> None:
    assert received(HALF, WHOLE, reads=2) == [HALF, WHOLE]
    with pytest.raises(asyncio.TimeoutError):
        received(WHOLE, reads=2, within=0.3)


def test_a_sender_that_stops_halfway_does_not_keep_the_backend_from_ending() -> None:
    with running_backend() as backend:
        port = int(backend.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {backend.api_key}\r\n"
            connection.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")
            connection.sendall(b"{")
            assert backend.stop() == 0
        assert "POST /api/v1/events was cut off by the shutdown." in backend.stderr()
        assert "Traceback" not in backend.stderr()
