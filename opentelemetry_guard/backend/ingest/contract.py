"""The endpoints of the wire contract, and what the hosted platform answers to them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from ...events.header_text import repaired
from ...models import AgentStatus, EventBatch, SecurityEvent, SecurityMetric
from ...version import __version__
from ..openapi import Accepted, Ready, Success, handing_out_rules, probing, receiving
from ..refusal import Refusal
from ..settings import BackendSettings
from ..storage.store import Store
from .body import EncryptedEnvelope, EncryptedRows, check_signature, decompress, decrypt, parse, too_large
from .grants import Grants, wrong_project
from .window import timely

ResultT = TypeVar("ResultT")

_PARSERS = 2
"""Bodies that are made rows at once: each may take up to 200 megabytes, and one thread at a time runs Python."""

_MOST_HELD = 64 * 1024 * 1024
"""Bytes of bodies that are held at once, complete or not."""

_READ_ON = 64 * 1024 * 1024
"""Bytes up to which a body that is too large is read to its end; none of it is kept."""


class _Desk:
    """How much is taken at once. Used on the event loop, but for the work on bodies."""

    def __init__(self, grants: Grants, settings: BackendSettings) -> None:
        self._settings, self._grants = settings, grants
        self._parsers = asyncio.Semaphore(_PARSERS)
        self._most, self._held = max(_MOST_HELD, 2 * settings.max_body_bytes), 0

    async def received(self, request: Request, work: Callable[[str, bytes], ResultT]) -> ResultT:
        """Read the body, and let `work` make rows of it for the key's project, on a thread."""
        project_id = await self._grants.project_of(request)
        if "content-length" not in request.headers:
            raise Refusal(411, "Content-Length is missing: send the body whole, and not in chunks.")
        with self._borrowed() as take:
            body = await _read(request, self._settings.max_body_bytes, take)
            async with self._parsers:
                return await run_in_threadpool(lambda: work(project_id, _opened(request, body, self._settings)))

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


def contract_router(store: Store, settings: BackendSettings, grants: Grants) -> APIRouter:
    """Return the routes that senders use. Each of them wants a key, and works for that key's project alone."""
    router, desk = APIRouter(prefix="/api/v1"), _Desk(grants, settings)

    def keep(
        project_id: str, batch_id: str, events: Sequence[SecurityEvent], metrics: Sequence[SecurityMetric]
    ) -> Accepted:
        now = time.time()
        kept = timely(events, now, settings.window_seconds)
        stored = store.add(project_id, batch_id, kept, metrics, now)
        return Accepted(
            events_received=len(events),
            events_dropped_invalid_timestamp=len(events) - len(kept),
            metrics_received=len(metrics),
            events_processed=len(kept),
            metrics_processed=len(metrics),
            accepted=stored.accepted,
            duplicates=stored.duplicates,
        )

    def store_batch(project_id: str, body: bytes) -> Accepted:
        batch = parse(EventBatch, body)
        # A batch that names no project is the key's own.
        if "project_id" in batch.model_fields_set and batch.project_id != project_id:
            raise wrong_project("project_id")
        return keep(project_id, batch.batch_id, batch.events, batch.metrics)

    def store_encrypted(project_id: str, body: bytes) -> Accepted:
        envelope = parse(EncryptedEnvelope, body)
        rows = parse(EncryptedRows, decrypt(envelope, settings.encryption_key))
        return keep(project_id, envelope.batch_id, rows.events, rows.metrics)

    @router.post("/events", **receiving(EventBatch, Accepted))
    @router.post("/metrics", **receiving(EventBatch, Accepted))
    async def post_batch(request: Request) -> Response:
        """Store a batch of events and metrics."""
        return _told(await desk.received(request, store_batch))

    @router.post("/events/encrypted", **receiving(EncryptedEnvelope, Accepted))
    async def post_encrypted(request: Request) -> Response:
        """Store a batch whose rows are encrypted."""
        return _told(await desk.received(request, store_encrypted))

    @router.post("/status", **receiving(AgentStatus, Success, installation=True))
    async def post_status(request: Request) -> Response:
        """Keep the latest status of an installation."""

        def store_status(project_id: str, body: bytes) -> None:
            status, install_id = parse(AgentStatus, body), request.headers.get("x-agent-install-id")
            if not install_id:
                raise Refusal(422, "X-Agent-Install-Id is missing: send the UUID of the installation.")
            agent = repaired(request.headers.get("user-agent", ""))
            store.set_status(project_id, install_id, agent, status, time.time())

        await desk.received(request, store_status)
        return JSONResponse({"success": True})

    @router.get("/status", **probing())
    async def get_status(request: Request) -> Response:
        """Say whether the backend takes what this key sends now."""
        project_id = await grants.project_of(request)
        await run_in_threadpool(store.check)
        return _told(Ready(project_id=project_id, version=__version__))

    @router.get("/rules", **handing_out_rules())
    async def get_rules(request: Request) -> Response:
        """Hand out the project's dynamic rules."""
        rules = await run_in_threadpool(store.rules, await grants.project_of(request))
        body = rules.model_dump_json().encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if matches_etag(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    return router


def matches_etag(if_none_match: str, etag: str) -> bool:
    """Whether an `If-None-Match` header names `etag`, compared weakly (RFC 9110, section 13.1.2)."""
    offered = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in offered or "*" in offered


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


def _opened(request: Request, body: bytes, settings: BackendSettings) -> bytes:
    """Decompress the body and check its signature."""
    plain = decompress(body, request.headers.get("content-encoding", "").strip().lower(), settings.max_body_bytes)
    if settings.signing_secret is not None:
        check_signature(plain, request.headers.get("x-payload-signature"), settings.signing_secret)
    return plain


def _told(answer: Accepted | Ready) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
