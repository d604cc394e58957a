"""The seams of the agent as typing Protocols: what a transport, a Redis handler, a buffer and an agent have to offer.

An object that has the methods fits; nothing has to be inherited. Each
`isinstance` check looks for the methods' names only.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from .models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric

__all__ = ["AgentHandlerProtocol", "BufferProtocol", "RedisHandlerProtocol", "TransportProtocol"]


@runtime_checkable
class TransportProtocol(Protocol):
    """Carries rows and statuses to a collector of your own, and brings rules back.

    Assign one to `agent.transport`. It is called for one batch at a time;
    methods that are not coroutines work as well. ``True`` (or None, where a
    method returns nothing) means that the collector has it. Anything else,
    or an exception, means "not now": the batch stays in the queue and comes
    again.

    Two more methods are called where there are any: `initialize` before the
    first batch, `close` when the delivery ends.
    """

    async def send_events(self, events: list[SecurityEvent]) -> bool:
        """Hand over a batch of events; return whether the collector has it."""
        ...

    async def send_metrics(self, metrics: list[SecurityMetric]) -> bool:
        """Hand over a batch of metrics; return whether the collector has it."""
        ...

    async def fetch_dynamic_rules(self) -> DynamicRules | None:
        """Return the rules in force; None where there are none."""
        ...

    async def send_status(self, status: AgentStatus) -> bool:
        """Hand over a status report; return whether the collector has it."""
        ...


@runtime_checkable
class RedisHandlerProtocol(Protocol):
    """A store of values by namespace and key, as fastapi-guard's own Redis handler is one.

    A value that is not there is None, never an error; `ttl` is in seconds.
    """

    async def initialize(self) -> None:
        """Connect; called once, before anything else."""
        ...

    async def get_key(self, namespace: str, key: str) -> Any:
        """Return what is stored under `key` of `namespace`; None where nothing is."""
        ...

    async def set_key(self, namespace: str, key: str, value: Any, ttl: int | None = None) -> bool | None:
        """Store `value`, for `ttl` seconds or for good; return whether it is stored."""
        ...

    async def delete(self, namespace: str, key: str) -> int | None:
        """Delete what is stored under `key`; return how many values went."""
        ...

    async def keys(self, pattern: str) -> list[str] | None:
        """Return the keys that match a pattern with ``*``."""
        ...

    def get_connection(self) -> Any:
        """Return the client underneath, as an asynchronous context manager."""
        ...


@runtime_checkable
class BufferProtocol(Protocol):
    """Holds rows between their making and their delivery, in the words of the agent's documents.

    `opentelemetry_guard` itself buffers in the SDK's processors and in its
    delivery queue (`opentelemetry_guard.queue.base.DeliveryQueue`); this one
    is for code that is typed against the documents.
    """

    async def add_event(self, event: SecurityEvent) -> None:
        """Take one event."""
        ...

    async def add_metric(self, metric: SecurityMetric) -> None:
        """Take one metric."""
        ...

    async def flush_events(self) -> list[SecurityEvent]:
        """Give up and return every event that is held."""
        ...

    async def flush_metrics(self) -> list[SecurityMetric]:
        """Give up and return every metric that is held."""
        ...

    async def flush_events_with_keys(self) -> tuple[list[SecurityEvent], list[str]]:
        """Give up and return every event, with the keys of their copies."""
        ...

    async def flush_metrics_with_keys(self) -> tuple[list[SecurityMetric], list[str]]:
        """Give up and return every metric, with the keys of their copies."""
        ...

    async def confirm_event_redis_keys(self, keys: list[str]) -> None:
        """Delete the copies of events that were delivered."""
        ...

    async def confirm_metric_redis_keys(self, keys: list[str]) -> None:
        """Delete the copies of metrics that were delivered."""
        ...

    async def requeue_events_in_memory(self, events: list[SecurityEvent], keys: list[str]) -> list[str]:
        """Take back events that were not delivered; return the keys of those for which there was no room."""
        ...

    async def requeue_metrics_in_memory(self, metrics: list[SecurityMetric], keys: list[str]) -> list[str]:
        """Take back metrics that were not delivered; return the keys of those for which there was no room."""
        ...

    async def get_buffer_size(self) -> int:
        """Return how many rows are held."""
        ...

    async def clear_buffer(self) -> None:
        """Forget every row."""
        ...


@runtime_checkable
class AgentHandlerProtocol(Protocol):
    """An agent, as fastapi-guard drives one; `opentelemetry_guard.guard_agent` makes one.

    Sending neither blocks nor raises.
    """

    async def initialize_redis(self, redis_handler: RedisHandlerProtocol) -> None:
        """Use the Redis behind `redis_handler`."""
        ...

    async def send_event(self, event: Any) -> None:
        """Take one security event."""
        ...

    async def send_metric(self, metric: Any) -> None:
        """Take one security metric."""
        ...

    async def start(self) -> None:
        """Begin to deliver."""
        ...

    async def stop(self) -> None:
        """Deliver what can be delivered, and end; a second call does nothing."""
        ...

    async def flush_buffer(self) -> None:
        """Deliver now what can be delivered."""
        ...

    async def get_dynamic_rules(self) -> DynamicRules | None:
        """Return the rules in force; None where there are none."""
        ...

    async def health_check(self) -> bool:
        """Return whether the agent delivers."""
        ...

    async def get_status(self) -> AgentStatus:
        """Return how the agent is doing."""
        ...

    async def close(self) -> None:
        """Stop, and forget the agent."""
        ...
