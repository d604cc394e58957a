"""The same transport with methods that are no coroutines, assigned after the agent has started."""

from __future__ import annotations

from fastapi import FastAPI

from opentelemetry_guard import AgentConfig, SecurityEvent, SecurityMetric, guard_agent
from opentelemetry_guard.models import AgentStatus, DynamicRules

from .received import note


class SyncTransport:
    def send_events(self, events: list[SecurityEvent]) -> bool:
        note("events", events)
        return True

    def send_metrics(self, metrics: list[SecurityMetric]) -> bool:
        note("metrics", metrics)
        return True

    def fetch_dynamic_rules(self) -> DynamicRules | None:
        return DynamicRules(rule_id="mine", version=7, ip_blacklist=["192.0.2.66"])

    def send_status(self, status: AgentStatus) -> bool:
        note("status", [status])
        return True


app = FastAPI()
agent = guard_agent(
    AgentConfig(api_key="your-api-key", project_id="your-project-id", endpoint="http://127.0.0.1:9", status_interval=0)
)


@app.on_event("startup")
async def startup_event() -> None:
    await agent.start()
    agent.transport = SyncTransport()


@app.on_event("shutdown")
async def shutdown_event() -> None:
    await agent.stop()


@app.post("/report-event")
def report_event(number: str) -> dict[str, str]:
    agent.sync.send_event(SecurityEvent(event_type="custom_rule_triggered", reason=number))
    agent.sync.send_metric(SecurityMetric(metric_type="request_count", value=1, endpoint="/report"))
    return {"status": "event sent"}


@app.get("/rules")
def rules() -> dict[str, object]:
    found = agent.sync.get_dynamic_rules()
    return {"version": found.version, "ip_blacklist": found.ip_blacklist} if found else {}
