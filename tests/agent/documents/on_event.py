"""The documents' quick start, with nothing changed but the import and where Redis is."""

from __future__ import annotations

import os

from fastapi import FastAPI
from redis.asyncio import Redis

from opentelemetry_guard import AgentConfig, SecurityEvent, SecurityMetric, guard_agent
from opentelemetry_guard.redis_handler import RedisHandler
from opentelemetry_guard.utils import get_current_timestamp

app = FastAPI()
config = AgentConfig(api_key="your-api-key", project_id="your-project-id", buffer_size=100, flush_interval=30)
agent = guard_agent(config)


@app.on_event("startup")
async def startup_event() -> None:
    if "REDIS_URL" in os.environ:
        await agent.initialize_redis(RedisHandler(Redis.from_url(os.environ["REDIS_URL"])))
    await agent.start()


@app.on_event("shutdown")
async def shutdown_event() -> None:
    await agent.stop()


@app.post("/report-event")
async def report_event() -> dict[str, str]:
    await agent.send_event(
        SecurityEvent(
            timestamp=get_current_timestamp(),
            event_type="custom_rule_triggered",
            ip_address="192.168.1.100",
            action_taken="logged",
            reason="Manual event",
            endpoint="/report-event",
            method="POST",
        )
    )
    return {"status": "event sent"}


@app.post("/report-metric")
async def report_metric() -> dict[str, str]:
    await agent.send_metric(
        SecurityMetric(
            timestamp=get_current_timestamp(), metric_type="request_count", value=1.0, endpoint="/a", tags={"m": "GET"}
        )
    )
    return {"status": "metric sent"}


@app.get("/rules")
async def rules() -> dict[str, object]:
    found = await agent.get_dynamic_rules()
    if found is None:
        return {}
    return {
        "ip_blacklist": found.ip_blacklist,
        "limit": found.endpoint_rate_limits.get("/report-event"),
        "emergency_mode": found.emergency_mode,
    }


@app.get("/status")
async def status() -> dict[str, object]:
    found = await agent.get_status()
    return {
        "status": found.status,
        "uptime": found.uptime,
        "events_sent": found.events_sent,
        "buffer_size": found.buffer_size,
        "errors": found.errors,
    }


@app.get("/stats")
def stats() -> dict[str, object]:
    found = agent.get_stats()
    return {
        **{name: found[name] for name in ("running", "events_sent", "transport_stats", "buffer_stats")},
        "open": agent.transport.get_stats()["circuit_breaker_state"] == "OPEN",
    }


@app.post("/flush")
async def flush() -> dict[str, object]:
    await agent.flush_buffer()
    healthy = await agent.health_check()
    return {"healthy": healthy, "exactly": healthy is True}


@app.post("/close")
async def close() -> dict[str, bool]:
    await agent.close()
    return {"running": agent.get_stats()["running"]}
