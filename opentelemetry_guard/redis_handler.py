"""The Redis handler of the documents: hands a Redis client to the agent.

Example::

    from redis.asyncio import Redis

    await agent.initialize_redis(RedisHandler(Redis.from_url("redis://localhost:6379")))
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

DEFAULT_PREFIX = "opentelemetry_guard:"


class RedisHandler:
    """A `RedisHandlerProtocol` over a client of redis-py, asynchronous or not.

    The agent learns the servers' address from the client and connects to them
    itself, so the client is used for nothing but the methods below.
    """

    def __init__(self, client: Any = None, *, redis: Any = None, prefix: str = DEFAULT_PREFIX) -> None:
        """Make a handler.

        Args:
            client: a `redis.asyncio.Redis`, a `redis.Redis` or their kin for clusters.
            redis: the same by its other name.
            prefix: begins every key.

        Raises:
            TypeError: there is no client, or there are two.
        """
        if (client is None) == (redis is None):
            raise TypeError("RedisHandler takes one client: RedisHandler(Redis.from_url('redis://localhost:6379'))")
        self.client = redis if client is None else client
        self.prefix = prefix

    async def initialize(self) -> None:
        """Reach the server; what fails is redis-py's error."""
        await self._ask("ping")

    async def get_key(self, namespace: str, key: str) -> Any:
        """Return what is stored under `key` of `namespace`, as the client decodes it; None where nothing is."""
        return await self._ask("get", self._name(namespace, key))

    async def set_key(self, namespace: str, key: str, value: Any, ttl: int | None = None) -> bool:
        """Store `value`, for `ttl` seconds or for good; return whether it is stored."""
        return bool(await self._ask("set", self._name(namespace, key), value, ex=ttl))

    async def delete(self, namespace: str, key: str) -> int:
        """Delete what is stored under `key`; return how many values went."""
        return int(await self._ask("delete", self._name(namespace, key)))

    async def keys(self, pattern: str) -> list[str]:
        """Return the keys of ours that match a pattern with ``*``, without the prefix."""
        found = await self._ask("keys", self.prefix + pattern)
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in found]
        return [name.removeprefix(self.prefix) for name in names]

    def get_connection(self) -> AbstractAsyncContextManager[Any]:
        """Return a context that gives the client."""
        return self._connection()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        yield self.client

    async def _ask(self, command: str, *arguments: object, **options: object) -> Any:
        method = getattr(self.client, command)
        if inspect.iscoroutinefunction(getattr(self.client, "execute_command", None)):
            return await method(*arguments, **options)
        # A client that blocks must not block the event loop.
        return await asyncio.to_thread(method, *arguments, **options)

    def _name(self, namespace: str, key: str) -> str:
        return f"{self.prefix}{namespace}:{key}"

    def __repr__(self) -> str:
        return f"RedisHandler({type(self.client).__module__}.{type(self.client).__name__})"
