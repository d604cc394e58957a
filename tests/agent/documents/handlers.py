"""The other document's handler form: its endpoint declares no request."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from opentelemetry_guard import Guard
from opentelemetry_guard.client import guard_agent
from opentelemetry_guard.models import AgentConfig, SecurityEvent
from opentelemetry_guard.utils import get_current_timestamp

app = FastAPI()
agent = guard_agent(AgentConfig(api_key="your-api-key", project_id="your-project-id"))


@app.on_event("startup")
async def startup_event() -> None:
    await agent.start()


@app.on_event("shutdown")
async def shutdown_event() -> None:
    await agent.stop()


class AgentSecurityEventHandler:
    async def handle(self, request: Request, exc: Exception) -> Response:
        await agent.send_event(
            SecurityEvent(
                timestamp=get_current_timestamp(),
                event_type="suspicious_request",
                ip_address=request.client.host if request.client else "",
                action_taken="blocked",
                reason=str(exc),
                endpoint=request.url.path,
                method=request.method,
            )
        )
        return JSONResponse({"detail": "blocked"}, status_code=403)


guard = Guard(handlers={"suspicious_request": AgentSecurityEventHandler()})


@app.get("/protected")
@guard.protect("suspicious_request")
async def protected() -> dict[str, str]:
    raise ValueError("looks like a probe")


@app.get("/protected-blocking")
@guard.protect("suspicious_request")
def protected_blocking() -> dict[str, str]:
    raise ValueError("looks like another probe")
