"""The code of the guard_agent documents, with another import."""

import os

from fastapi import FastAPI, Request

from opentelemetry_guard import AgentConfig, SecurityEvent, guard_agent
from opentelemetry_guard.utils import get_current_timestamp

app = FastAPI()
agent = guard_agent(
    AgentConfig(
        api_key=os.environ.get("OTEL_EXPORTER_GUARD_API_KEY", "your-api-key"),
        project_id="your-project-id",
        flush_interval=1,
    )
)


@app.on_event("startup")
async def start() -> None:
    """Start the agent with the application."""
    await agent.start()


@app.on_event("shutdown")
async def stop() -> None:
    """Send what is left."""
    await agent.stop()


@app.post("/report")
async def report(request: Request) -> dict[str, object]:
    """Report an event of the application's own."""
    await agent.send_event(
        SecurityEvent(
            timestamp=get_current_timestamp(),
            event_type="custom_rule_triggered",
            ip_address=request.client.host if request.client else "",
            action_taken="logged",
            reason="reported by hand",
        )
    )
    return {"running": agent.get_stats()["running"]}
