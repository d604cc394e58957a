"""The endpoints of the wire contract, and what the hosted platform answers to them."""

from __future__ import annotations

import hashlib
import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from ...events.header_text import repaired
from ...models import AgentStatus, EventBatch
from ...version import __version__
from ..askers import Askers, etag
from ..openapi import Accepted, Ready, Success, handing_out_rules, probing, receiving
from ..refusal import Refusal
from ..settings import BackendSettings
from ..storage.rollups import MAX_TEXT
from ..storage.store import Store
from .body import EncryptedEnvelope, EncryptedRows, decrypt, parse
from .desk import Desk
from .grants import Grants, wrong_project
from .intake import Intake


def contract_router(
    store: Store, settings: BackendSettings, grants: Grants, desk: Desk, intake: Intake, askers: Askers
) -> APIRouter:
    """Return the routes that senders use. Each of them wants a key, and works for that key's project alone."""
    router = APIRouter(prefix="/api/v1")

    def store_batch(project_id: str, body: bytes) -> Accepted:
        batch = parse(EventBatch, body)
        # A batch that names no project is the key's own.
        if "project_id" in batch.model_fields_set and batch.project_id != project_id:
            raise wrong_project("project_id")
        return intake.keep(project_id, batch.batch_id, batch.events, batch.metrics)

    def store_encrypted(project_id: str, body: bytes) -> Accepted:
        envelope = parse(EncryptedEnvelope, body)
        rows = parse(EncryptedRows, decrypt(envelope, settings.encryption_key))
        return intake.keep(project_id, envelope.batch_id, rows.events, rows.metrics)

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


def _told(answer: Accepted | Ready) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
