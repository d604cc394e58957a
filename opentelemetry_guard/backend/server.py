"""Running the backend: a listening socket, a signal that ends it, and uvicorn in between."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from .hosts import is_loopback
from .ingest.connections import Doorkeeper, protocol

_GRACE_SECONDS = 3
"""How long a request that is under way may take after the signal to end: the process is gone within five seconds."""

_SWITCH_SECONDS = 0.0005
"""How long a thread may go on while another one wants to: who stores has a turn after each of its statements, and
everybody else waits for what it stores. Python's own 5 ms would be longer than most statements take."""

logger = logging.getLogger(__name__)


class ListenError(Exception):
    """The address cannot be listened on; the text names it and the remedy."""


def listen(host: str, port: int, beyond_loopback: bool = False) -> socket.socket:
    """Return a socket that is bound to `host`; port 0 takes a free one.

    `beyond_loopback` allows an address that others reach: for a backend that asks for a password.

    Raises:
        ListenError: `host` is not an allowed one, or the address is taken or not this machine's.
    """
    if not beyond_loopback and not is_loopback(host):
        raise ListenError(
            f"The host {host!r} is not a loopback address: use 127.0.0.1, ::1 or localhost, or set a dashboard "
            "password (OTEL_GUARD_BACKEND_PASSWORD)."
        )
    # Named, the protocol lets asyncio send at once: else an answer's body waits for the client to acknowledge its head,
    # which clients put off for 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    if os.name == "posix":
        # A restart may take the port over from connections that are still closing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ListenError(f"Cannot listen on {host} port {port}: {reason}. Choose another --port or --host.") from None
    return listener


def inherited(descriptor: int) -> socket.socket:
    """Return the bound socket that another process has opened, and handed down as `descriptor`.

    Raises:
        ListenError: there is no such socket.
    """
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise ListenError(f"There is no socket {descriptor} to listen on: {error.strerror}.") from None


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: ASGIApp,
    listener: socket.socket,
    on_listening: Callable[[], None],
    verbose: bool = False,
    on_ending: Callable[[], None] | None = None,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, then finish what is under way and raise SystemExit(0).

    `on_listening` is called once, when connections are accepted, and
    `on_ending` on the event loop when the end begins: for what would not end
    by itself. To be called on the main thread. `verbose` logs every request.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    # What is loaded by now stays: the collector doesn't look at it again, which it would while rows come in.
    gc.freeze()
    # Uvicorn restores these handlers at its end and raises the signal again: the process then leaves with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    config = uvicorn.Config(
        _CutOffQuietly(app),
        log_level="info" if verbose else "warning",
        access_log=verbose,
        http=protocol(Doorkeeper()),
        ws="none",
        server_header=False,
        # Anybody can write X-Forwarded-For: tries of the password are counted by who is connected.
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    _Server(config, on_listening, on_ending).run(sockets=[listener])


class _CutOffQuietly:
    """ASGI middleware that says in a line what a traceback would: a request was under way when the server ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # Uvicorn cancels a request for one reason, and nothing comes after this in its task.
            logger.warning("%s %s was cut off by the shutdown.", scope.get("method"), scope.get("path"))


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[], None], on_ending: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._on_listening, self._on_ending = on_listening, on_ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_ending is not None:
            self._on_ending()
        await super().shutdown(sockets=sockets)


def end_with_standard_input() -> None:
    """Let this process end, as by SIGTERM, when its standard input does.

    A parent that holds the other end of that pipe and writes nothing leaves no
    backend behind, however it ends itself: the system closes what it held.
    """

    def wait() -> None:
        # Not by `sys.stdin`, whose lock a thread that waits would hold when the interpreter ends.
        # A parent that ends and has not read all that this process said resets the line.
        with suppress(ConnectionError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="OtelGuardParent", daemon=True).start()


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)
