"""Whoever sends a request at once is served, however many others send theirs slowly or never."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from support.backend import running_backend
from uvicorn.server import ServerState

from opentelemetry_guard.backend.ingest import connections
from opentelemetry_guard.backend.server import listen

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"GET /local/summary HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "begun",
    [
        HEAD,
        b"",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 90\r\n\r\na",
    ],
    ids=["half a head", "nothing", "half a body"],
)
def test_half_sent_requests_shut_nobody_out(begun: bytes) -> None:
    with running_backend() as backend, ExitStack() as stack:
        port = int(backend.url.rpartition(":")[2])
        for _ in range(connections.MOST_CONNECTIONS + 100):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.sendall(begun)
        assert backend.http.get(f"{backend.url}/local/summary", timeout=30).status_code == 200
        assert "Traceback" not in backend.stderr()


@pytest.mark.parametrize("before", [b"", WHOLE], ids=["on a new connection", "after a request"])
@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\nHost: x\r\n", b"G"])
def test_a_head_that_does_not_end_is_cut_off(before: bytes, begun: bytes) -> None:
    async def answer(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def run() -> bytes:
        config = uvicorn.Config(answer, lifespan="off", log_config=None)
        config.load()
        state, impatient = ServerState(), connections.protocol(connections.Doorkeeper())
        impatient.head_seconds = 0.05
        server = await asyncio.get_running_loop().create_server(
            lambda: impatient(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            if before:
                writer.write(before)
                assert b" 204 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(begun)
            try:
                return await asyncio.wait_for(reader.read(), 30)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    assert asyncio.run(run()) == b""


def test_an_answer_does_not_wait_for_the_client_to_acknowledge_its_head() -> None:
    at_once: list[int] = []

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        at_once.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def run() -> None:
        with listen("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(answer, sock=listener):
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                await reader.read()
                writer.close()

    asyncio.run(run())
    assert [bool(one) for one in at_once] == [True]
