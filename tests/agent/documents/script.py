"""The documents' calls in a script that has no event loop: `agent.sync` has them."""

from __future__ import annotations

import json

from opentelemetry_guard import AgentConfig, SecurityEvent, SecurityMetric, guard_agent
from opentelemetry_guard.utils import get_current_timestamp

agent = guard_agent(AgentConfig(api_key="your-api-key", project_id="your-project-id", buffer_size=100))
before = SecurityEvent(timestamp=get_current_timestamp(), event_type="custom_rule_triggered", reason="before start")
agent.sync.send_event(before)
agent.sync.start()
agent.sync.send_event(
    SecurityEvent(timestamp=get_current_timestamp(), event_type="custom_rule_triggered", reason="after")
)
agent.sync.send_metric(SecurityMetric(timestamp=get_current_timestamp(), metric_type="threat_level", value=0.5))
agent.sync.flush_buffer()
rules = agent.sync.get_dynamic_rules()
status = agent.sync.get_status()
stats = agent.get_stats()
print(
    json.dumps(
        {
            "ip_blacklist": rules.ip_blacklist if rules else None,
            "status": status.status,
            "errors": status.errors,
            "events_sent": status.events_sent,
            "buffer_size": status.buffer_size,
            "running": stats["running"],
            "breaker": agent.transport.get_stats()["circuit_breaker_state"],
            "healthy": agent.sync.health_check(),
        }
    )
)
agent.sync.stop()
agent.sync.close()
