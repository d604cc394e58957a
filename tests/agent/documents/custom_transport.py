"""A transport with nothing but the methods of the protocol, asynchronous; what it gets goes to a file."""

from __future__ import annotations

from fastapi import FastAPI

from opentelemetry_guard import AgentConfig, SecurityEvent, SecurityMetric, guard_agent
from opentelemetry_guard.models import AgentStatus, DynamicRules
from opentelemetry_guard.protocols import TransportProtocol
from opentelemetry_guard.utils import get_current_timestamp

from .received import note


class CustomTransport:
    def __init__(self) -> None:
        self.refused = 0

    async def send_events(self, events: list[SecurityEvent]) -> bool:
        if self.refused < 2:
            self.refused += 1
            return False
        note("events", events)
        return True

    async def send_metrics(self, metrics: list[SecurityMetric]) -> bool:
        note("metrics", metrics)
        return True

    async def fetch_dynamic_rules(self) -> DynamicRules | None:
        return DynamicRules(rule_id="mine", version=7, ip_blacklist=["192.0.2.66"])

    async def send_status(self, status: AgentStatus) -> bool:
        note("status", [status])
        return True


app = FastAPI()
agent = guard_agent(AgentConfig(api_key="your-api-key", project_id="your-project-id", backoff_factor=0.05))
agent.transport = CustomTransport()
assert isinstance(agent.transport, TransportProtocol)


@app.on_event("startup")
async def startup_event() -> None:
    await agent.start()


@app.on_event("shutdown")
async def shutdown_event() -> None:
    await agent.stop()


@app.post("/report-event")
async def report_event(number: str) -> dict[str, str]:
    await agent.send_event(
        SecurityEvent(timestamp=get_current_timestamp(), event_type="custom_rule_triggered", reason=number)
    )
    await agent.send_metric(
        SecurityMetric(timestamp=get_current_timestamp(), metric_type="request_count", value=1, endpoint="/report")
    )
    return {"status": "event sent"}


@app.get("/rules")
async def rules() -> dict[str, object]:
    found = await agent.get_dynamic_rules()
    return {} if found is None else {"version": found.version, "ip_blacklist": found.ip_blacklist}
