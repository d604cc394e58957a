"""Where bodies are handed in: how many bytes are held at once, and how many bodies are worked on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from ..refusal import Refusal
from ..settings import BackendSettings
from .body import check_signature, decompress, too_large
from .grants import Grants

ResultT = TypeVar("ResultT")

_WORKERS = 16
"""Bodies that are worked on at once: while some wait for the disk, others are read."""

_LARGEST_AT_ONCE = 2
"""Bodies of the largest size that are made rows and stored at once: each may take up to 200 megabytes."""

_MOST_HELD = 64 * 1024 * 1024
"""Bytes of bodies that are held at once, complete or not."""

OTLP_BODY_BYTES = 2 * 1024 * 1024
"""Bytes of an OTLP request that are taken at least: its senders count records, and split nothing that is refused.
A million records without content take 130 megabytes."""

_READ_ON = 64 * 1024 * 1024
"""Bytes up to which a body that is too large is read to its end; none of it is kept."""


class Room:
    """What the bodies may have that are made rows at once, in bytes of JSON; safe to use from any thread."""

    def __init__(self, size: int) -> None:
        """Have room for `size` bytes."""
        # It guards how much is left, and tells when there is more.
        self._changed = threading.Condition()
        self._left = size

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Have `size` bytes for the block, as soon as others leave so many; no more than there are in all."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()


class Desk:
    """How much is taken at once, of all routes together. Used on the event loop, but for the work on bodies."""

    def __init__(self, grants: Grants, settings: BackendSettings) -> None:
        """Take what `grants` allows, within the bounds of `settings`."""
        self._settings, self._grants = settings, grants
        self._workers = asyncio.Semaphore(_WORKERS)
        self._most, self._held = max(_MOST_HELD, 2 * settings.max_body_bytes), 0
        self._room = Room(_LARGEST_AT_ONCE * max(settings.max_body_bytes, OTLP_BODY_BYTES))

    async def received(self, request: Request, work: Callable[[str, bytes], ResultT], *, otlp: bool = False) -> ResultT:
        """Read the body, and let `work` make rows of it for the key's project, on a thread.

        Who sends OTLP may do as its receivers allow: give the key as a bearer, send in chunks, and more at once.
        """
        project_id = await self._grants.project_of(request, bearer=otlp)
        most = max(self._settings.max_body_bytes, OTLP_BODY_BYTES) if otlp else self._settings.max_body_bytes
        if not otlp and "content-length" not in request.headers:
            raise Refusal(411, "Content-Length is missing: send the body whole, and not in chunks.")
        with self._borrowed() as take:
            body = await _read(request, most, take)
            async with self._workers:
                return await run_in_threadpool(self._worked, request, body, most, partial(work, project_id))

    def _worked(self, request: Request, body: bytes, most: int, work: Callable[[bytes], ResultT]) -> ResultT:
        plain = _opened(request, body, most, self._settings)
        with self._room.of(len(plain)):
            return work(plain)

    @contextmanager
    def _borrowed(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes so many bytes more, until the end of the block."""
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self._held + size > self._most:
                raise Refusal(503, "The backend holds as many bodies as it can: send this one later.")
            self._held += size
            mine += size

        try:
            yield take
        finally:
            self._held -= mine


async def _read(request: Request, max_bytes: int, take: Callable[[int], None]) -> bytes:
    """Collect the body as it came, up to `max_bytes`.

    A larger one is read on for a while and thrown away: an answer to somebody
    who is still sending is lost when the connection closes.
    """
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            take(len(chunk))
            body += chunk
        elif size > max(_READ_ON, max_bytes):
            break
    if size > max_bytes:
        raise too_large(max_bytes)
    return bytes(body)


def _opened(request: Request, body: bytes, most: int, settings: BackendSettings) -> bytes:
    """Decompress the body and check its signature."""
    plain = decompress(body, request.headers.get("content-encoding", "").strip().lower(), most)
    if settings.signing_secret is not None:
        check_signature(plain, request.headers.get("x-payload-signature"), settings.signing_secret)
    return plain
