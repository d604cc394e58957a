"""What `initialize_redis` takes, and what becomes of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from agent.conftest import MakeAgent
from redis.credentials import UsernamePasswordCredentialProvider
from support.guard_server import Answer, GuardServer
from support.redis import RedisServer, eventually

from opentelemetry_guard import RedisHandler
from opentelemetry_guard.agent.copies import EVENTS
from opentelemetry_guard.agent.redis_address import NoAddress, queue_url_of
from opentelemetry_guard.protocols import RedisHandlerProtocol


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", password="s3cret/@")
    server.start()
    yield server
    server.stop()


URLS = {
    "redis://localhost:6379": "redis://localhost:6379/0",
    "redis://user:p%40w@h:1/3": "redis://user:p%40w@h:1/3",
    "rediss://h?ssl_ca_certs=/x/ca.pem": "rediss://h:6379/0?ssl_ca_certs=%2Fx%2Fca.pem",
    "redis://[::1]:7/1": "redis://[::1]:7/1",
}


@pytest.mark.parametrize("package", [redis, redis.asyncio])
@pytest.mark.parametrize("url", URLS)
def test_the_address_is_learned_from_a_client_of_either_kind(package: Any, url: str) -> None:
    client = package.Redis.from_url(url)
    assert queue_url_of(RedisHandler(client)) == URLS[url]
    assert queue_url_of(RedisHandler(redis=client)) == URLS[url]
    assert queue_url_of(client) == URLS[url]


def test_arguments_sentinels_clusters_and_credentials_are_understood() -> None:
    assert queue_url_of(redis.asyncio.Redis(host="a", password="x", db=2, ssl=True)) == "rediss://:x@a:6379/2"
    provider = UsernamePasswordCredentialProvider("u", "p")
    assert queue_url_of(redis.Redis(host="a", credential_provider=provider)) == "redis://u:p@a:6379/0"
    sentinel = redis.Sentinel([("a", 1), ("b", 2)], sentinel_kwargs={"password": "sp"}, password="mp")
    assert queue_url_of(sentinel.master_for("m")) == "redis+sentinel://:mp@a:1,b:2/m/0?sentinel_password=sp"
    cluster = redis.asyncio.RedisCluster(host="c", port=7000, password="q")
    assert queue_url_of(RedisHandler(cluster)) == "redis+cluster://:q@c:7000"


def test_the_address_is_learned_from_fastapi_guards_own_handler() -> None:
    handlers = pytest.importorskip("guard_core.handlers.redis_handler")
    models = pytest.importorskip("guard_core.models")
    url = "redis://:s3cret@h:6380/2?decode_responses=true"
    manager = handlers.RedisManager(models.SecurityConfig(enable_redis=True, redis_url=url))
    assert queue_url_of(manager) == "redis://:s3cret@h:6380/2"


@pytest.mark.parametrize("handler", [object(), redis.Redis(unix_socket_path="/tmp/x"), None])
def test_what_tells_no_usable_address_is_said_to(handler: object) -> None:
    with pytest.raises(NoAddress):
        queue_url_of(handler)


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
@pytest.mark.parametrize("package", [redis, redis.asyncio])
def test_batches_wait_in_redis_from_then_on(
    make_agent: MakeAgent, server: GuardServer, redis_server: RedisServer, started: bool, package: Any
) -> None:
    agent = make_agent()
    if started:
        agent.start()
    handler = RedisHandler(package.Redis.from_url(redis_server.url.replace("/@", "%2F%40")))

    async def main() -> None:
        await agent.initialize_redis(handler)
        await agent.start()

    asyncio.run(main())
    server.answer(503)
    agent.send_event({"event_type": "x", "reason": "kept"})
    agent.flush_buffer()
    with redis_server.client() as client:
        assert client.keys("*")
    server.wait_for_events(1)
    assert agent.delivery is not None
    assert "s3cret" not in f"{agent!r} {agent.get_stats()} {handler!r} {agent.delivery.config!r}"


@pytest.mark.parametrize("package", [redis, redis.asyncio])
def test_the_handler_is_a_store_of_values_by_namespace(redis_server: RedisServer, package: Any) -> None:
    async def main() -> None:
        client = package.Redis(port=redis_server.port, password="s3cret/@", decode_responses=True)
        handler = RedisHandler(client)
        await handler.initialize()
        assert await handler.get_key("n", "k") is None
        assert await handler.set_key("n", "k", "v", ttl=60) is True
        assert await handler.get_key("n", "k") == "v"
        assert await handler.keys("n:*") == ["n:k"]
        async with handler.get_connection() as connection:
            assert connection is client
        assert await handler.delete("n", "k") == 1
        assert await handler.delete("n", "k") == 0
        if package is redis.asyncio:
            await client.aclose()
        else:
            client.close()

    asyncio.run(main())


def test_the_handler_satisfies_the_protocols() -> None:
    handler = RedisHandler(redis.Redis())
    assert isinstance(handler, RedisHandlerProtocol)
    theirs = pytest.importorskip("guard_core.protocols.redis_protocol")
    assert isinstance(handler, theirs.RedisHandlerProtocol)


@pytest.mark.parametrize("arguments", [{}, {"client": redis.Redis(), "redis": redis.Redis()}])
def test_a_handler_wants_one_client(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="RedisHandler takes one client"):
        RedisHandler(**arguments)


class Store:
    """A store of values that tells no address."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.copied = threading.Event()

    def initialize(self) -> None:
        """Nothing is to be opened."""

    def get_connection(self) -> Any:
        raise NotImplementedError

    def get_key(self, namespace: str, key: str) -> Any:
        return self.values.get(f"{namespace}:{key}")

    def set_key(self, namespace: str, key: str, value: Any, ttl: int | None = None) -> bool:
        self.values[f"{namespace}:{key}"] = value
        if namespace == EVENTS:
            self.copied.set()
        return True

    def delete(self, namespace: str, key: str) -> int:
        return int(self.values.pop(f"{namespace}:{key}", None) is not None)

    def keys(self, pattern: str) -> list[str]:
        return [name for name in list(self.values) if name.startswith(pattern.rstrip("*"))]


@pytest.mark.parametrize("answer", [200, 422], ids=["taken", "refused"])
def test_a_copy_stays_while_its_event_waits_and_goes_when_that_is_settled(
    make_agent: MakeAgent, server: GuardServer, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    store = Store()
    judge = server.receive
    copies: list[int] = []

    def receive(path: str, headers: Mapping[str, str], raw: bytes) -> Answer:
        assert store.copied.wait(20)
        copies.append(len(store.keys(f"{EVENTS}:*")))
        return judge(path, headers, raw)

    agent = make_agent()
    agent.start()
    agent.send_event({"event_type": "taken, so that it is the backend that refuses"})
    agent.flush_buffer()
    server.wait_for_events(1)
    agent.initialize_redis(store)
    monkeypatch.setattr(server, "receive", receive)
    server.answer(503)
    server.answer(answer, {"success": True} if answer == 200 else {"detail": "no"})
    agent.send_event({"event_type": "x"})
    agent.flush_buffer()
    eventually(lambda: len(copies) == 2)
    eventually(lambda: store.keys(f"{EVENTS}:*") == [])
    assert copies == [1, 1]
