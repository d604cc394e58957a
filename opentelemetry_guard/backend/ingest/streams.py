"""Connections on which rules are told of as they change, and the one question to the database that serves all of them.

Each costs a socket, a request of the server's and a timer. While there is one,
the database is asked a few times a second which versions there are, of all
projects at once: other processes may have changed them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..refusal import Refusal
from ..storage.store import Store
from .connections import CONNECTION, STREAMED, StreamedConnection
from .documents import Document, Signatures, document_of

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Seconds between two looks at the versions in the database."""
HEARTBEAT_SECONDS = 15.0
"""Seconds after which something is said where nothing has happened: proxies close what is silent for a minute."""
LIFE_SECONDS = 3600.0
"""Seconds after which a stream is ended, so that connections spread over the backends that there are by then."""
STUCK_SECONDS = 30.0
"""Seconds that a caller may take to read what it is told."""
MOST_STREAMS = 500
"""Streams of one process at once; it may open 1,024 files on most systems."""
MOST_OF_A_KEY = 300
"""Streams of one key at once."""
_ASK_AGAIN = {"Retry-After": "60"}

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # nginx would hold the answer back.
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
]


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told.

    Attributes:
        known: the ETag of the rules that the caller has, "" for none.
        signatures: signs for the caller.
        still_here: takes the ETag of what the caller has, whenever it is known to be there.
    """

    known: str
    signatures: Signatures
    still_here: Callable[[str], None]


@dataclass(slots=True)
class _Feed:
    """What is told of one project: its newest document, and who waits for another."""

    document: Document
    mark: object = None
    listeners: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def wake(self) -> None:
        """Have everybody look."""
        for waiter in self.waiting:
            _settle(waiter)


class Streams:
    """The streams of one process. Used on the event loop alone."""

    TOLD_WITHIN = 1
    """Seconds within which a change is told."""

    def __init__(self, store: Store) -> None:
        """Tell of the rules in `store`; nothing is read as long as nobody listens."""
        self._store = store
        self._feeds: dict[str, _Feed] = {}
        self._of_key: Counter[bytes] = Counter()
        self._looking: asyncio.Task[None] | None = None
        self._ending = False

    def response(self, project_id: str, key: bytes, told: Told) -> Response:
        """Return the answer that tells of a project's rules.

        Args:
            project_id: whose rules.
            key: what stands for the API key that is asked with.
            told: who is told.

        Raises:
            Refusal: 429 where the key has as many streams as it may, 503 where all have, or the process ends.
        """
        if self._ending or self._of_key.total() >= MOST_STREAMS:
            raise Refusal(503, "There are as many streams of rules as there can be: poll them.", _ASK_AGAIN)
        if self._of_key[key] >= MOST_OF_A_KEY:
            raise Refusal(429, f"This key has {MOST_OF_A_KEY} streams of rules, the most: poll them.", _ASK_AGAIN)
        return _StreamResponse(self, project_id, key, told)

    def end(self) -> None:
        """End every stream: the process is about to end."""
        self._ending = True
        for feed in self._feeds.values():
            feed.wake()

    @property
    def ending(self) -> bool:
        """Whether every stream has to end."""
        return self._ending

    async def enter(self, project_id: str, key: bytes) -> _Feed:
        """Count one more stream, and return what it is told of."""
        if project_id not in self._feeds:
            document = await run_in_threadpool(document_of, self._store, project_id)
            self._feeds.setdefault(project_id, _Feed(document))
        feed = self._feeds[project_id]
        feed.listeners += 1
        self._of_key[key] += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        return feed

    def leave(self, project_id: str, key: bytes) -> None:
        """Count one stream less."""
        feed = self._feeds[project_id]
        feed.listeners -= 1
        if not feed.listeners:
            del self._feeds[project_id]
        self._of_key[key] -= 1
        if not self._of_key[key]:
            del self._of_key[key]

    async def _look(self) -> None:
        """Take over what is changed in the database, for as long as somebody listens."""
        fails = False
        while self._feeds and not self._ending:
            try:
                await self._take_over()
                fails = False
            except Exception as error:  # noqa: BLE001  any database's; the streams live on, and polls answer 503
                if not fails:
                    logger.error("The database can't be asked for changed rules: %s. It is asked again.", error)
                fails = True
            await asyncio.sleep(LOOK_SECONDS)
        self._looking = None

    async def _take_over(self) -> None:
        marks = await run_in_threadpool(self._store.rules_marks, list(self._feeds))
        for project_id, mark in marks.items():
            feed = self._feeds.get(project_id)
            if feed is not None and feed.mark != mark:
                feed.document = await run_in_threadpool(document_of, self._store, project_id)
                feed.mark = mark
                feed.wake()


class _StreamResponse(Response):
    """The answer that doesn't end."""

    def __init__(self, streams: Streams, project_id: str, key: bytes, told: Told) -> None:
        super().__init__()
        self._streams, self._project_id, self._key, self._told = streams, project_id, key, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell until the caller leaves, the time is up, or the process ends."""
        connection: StreamedConnection | None = scope.get("extensions", {}).get(STREAMED, {}).get(CONNECTION)
        feed = await self._streams.enter(self._project_id, self._key)
        gone = asyncio.ensure_future(_departure(receive))
        try:
            if connection is not None:
                connection.becomes_stream()
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._follow(feed, gone, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.TimeoutError:
            # Who doesn't read holds memory here, and would for ever.
            if connection is not None:
                connection.cut_off()
                await gone
        finally:
            gone.cancel()
            self._streams.leave(self._project_id, self._key)

    async def _follow(self, feed: _Feed, gone: asyncio.Future[None], send: Send) -> None:
        time = asyncio.get_running_loop().time
        ends_at = time() + LIFE_SECONDS * random.uniform(0.8, 1.2)
        known, number, said_at = self._told.known, 0, float("-inf")
        while not gone.done() and not self._streams.ending and time() < ends_at:
            document, piece = feed.document, b""
            if document.tag != known:
                number, known = number + 1, document.tag
                piece = _event(document, self._told.signatures.of(document, number))
            elif time() - said_at >= HEARTBEAT_SECONDS:
                piece = _HEARTBEAT
                self._told.still_here(known)
            if piece:
                said_at = time()
                message = {"type": "http.response.body", "body": piece, "more_body": True}
                await asyncio.wait_for(send(message), STUCK_SECONDS)
            else:
                await _wait(feed, gone, said_at + HEARTBEAT_SECONDS - time())


_HEARTBEAT = b": here\n\n"


def _event(document: Document, signature: str | None) -> bytes:
    signed = b"" if signature is None else b"signature: %s\n" % signature.encode()
    return b"event: rules\nid: %s\n%sdata: %s\n\n" % (document.tag.encode(), signed, document.body)


async def _departure(receive: Receive) -> None:
    """Wait until the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait(feed: _Feed, gone: asyncio.Future[None], seconds: float) -> None:
    """Wait until there is something to look at, for `seconds` at most; without a task, of which each costs memory."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        _settle(waiter)

    timer = loop.call_later(max(0.0, seconds), wake)
    gone.add_done_callback(wake)
    feed.waiting.add(waiter)
    try:
        await waiter
    finally:
        feed.waiting.discard(waiter)
        gone.remove_done_callback(wake)
        timer.cancel()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
