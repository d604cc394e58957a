"""The agent of the documents: a thin layer over OpenTelemetry and the delivery."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import Any

from .. import rules
from ..delivery.delivery import Delivery
from ..models import AgentStatus, DynamicRules
from ..settings.agent import AgentConfig, differences
from ..settings.once import log_once
from .sync import SyncAgent

_logger = logging.getLogger(__name__)


class GuardAgent:
    """What `guard_agent` returns: coroutines for code with an event loop, and `sync` with the same for other code.

    A coroutine does its work when it is awaited; Python warns of one that
    never is. The event loop is never blocked: what waits for the network
    (`stop`, `close`, `flush_buffer`, and `get_dynamic_rules` while no rules
    are known) does so in a thread. Any thread and any event loop may call any
    method; sending can't be cancelled half-way.

    .. versionadded:: 1.0
    """

    def __init__(self, config: AgentConfig) -> None:
        """Make an agent; nothing is opened and no thread is started before `start`."""
        self.sync = SyncAgent(config)

    async def send_event(self, event: Any) -> None:
        """Send one security event; see `SyncAgent.send_event`."""
        self.sync.send_event(event)

    async def send_metric(self, metric: Any) -> None:
        """Send one security metric; see `SyncAgent.send_metric`."""
        self.sync.send_metric(metric)

    async def start(self) -> None:
        """Begin to deliver, and send what was held; see `SyncAgent.start`."""
        self.sync.start()

    async def stop(self) -> None:
        """Deliver what can be delivered, and end; see `SyncAgent.stop`."""
        await asyncio.to_thread(self.sync.stop)

    async def close(self) -> None:
        """Stop, and forget the agent: the next `guard_agent` makes a new one."""
        await asyncio.to_thread(self.sync.close)

    async def flush_buffer(self) -> None:
        """Deliver now what can be delivered; what can't stays in the queue."""
        await asyncio.to_thread(self.sync.flush_buffer)

    async def initialize_redis(self, redis_handler: Any) -> None:
        """Let batches wait in the Redis behind `redis_handler`; see `SyncAgent.initialize_redis`."""
        self.sync.initialize_redis(redis_handler)

    async def get_dynamic_rules(self) -> DynamicRules | None:
        """Return the rules in force, None where there are none; see `SyncAgent.get_dynamic_rules`."""
        if self.sync.asks_for_rules:
            return await asyncio.to_thread(self.sync.get_dynamic_rules)
        return rules.current()

    async def get_status(self) -> AgentStatus:
        """Return how the delivery is doing; `errors` says what is wrong and what to do."""
        return self.sync.get_status()

    async def health_check(self) -> bool:
        """Return whether the agent runs, reaches the backend as far as it knows, and loses nothing; it asks nobody."""
        return self.sync.health_check()

    def get_stats(self) -> dict[str, Any]:
        """Return counts of this agent, its buffer and its transport; `uptime` is in seconds."""
        return self.sync.get_stats()

    @property
    def config(self) -> AgentConfig:
        """The settings that the agent was made with."""
        return self.sync.config

    @property
    def delivery(self) -> Delivery | None:
        """The delivery that the agent shares with the exporters; None before `start`, and while export is off."""
        return self.sync.delivery

    @property
    def transport(self) -> Any:
        """What makes the calls; see `SyncAgent.transport`."""
        return self.sync.transport

    @transport.setter
    def transport(self, transport: Any) -> None:
        self.sync.transport = transport

    def __repr__(self) -> str:
        return repr(self.sync)


_singleton_lock = threading.Lock()
_singleton: GuardAgent | None = None  # guarded by _singleton_lock


def guard_agent(config: AgentConfig) -> GuardAgent:
    """Return the agent of this process, made at the first call. No event loop need run, and nothing is begun.

    A later call with other settings returns the same agent, and says once in
    the log which settings are not used.

    Raises:
        TypeError: `config` is no `AgentConfig`.

    Example::

        agent = guard_agent(AgentConfig(api_key="...", project_id="..."))
        await agent.start()
        await agent.send_event(SecurityEvent(event_type="custom_rule_triggered", ip_address="192.0.2.7"))
    """
    global _singleton
    if not isinstance(config, AgentConfig):
        given = f"{type(config).__module__}.{type(config).__name__}"
        raise TypeError(
            f"guard_agent takes an AgentConfig of opentelemetry_guard, not a {given}: AgentConfig(api_key=...)"
        )
    with _singleton_lock:
        if _singleton is None or _singleton.sync.closed:
            _singleton = GuardAgent(config)
        agent = _singleton
    if agent.config is not config and (different := differences(agent.config, config)):
        log_once(
            _logger,
            logging.WARNING,
            f"guard_agent was called again with other settings; there is one agent a process, and the first call's "
            f"settings stay: {'; '.join(different)}. Call agent.close() first to begin anew",
        )
    return agent


def _after_fork_in_child() -> None:
    global _singleton_lock
    _singleton_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
