"""Requests to a backend within one total deadline each, and what came of them as values."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import NewConnectionError
from urllib3.exceptions import TimeoutError as WaitTimeoutError

from ..events.header_text import repaired
from ..settings.delivery import DestinationSettings
from ..settings.shown import without
from .deadline import Connections, set_deadline
from .outcome import Outcome, Verdict
from .streaming import EventStream
from .trust import tls_context
from .workers import Workers

T = TypeVar("T")

MAX_ANSWER = 1024 * 1024
"""Bytes of an answer that are read, enough for an error text a row; the connection of a longer one is closed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, with its header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HTTP:
    """Makes requests, and never follows a redirect.

    Each request is made on a thread that is left behind at its deadline.
    Connections are kept alive between requests, per such thread: they are
    not shared, because a shutdown may send while the sender's request is still
    under way.
    """

    def __init__(self, config: DestinationSettings, secrets: Callable[[], tuple[str | None, ...]]) -> None:
        """Take the settings, and what returns the texts that are masked wherever an answer has them."""
        self._config = config
        self._secrets = secrets
        self._local = threading.local()
        self._workers = Workers("OtelGuardRequest", partial(_disconnect, self._local), config.requests_in_flight)

    def close(self) -> None:
        """Close the connections that no call is using."""
        self._workers.close()

    def within(self, step: Callable[[], T], timeout: float) -> T:
        """Return what a step returns that may hang; raise what it raises, or TimeoutError, and leave it behind."""
        return self._workers.call(step, min(self._config.timeout, timeout))

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        most: int = MAX_ANSWER,
        keep: bool = True,
        keep_thread: bool = True,
    ) -> Answer | Outcome:
        """Make one request, and read `most` bytes of the answer; where there is none, say why.

        Args:
            method: of HTTP.
            url: the whole address.
            headers: of the request.
            body: of the request.
            timeout: in seconds; counts where it is less than the setting.
            most: bytes of the answer that are read.
            keep: whether the connection is kept for the next request.
            keep_thread: whether the thread is, too.
        """
        seconds = min(self._config.timeout, timeout)
        deadline = time.monotonic() + seconds

        def make() -> Answer:
            set_deadline(deadline - time.monotonic())
            keep_it = False
            try:
                answer = self._answer(method, url, headers, body, most)
                keep_it = keep
            finally:
                if not keep_it:
                    # After a failure too: the next connections read certificates anew, which may have been renewed.
                    _disconnect(self._local)
            return answer

        try:
            return self._workers.call(make, seconds, keep_thread)
        except Exception as error:  # noqa: BLE001  urllib3's and http.client's errors have no common base; none may pass
            return self.without_secrets(Outcome(Verdict.RETRY, reason=_describe(error), timed_out=_is_timeout(error)))

    def stream(self, url: str, headers: Mapping[str, str], most: int) -> EventStream | Outcome:
        """Ask for server-sent events on the calling thread; where there is no answer, say why.

        Args:
            url: the whole address.
            headers: of the request.
            most: bytes of a line at most.
        """
        set_deadline(self._config.timeout)
        connections = None
        try:
            connections = connections_to(self._config)
            return EventStream(connections, connections.request("GET", url, headers, None), most)
        except Exception as error:  # noqa: BLE001  as in `request`
            if connections is not None:
                connections.close()
            return self.without_secrets(Outcome(Verdict.RETRY, reason=_describe(error), timed_out=_is_timeout(error)))

    def _answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, most: int) -> Answer:
        response = self._connections().request(method, url, headers, body)
        try:
            content = read(response, most)
        finally:
            response.close()  # one that is not read to its end takes the connection with it
        return Answer(
            response.status, {name.lower(): repaired(value) for name, value in response.headers.items()}, content
        )

    def quotable(self, answer: Answer) -> Answer:
        """Mask our secrets in an answer before any part of it is quoted: a cut could go through one."""
        headers = {name: without(self._secrets(), value) for name, value in answer.headers.items() if name != "etag"}
        if "etag" in answer.headers:
            headers["etag"] = answer.headers["etag"]
        body = without(self._secrets(), answer.body.decode(errors="surrogateescape"))
        return Answer(answer.status, headers, body.encode(errors="surrogateescape"))

    def without_secrets(self, outcome: Outcome) -> Outcome:
        """Mask what must never be shown: a backend may quote the key that it refuses."""
        return replace(outcome, reason=without(self._secrets(), outcome.reason))

    def _connections(self) -> Connections:
        connections: Connections | None = getattr(self._local, "connections", None)
        if connections is None or self._local.pid != os.getpid():
            # After a fork the connections are the parent's: two processes would write to one stream.
            connections = connections_to(self._config)
            self._local.connections, self._local.pid = connections, os.getpid()
        return connections


def _disconnect(local: threading.local) -> None:
    """Close this thread's connections."""
    connections = getattr(local, "connections", None)
    if connections is not None:
        connections.close()
        del local.connections


def connections_to(config: DestinationSettings) -> Connections:
    """Return connections to a backend, of which none is open yet.

    Raises:
        CertificateError: a certificate can't be used.
    """
    return Connections(tls_context(config) if config.endpoint.lower().startswith("https:") else None)


_CHUNK = 64 * 1024


def read(response: BaseHTTPResponse, most: int) -> bytes:
    """Read an answer, decompressed: `most` bytes of it at most, and at most `most` bytes from the network.

    Raises:
        ValueError: it is compressed in a way that was not asked for.
        EOFError: it is compressed, and ends before its end.
        zlib.error: it is damaged.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return b"".join(_pieces(response, most))
    if encoding in ("gzip", "x-gzip"):
        return b"".join(_gunzip(_pieces(response, most), most))
    raise ValueError(f"the answer's Content-Encoding is {encoding[:40]!r}, only gzip was asked for")


def _pieces(response: BaseHTTPResponse, most: int) -> Iterator[bytes]:
    while most > 0 and (data := response.read(min(_CHUNK, most), decode_content=False)):
        most -= len(data)
        yield data


def _gunzip(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    # Not urllib3, which before 2.6 decompresses what it has read as a whole: a megabyte may become gigabytes.
    member = None
    for data in pieces:
        while data and most > 0:
            if member is None or member.eof:
                member = zlib.decompressobj(31)
            piece = member.decompress(data, most)
            most -= len(piece)
            data = member.unconsumed_tail or member.unused_data
            yield piece
        if most <= 0:
            return
    if member is not None and not member.eof:
        raise EOFError("the answer's compressed body is cut short")


def _is_timeout(error: BaseException | None) -> bool:
    while error is not None:
        # urllib3 counts one that was refused among those that took too long.
        waited = isinstance(error, WaitTimeoutError) and not isinstance(error, NewConnectionError)
        if waited or isinstance(error, TimeoutError) or "timed out" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _describe(error: BaseException) -> str:
    """Name an error and the last cause of it, without the request's headers (no error text holds them)."""
    cause = error
    while (inner := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)) is not None:
        cause = inner
    text = f"{type(error).__name__}: {cause}" if cause is not error else f"{type(error).__name__}: {error}"
    return text[:300]
