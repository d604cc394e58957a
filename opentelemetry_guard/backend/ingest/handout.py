"""The endpoints of the dynamic rules, which note who asks and what they have."""

from __future__ import annotations

import hashlib
import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from ...decision.signing import SIGNATURE_HEADER
from ..askers import Askers
from ..openapi import handing_out_rules, streaming_rules
from ..settings import BackendSettings
from ..storage.rollups import MAX_TEXT
from ..storage.store import Store
from .documents import Signatures, document_of
from .grants import Grants
from .streams import Streams, Told


def handout_router(
    store: Store, settings: BackendSettings, grants: Grants, askers: Askers, streams: Streams
) -> APIRouter:
    """Return the routes that hand out the rules of the key's project."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/rules", **handing_out_rules())
    async def get_rules(request: Request) -> Response:
        """Hand out the project's dynamic rules."""
        project_id = await grants.project_of(request)
        signatures = Signatures(request, settings.signing_secret)
        document = await run_in_threadpool(document_of, store, project_id)
        known = request.headers.get("if-none-match", "")
        if install_id := _install_id(request):
            askers.note(project_id, install_id, known, document.ttl, time.time())
        headers = {"ETag": document.tag, "Cache-Control": "no-cache"}
        if matches_etag(known, document.tag):
            return Response(status_code=304, headers=headers)
        if (signature := signatures.of(document)) is not None:
            # It is for this question alone: from a cache it would fit none.
            headers |= {SIGNATURE_HEADER: signature, "Cache-Control": "no-store"}
        return Response(document.body, media_type="application/json", headers=headers)

    @router.get("/rules/stream", **streaming_rules())
    async def stream_rules(request: Request) -> Response:
        """Tell of the project's dynamic rules whenever they change, until the caller leaves."""
        project_id = await grants.project_of(request)
        install_id = _install_id(request)

        def still_here(tag: str) -> None:
            if install_id:
                askers.note(project_id, install_id, tag, Streams.TOLD_WITHIN, time.time())

        known = request.headers.get("last-event-id") or request.headers.get("if-none-match", "")
        key = hashlib.sha256(request.headers["x-api-key"].encode()).digest()
        return streams.response(project_id, key, Told(known, Signatures(request, settings.signing_secret), still_here))

    return router


def _install_id(request: Request) -> str:
    return request.headers.get("x-agent-install-id", "")[:MAX_TEXT]


def matches_etag(if_none_match: str, etag: str) -> bool:
    """Whether an `If-None-Match` header names `etag`, compared weakly (RFC 9110, section 13.1.2)."""
    offered = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in offered or "*" in offered
