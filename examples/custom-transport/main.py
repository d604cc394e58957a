"""An agent whose batches go to a place of your own: here to standard output, as lines of JSON."""

import asyncio
import json
from collections.abc import Sequence

from opentelemetry_guard import AgentConfig, AgentStatus, DynamicRules, SecurityEvent, SecurityMetric, guard_agent


class Lines:
    """A transport: True or None means that a batch was taken, anything else that it comes again later."""

    async def send_events(self, events: Sequence[SecurityEvent]) -> bool:
        """Print the events."""
        for event in events:
            print(json.dumps({"event": event.event_type, "address": event.ip_address}), flush=True)
        return True

    async def send_metrics(self, metrics: Sequence[SecurityMetric]) -> bool:
        """Print the metrics."""
        for metric in metrics:
            print(json.dumps({"metric": metric.metric_type, "value": metric.value}), flush=True)
        return True

    async def fetch_dynamic_rules(self) -> DynamicRules | None:
        """Know no rules."""
        return None

    async def send_status(self, status: AgentStatus) -> bool:
        """Keep the status to itself."""
        return True


async def main() -> None:
    """Send an event and a metric; retries, queue and ledger are the agent's as always."""
    agent = guard_agent(AgentConfig(api_key="not-needed-here"))
    agent.transport = Lines()
    await agent.start()
    await agent.send_event(SecurityEvent(event_type="ip_banned", ip_address="203.0.113.7", action_taken="banned"))
    await agent.send_metric(SecurityMetric(metric_type="threat_level", value=0.9))
    await agent.stop()


asyncio.run(main())
