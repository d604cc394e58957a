"""A total deadline for one HTTP request.

A socket timeout bounds each wait, not their sum: an answer that drips one
byte a second holds a request with a timeout of one second for as long as it
likes. Here every read gets what is left until the deadline.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from typing import Any, cast

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_local = threading.local()


def set_deadline(seconds: float) -> None:
    """Set the deadline of the requests that this thread makes from now on, `seconds` from now."""
    _local.deadline = time.monotonic() + seconds


def remaining() -> float:
    """Return the seconds until this thread's deadline.

    Raises:
        TimeoutError: it has passed.
    """
    left = cast("float", getattr(_local, "deadline", time.monotonic() + 60.0)) - time.monotonic()
    if left <= 0:
        raise TimeoutError("the request's deadline has passed")
    return left


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, each time with what is left until the deadline as its timeout."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock
        # The socket's own file keeps it open until the answer is read, also after http.client closed the socket.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(remaining())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _DeadlineSocket:
    """A connected socket whose reads end at the deadline; everything else is the socket's own."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, mode: str = "r", *args: object, **kwargs: object) -> io.BufferedReader:
        # http.client reads answers through this file and through nothing else.
        return io.BufferedReader(_DeadlineReader(self._sock))

    def sendall(self, data: Any) -> None:
        # Since Python 3.5 the timeout of sendall bounds the whole call.
        self._sock.settimeout(remaining())
        self._sock.sendall(data)


class _DeadlineHTTPConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = cast("socket.socket", _DeadlineSocket(self.sock))


class _DeadlineHTTPSConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = cast("Any", _DeadlineSocket(cast("socket.socket", self.sock)))


class _DeadlineHTTPPool(HTTPConnectionPool):
    ConnectionCls = _DeadlineHTTPConnection


class _DeadlineHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DeadlineHTTPSConnection


_POOLS = {"http": _DeadlineHTTPPool, "https": _DeadlineHTTPSPool}


class DeadlineAdapter(HTTPAdapter):
    """Makes the requests of a `requests.Session` end at the deadline that `set_deadline` has set."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools, with connections that know the deadline."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return the pools of a proxy; behind a SOCKS proxy only each single wait is bounded."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager
