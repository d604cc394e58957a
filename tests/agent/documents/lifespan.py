"""The same with a lifespan, in which the agent is never stopped if the environment says so."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from opentelemetry_guard import AgentConfig, SecurityEvent
from opentelemetry_guard.client import guard_agent
from opentelemetry_guard.utils import get_current_timestamp

agent = guard_agent(AgentConfig(api_key="your-api-key", project_id="your-project-id"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await agent.start()
    yield
    if "NEVER_STOP" not in os.environ:
        await agent.stop()


app = FastAPI(lifespan=lifespan)


@app.post("/report-event")
async def report_event(number: str) -> dict[str, str]:
    await agent.send_event(
        SecurityEvent(timestamp=get_current_timestamp(), event_type="custom_rule_triggered", reason=number)
    )
    return {"status": "event sent"}


@app.post("/report-blocking")
def report_blocking(number: str) -> dict[str, str]:
    agent.sync.send_event(SecurityEvent(event_type="custom_rule_triggered", reason=number))
    return {"status": "event sent"}
