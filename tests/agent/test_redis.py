"""What `initialize_redis` takes, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from agent.conftest import MakeAgent
from hypothesis import given
from hypothesis import strategies as st
from redis.credentials import UsernamePasswordCredentialProvider
from support.guard_server import GuardServer
from support.redis import (
    RedisCluster,
    RedisSentinel,
    RedisServer,
    eventually,
    redis_with_replicas,
    stop_master,
)

from opentelemetry_guard import RedisHandler
from opentelemetry_guard.agent.redis_address import NoAddress, queue_url_of
from opentelemetry_guard.protocols import RedisHandlerProtocol
from opentelemetry_guard.queue.redis.entries import keys_of
from opentelemetry_guard.queue.redis.store import RedisQueue
from opentelemetry_guard.queue.redis.url import parse_redis_url


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


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(username=_texts, password=_texts, db=st.integers(0, 999), port=st.integers(1, 65535), tls=st.booleans())
def test_whatever_the_credentials_are_the_queue_reads_what_the_client_was_given(
    username: str, password: str, db: int, port: int, tls: bool
) -> None:
    client = redis.Redis(host="h", port=port, username=username, password=password, db=db, ssl=tls)
    read = parse_redis_url(queue_url_of(client))
    assert (read.hosts, read.db, read.tls) == ((("h", port),), db, {} if tls else None)
    assert (read.username or "", read.password or "") == (username, password)


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
        agent.sync.start()
    handler = RedisHandler(package.Redis.from_url(redis_server.url.replace("/@", "%2F%40")))

    async def main() -> None:
        await agent.initialize_redis(handler)
        await agent.start()

    asyncio.run(main())
    server.answer(503)
    agent.sync.send_event({"event_type": "x", "reason": "kept"})
    agent.sync.flush_buffer()
    with redis_server.client() as client:
        assert client.keys("*")
    server.wait_for_events(1)
    assert agent.delivery is not None
    assert "s3cret" not in f"{agent!r} {agent.get_stats()} {handler!r} {agent.delivery.config!r}"


def _client(package: Any, running: RedisSentinel | RedisCluster) -> Any:
    """Make the client that an application has for its Redis."""
    if isinstance(running, RedisCluster):
        return package.RedisCluster(port=running.servers[0].port, host="127.0.0.1", password="s3cret")
    sentinels = parse_redis_url(running.url).hosts
    return package.Sentinel(sentinels, password="s3cret").master_for("guarded", password="s3cret")


@pytest.mark.slow
@pytest.mark.parametrize("package", [redis, redis.asyncio])
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
def test_batches_wait_in_a_redis_that_fails_over(
    make_agent: MakeAgent, server: GuardServer, topology: str, package: Any
) -> None:
    agent = make_agent(fleet_size=1)
    with redis_with_replicas(topology, "s3cret") as running:

        async def main() -> None:
            client = _client(package, running)
            await agent.initialize_redis(RedisHandler(client))
            await agent.start()
            await client.aclose() if package is redis.asyncio else client.close()

        asyncio.run(main())
        assert agent.delivery is not None
        queue = agent.delivery.queue
        assert isinstance(queue, RedisQueue)
        server.answer(503, times=1000)

        def fleet() -> int:
            found = queue.fleet()
            return 0 if found is None else found.batches["events"]

        agent.sync.send_event({"event_type": "x", "reason": "before"})
        agent.sync.flush_buffer()
        eventually(lambda: fleet() == 1)
        stop_master(running, keys_of(agent.delivery.config.destination)[0])
        agent.sync.send_event({"event_type": "x", "reason": "after"})
        agent.sync.flush_buffer()
        eventually(lambda: fleet() == 2 and queue.link.up, every=0.2)
        assert "s3cret" not in f"{agent!r} {agent.get_stats()} {agent.delivery.config!r}"


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

    async def initialize(self) -> None: ...

    def get_connection(self) -> Any: ...

    async def get_key(self, namespace: str, key: str) -> Any: ...

    async def set_key(self, namespace: str, key: str, value: Any, ttl: int | None = None) -> None: ...

    async def delete(self, namespace: str, key: str) -> None: ...

    async def keys(self, pattern: str) -> None: ...


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (Store(), "a Store does not tell where its Redis is"),
        (object(), "a object does not tell where its Redis is"),
        (None, "a NoneType does not tell where its Redis is"),
        (redis.Redis(unix_socket_path="/tmp/x"), "behind a Unix socket"),
    ],
)
@pytest.mark.parametrize("started", [False, True], ids=["before the start", "after the start"])
def test_a_handler_without_an_address_is_an_error_that_names_the_remedy(
    make_agent: MakeAgent, server: GuardServer, handler: object, said: str, started: bool
) -> None:
    agent = make_agent()
    if started:
        agent.sync.start()
    for call in (agent.sync.initialize_redis, lambda handler: asyncio.run(agent.initialize_redis(handler))):
        with pytest.raises(TypeError, match=said) as caught:
            call(handler)
        assert "OTEL_EXPORTER_GUARD_QUEUE_URL" in str(caught.value)
        assert "opentelemetry_guard_queue" in str(caught.value)
    agent.sync.start()
    agent.sync.send_event({"event_type": "x", "reason": "delivered all the same"})
    agent.sync.flush_buffer()
    assert [event["reason"] for event in server.events] == ["delivered all the same"]
