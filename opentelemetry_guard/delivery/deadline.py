"""A total deadline for one HTTP request.

A socket timeout bounds each wait, not their sum: an answer that drips one
byte a second holds a request with a timeout of one second for as long as it
likes, and so does a name with many addresses. Here every attempt to connect,
every write and every read gets what is left until the deadline.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import make_headers
from urllib3.util.connection import allowed_gai_family

from .proxies import proxy_of

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


SocketOptions = Iterable[tuple[int, int, int | bytes]]


def connect(host: str, port: int, options: SocketOptions = ()) -> socket.socket:
    """Connect to the first address of a host that answers.

    The time that is left is shared out among the addresses, so that one that
    is dead leaves some for those after it.

    Raises:
        socket.gaierror: the name has no address.
        OSError: no address answers; the text is the last one's.
    """
    addresses = socket.getaddrinfo(host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
    failure: OSError = OSError(f"{host} has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            sock = socket.socket(family, kind, protocol)
            try:
                for option in options:
                    sock.setsockopt(*option)
                sock.settimeout(remaining() / (len(addresses) - number))
                sock.connect(address)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            failure = error
        else:
            return sock
    raise failure


class DeadlineReader(io.RawIOBase):
    """Reads from a socket, each time with what is left until the deadline as its timeout."""

    def __init__(self, sock: socket.socket) -> None:
        """Read from `sock`."""
        super().__init__()
        self._sock = sock
        # The socket's own file keeps it open until the answer is read, also after http.client closed the socket.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what comes next."""
        self._sock.settimeout(remaining())
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
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
        return io.BufferedReader(DeadlineReader(self._sock))

    def sendall(self, data: Any) -> None:
        # Not the socket's own: that of a TLS socket gives each of its writes the whole timeout.
        with memoryview(data).cast("B") as view:
            sent = 0
            while sent < len(view):
                self._sock.settimeout(remaining())
                sent += self._sock.send(view[sent : sent + 65536])


def _connect(connection: HTTPConnection) -> socket.socket:
    """Do what urllib3 does to connect, by the deadline."""
    try:
        return connect(connection._dns_host, connection.port or 80, connection.socket_options or ())
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"connecting to {connection.host} timed out") from error
    except OSError as error:
        raise NewConnectionError(cast("Any", connection), f"{connection.host} can't be reached: {error}") from error


class _DeadlineHTTPConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)

    def connect(self) -> None:
        super().connect()
        self.sock = cast("socket.socket", _DeadlineSocket(self.sock))


class _DeadlineHTTPSConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = _connect(self)
        # What the handshake may take: it is bounded as a whole by this.
        sock.settimeout(remaining())
        return sock

    def connect(self) -> None:
        super().connect()
        self.sock = cast("Any", _DeadlineSocket(cast("socket.socket", self.sock)))


class _DeadlineHTTPPool(HTTPConnectionPool):
    ConnectionCls = _DeadlineHTTPConnection


class _DeadlineHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DeadlineHTTPSConnection


_POOLS = {"http": _DeadlineHTTPPool, "https": _DeadlineHTTPSPool}


class Connections:
    """The connections of one thread, kept between requests, each of which ends at the deadline of `set_deadline`.

    Proxies are the environment's, read at the first request to a host. Behind a SOCKS proxy only each single wait is
    bounded. Whom TLS connections trust and what they show is the context's alone.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """Open nothing yet; `context` is for TLS, None where there is none."""
        self._context = context
        self._managers: dict[tuple[str, str], PoolManager] = {}

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> BaseHTTPResponse:
        """Make one request and return the answer, whose body is yet to be read, and which is closed then.

        No redirect is followed, and nothing is tried again. Of headers that differ in case alone the last one counts.
        """
        parts = urlsplit(url)
        manager = self._managers.get((parts.scheme, parts.netloc))
        if manager is None:
            manager = self._managers[parts.scheme, parts.netloc] = self._manager(proxy_of(url))
        return manager.urlopen(
            method,
            url,
            body=body,
            headers=dict({name.lower(): (name, value) for name, value in headers.items()}.values()),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=remaining(),
        )

    def close(self) -> None:
        """Close them; a later request opens others."""
        while self._managers:
            self._managers.popitem()[1].clear()

    def _manager(self, proxy: str | None) -> PoolManager:
        options: dict[str, Any] = {"num_pools": 1, "maxsize": 1, "ssl_context": self._context}
        manager: PoolManager
        if proxy is None:
            manager = PoolManager(**options)
        else:
            user = urlsplit(proxy)
            name, password = unquote(user.username or ""), unquote(user.password or "")
            if proxy.lower().startswith("socks"):
                from urllib3.contrib.socks import SOCKSProxyManager  # needs PySocks, which nearly nobody has

                manager = SOCKSProxyManager(proxy, username=name or None, password=password or None, **options)
            else:
                shown = make_headers(proxy_basic_auth=f"{name}:{password}") if name else None
                manager = ProxyManager(proxy, proxy_headers=shown, proxy_ssl_context=self._context, **options)
        if proxy is None or not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        # Else `clear` would leave closing them to the collection of garbage.
        manager.pools.dispose_func = lambda pool: pool.close()
        return manager
