"""The endpoints of the wire contract, and what the hosted platform answers to them."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from ...events.header_text import repaired
from ...models import AgentStatus, EventBatch
from ...version import __version__
from ..openapi import Accepted, Ready, Success, probing, receiving
from ..refusal import Refusal
from ..settings import BackendSettings
from ..storage.store import Store
from .body import EncryptedEnvelope, EncryptedRows, decrypt, parse
from .desk import Desk
from .grants import Grants, wrong_project
from .intake import Intake


def contract_router(store: Store, settings: BackendSettings, grants: Grants, desk: Desk, intake: Intake) -> APIRouter:
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

    return router


def _told(answer: Accepted | Ready) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
