"""An answer that doesn't end: server-sent events (WHATWG HTML, section 9.2), read as they come, within bounds.

For a thread that does nothing else: it waits in `events` most of the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from urllib3 import BaseHTTPResponse

from .backoff import parse_retry_after
from .deadline import Connections, set_deadline
from .outcome import is_retryable

MEDIA_TYPE = "text/event-stream"
"""The type of such an answer."""

_PIECE = 64 * 1024
_MOST_REASON = 300


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `signature` is a field that readers who don't know it pass over, None where there is none."""

    id: str
    data: bytes
    signature: str | None


class EventStream:
    """An answer to a question for events.

    Attributes:
        status: of HTTP.
        retry_after: seconds after which the server wants to be asked again, None where it says nothing.
    """

    def __init__(self, connections: Connections, response: BaseHTTPResponse, most: int) -> None:
        """Take the answer over, and the connections that it is of; a line of `most` bytes ends it."""
        self._connections, self._response, self._most = connections, response, most
        self._pid = os.getpid()
        self.status = response.status
        self.retry_after = parse_retry_after(response.headers.get("Retry-After"))

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a stream of events, which comes in pieces."""
        headers = self._response.headers
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # Without chunks nobody would know how much to read at a time.
        return self.status == 200 and kind == MEDIA_TYPE and headers.get("Transfer-Encoding", "").lower() == "chunked"

    @property
    def may_come(self) -> bool:
        """Whether the same question may be answered with a stream soon: the server is busy or down."""
        return is_retryable(self.status)

    def events(self, first: float, silence: float) -> Iterator[ServerEvent | None]:
        """Give each event when it has come, and None for a comment, which says that the server is there.

        Args:
            first: seconds in which the first byte has to come.
            silence: seconds in which each further piece has to.

        Raises:
            TimeoutError: nothing has come in time.
            ValueError: a line is too long.
            Exception: what urllib3 and http.client raise for a connection that has ended badly.
        """
        fields: dict[str, bytes] = {}
        for line in self._lines(first, silence):
            if not line:
                if "data" in fields:
                    yield _event_of(fields)
                fields = {}
            elif line.startswith(b":"):
                yield None
            else:
                name, _, value = line.partition(b":")
                fields[name.decode(errors="replace")] = value.removeprefix(b" ")

    def _lines(self, first: float, silence: float) -> Iterator[bytes]:
        """Split what comes at line feeds; a carriage return before one is no part of the line."""
        pieces = self._response.stream(_PIECE, decode_content=False)
        begun: list[bytes] = []
        size, seconds = 0, first
        while True:
            set_deadline(seconds)
            piece = next(pieces, None)
            if piece is None:
                return
            seconds = silence
            *ended, rest = piece.split(b"\n")
            for line in ended:
                yield b"".join([*begun, line]).removesuffix(b"\r")
                begun, size = [], 0
            if rest:
                begun.append(rest)
                size += len(rest)
            if size > self._most:
                raise ValueError(f"a line of the stream has more than {self._most} bytes")

    def close(self) -> None:
        """End the connection."""
        self._response.close()
        self._connections.close()

    def leave_to_parent(self) -> None:
        """In the child of a fork: close its copy of the parent's socket, so that the parent's end is seen as one."""
        sock = getattr(self._response.connection, "sock", None)
        if sock is None or self._pid == os.getpid():
            return
        # Closing its file instead could wait for ever for a lock that a thread of the parent's holds.
        descriptor: int = sock.detach()
        if descriptor >= 0:
            os.close(descriptor)


def _event_of(fields: Mapping[str, bytes]) -> ServerEvent:
    signature = fields.get("signature")
    return ServerEvent(
        fields.get("id", b"").decode(errors="replace"),
        fields["data"],
        None if signature is None else signature.decode(errors="replace"),
    )
