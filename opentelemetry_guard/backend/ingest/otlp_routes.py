"""OTLP in: the paths at which any OpenTelemetry pipeline may hand in security events."""

from __future__ import annotations

from hashlib import sha256

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..openapi import receiving_otlp
from .desk import Desk
from .intake import Intake
from .otlp import LOGS, TRACES, Form, answer, check_media, read


def otlp_router(desk: Desk, intake: Intake) -> APIRouter:
    """Return the routes of OTLP/HTTP. Each of them wants a key, and works for that key's project alone."""
    router = APIRouter(prefix="/v1")

    async def take(request: Request, form: Form) -> Response:
        media = check_media(request.headers)

        def store(project_id: str, body: bytes) -> bytes:
            found = read(form, media, body)
            untimely = 0
            if found.events:
                batch_id = f"otlp-{sha256(body).hexdigest()[:32]}"
                untimely = intake.keep(project_id, batch_id, found.events, []).events_dropped_invalid_timestamp
            return answer(form, media, found, untimely)

        return Response(await desk.received(request, store, otlp=True), media_type=media)

    @router.post("/logs", **receiving_otlp("resourceLogs"))
    async def post_logs(request: Request) -> Response:
        """Store the log records that are security events; others are counted in the answer, and not stored."""
        return await take(request, LOGS)

    @router.post("/traces", **receiving_otlp("resourceSpans"))
    async def post_traces(request: Request) -> Response:
        """Store the security events of spans; spans without one are counted in the answer, and not stored."""
        return await take(request, TRACES)

    return router
