"""The endpoint of the dynamic rules, which notes who asks and what they have."""

from __future__ import annotations

import hashlib
import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from ..askers import Askers, etag
from ..openapi import handing_out_rules
from ..storage.rollups import MAX_TEXT
from ..storage.store import Store
from .grants import Grants


def handout_router(store: Store, grants: Grants, askers: Askers) -> APIRouter:
    """Return the route that hands out the rules of the key's project."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/rules", **handing_out_rules())
    async def get_rules(request: Request) -> Response:
        """Hand out the project's dynamic rules."""
        project_id = await grants.project_of(request)
        rules = await run_in_threadpool(store.rules, project_id)
        body, known = rules.model_dump_json().encode(), request.headers.get("if-none-match", "")
        tag = etag(rules.version, hashlib.sha256(body).hexdigest()[:32])
        if install_id := request.headers.get("x-agent-install-id", "")[:MAX_TEXT]:
            askers.note(project_id, install_id, known, rules.ttl, time.time())
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if matches_etag(known, tag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    return router


def matches_etag(if_none_match: str, etag: str) -> bool:
    """Whether an `If-None-Match` header names `etag`, compared weakly (RFC 9110, section 13.1.2)."""
    offered = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in offered or "*" in offered
