"""A guard within an application that refuses every request and reports that, as fastapi-guard does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import PlainTextResponse
from support.recording import Recording

from opentelemetry_guard.instrumentation.http import following as request_following


class ReportingGuard:
    """ASGI middleware."""

    def __init__(self, app: Any, recorded: Recording, report: Mapping[str, object], status: int) -> None:
        self.app, self.recorded, self.report, self.status = app, recorded, report, status

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await request_following.follow(self._refuse, scope, receive, send)

    async def _refuse(self, scope: Any, receive: Any, send: Any) -> None:
        request = request_following.current()
        assert request is not None
        request.report(dict(self.report), self.recorded.pipeline.emitter.emit_event)
        await PlainTextResponse("no", status_code=self.status)(scope, receive, send)
