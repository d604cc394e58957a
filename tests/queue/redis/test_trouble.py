"""A Redis that refuses us is told in words that name the setting: passwords, permissions, TLS, sentinels, clusters."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from support.raw_server import make_certificate, server_context
from support.redis import RedisServer, ServerSet, eventually, proxy, redis_cluster, redis_server

from opentelemetry_guard.queue.base import QueueOptions
from opentelemetry_guard.queue.conformance import make_batch
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.redis.store import RedisQueue
from opentelemetry_guard.queue.redis.trouble import OUTAGE, trouble_of
from opentelemetry_guard.queue.redis.url import parse_redis_url

OPTIONS = QueueOptions("ab12", max_bytes=1_000_000, lease_seconds=2.0)
ACL = "on >right ~{guard:* +@read +@write +@scripting +time"


def error_of(url: str, words: str) -> str:
    """Return why a queue can't use its Redis, once it says so in these words: a slow server is told of before that."""
    queue = RedisQueue(parse_redis_url(url), OPTIONS, MemoryQueue(OPTIONS))
    try:
        eventually(
            lambda: queue.append(make_batch("a")) or words in str(queue.link.last_error),
            told=lambda: f"but {queue.link.last_error}",
        )
        return str(queue.link.last_error)
    finally:
        queue.close()


def says(url: str, words: str) -> bool:
    """Return once a queue that can't use its Redis says so in these words."""
    return bool(error_of(url, words))


def works(url: str) -> bool:
    """Return once a queue uses its Redis, however slow that is: on a busy machine a handshake is."""
    queue = RedisQueue(parse_redis_url(url), OPTIONS, MemoryQueue(OPTIONS), patience=10.0)
    try:
        eventually(lambda: queue.append(make_batch("a")) or queue.link.up, told=lambda: f"but {queue.link.last_error}")
        for lease in queue.lease("events", 0.0):
            queue.acknowledge(lease.batch.batch_id)
        return True
    finally:
        queue.close()


@contextmanager
def sentinel(
    *lines: str, master_password: str | None = None, name: str = "guarded"
) -> Iterator[tuple[RedisServer, RedisServer]]:
    with ServerSet() as servers:
        master = servers.add(password=master_password)
        config = f"sentinel monitor {name} 127.0.0.1 {master.port} 1\n"
        config += f"sentinel auth-pass {name} {master_password}\n" if master_password else ""
        yield servers.add("--sentinel", config=config + "\n".join(lines) + "\n", start=False), master


def started(server: RedisServer, password: str | None = None, user: str | None = None) -> RedisServer:
    server.password = None
    arguments = {"port": server.port, "password": password, "username": user}

    def answers() -> bool:
        try:
            redis.Redis(**arguments, protocol=2).ping()  # type: ignore[arg-type]
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        return True

    server._answers = answers  # type: ignore[method-assign]
    server.start()
    return server


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "add ?sentinel_password="),
        ("?sentinel_password=wr0ng", "check sentinel_password"),
        ("?sentinel_username=stranger&sentinel_password=s3ntinel", "check sentinel_password"),
    ],
)
def test_sentinels_with_a_password_of_their_own_are_named(
    query: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with sentinel("requirepass s3ntinel") as (server, _):
        url = f"redis+sentinel://127.0.0.1:{started(server).port}/guarded/0"
        error = error_of(url + query, expected)
        assert "Authentication" in error
        assert "wr0ng" not in error + caplog.text
        said = [record for record in caplog.records if record.levelname == "ERROR"]
        assert len(said) == 1
        assert "the sentinels" in said[0].getMessage()
        assert works(f"{url}?sentinel_password=s3ntinel")


def test_sentinels_without_a_password_are_told_from_those_that_refuse_one() -> None:
    with sentinel() as (server, _):
        url = f"redis+sentinel://127.0.0.1:{started(server).port}/guarded/0?sentinel_username=u&sentinel_password=needless"
        assert says(url, "sentinel_password")


def test_a_masters_password_is_told_from_that_of_the_sentinels() -> None:
    with sentinel(master_password="right") as (server, _):
        port = started(server).port
        missing = error_of(f"redis+sentinel://127.0.0.1:{port}/guarded/0", "write user:password@")
        wrong = error_of(f"redis+sentinel://:wr0ng@127.0.0.1:{port}/guarded/0", "check user and password")
        assert "sentinel_password" not in missing + wrong
        assert works(f"redis+sentinel://:right@127.0.0.1:{port}/guarded/0")


def test_a_service_that_the_sentinels_do_not_know_is_named() -> None:
    with sentinel() as (server, _):
        assert says(f"redis+sentinel://127.0.0.1:{started(server).port}/another/0", "by the name 'another'")


def test_a_password_is_missing_wrong_or_needless() -> None:
    with redis_server(password="right") as server:
        assert says(server.url.replace(":right@", ""), "it has no password; write")
        assert says(server.url.replace("right", "wr0ng"), "check user and password")
        assert says(server.url.replace(":right", "stranger:right"), "check user and password")
    with redis_server() as server:
        assert says(server.url.replace("redis://", "redis://:needless@"), "Redis has no password")


def test_what_a_users_rules_must_grant_is_said_and_is_enough() -> None:
    with redis_server() as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "poor", *["on", ">right", "~{guard:*", "+@read"])
            client.execute_command("ACL", "SETUSER", "elsewhere", *ACL.replace("{guard:", "other:").split())
            client.execute_command("ACL", "SETUSER", "guard", *ACL.split())
        for user in ("poor", "elsewhere"):
            url = server.url.replace("redis://", f"redis://{user}:right@")
            assert says(url, "grant that user ~{guard:* +@read +@write +@scripting +time")
        assert works(server.url.replace("redis://", "redis://guard:right@"))


def test_a_cluster_that_refuses_is_told_apart_from_one_that_is_away() -> None:
    with redis_cluster() as cluster:
        for server in cluster.servers:
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "poor", *["on", ">right", "~{guard:*", "+@read"])
                client.execute_command("ACL", "SETUSER", "guard", *ACL.split(), "+cluster", "+command")
        url = cluster.url.replace("://", "://{}:right@")
        assert says(url.format("poor"), "+cluster")
        assert says(url.format("stranger"), "check user and password")
        assert works(url.format("guard"))


def test_one_server_is_no_cluster() -> None:
    with redis_server() as server:
        assert says(f"redis+cluster://127.0.0.1:{server.port}", "begin the queue URL with redis://")


def tls_url(port: int, host: str = "127.0.0.1", **options: str) -> str:
    query = "&".join(f"{name}={quote(value)}" for name, value in options.items())
    return f"rediss://{host}:{port}/0" + (f"?{query}" if query else "")


def test_tls_that_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    certificate, key = make_certificate(tmp_path)
    with redis_server() as server, proxy(server.port, server_context(certificate, key)) as secure:
        assert says(tls_url(secure.port), "ssl_ca_certs")
        assert says(
            tls_url(secure.port, "localhost", ssl_ca_certs=str(certificate)), "the host that its certificate has"
        )
        assert says(tls_url(server.port), "if its port speaks no TLS")
        assert says(f"redis://127.0.0.1:{secure.port}/0", "rediss://")
        assert works(tls_url(secure.port, ssl_ca_certs=str(certificate)))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert works(tls_url(secure.port))


def test_a_client_certificate_that_is_wanted_is_told_and_shown(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    client, client_key = make_certificate(tmp_path, "client")
    context = server_context(certificate, key, client)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # by which a missing certificate ends the handshake
    trusted = {"ssl_ca_certs": str(certificate)}
    with redis_server() as server, proxy(server.port, context) as secure:
        assert says(tls_url(secure.port, **trusted), "ssl_")
        pair = {"ssl_certfile": str(client), "ssl_keyfile": str(client_key)}
        assert works(tls_url(secure.port, **trusted, **pair))


def test_a_server_that_answers_a_handshake_in_plain_text_speaks_no_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once() -> None:
            with listener.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"-ERR Protocol error: invalid command\r\n")
                connection.recv(10_000)

        answering = threading.Thread(target=answer_once, daemon=True)
        answering.start()
        assert says(tls_url(listener.getsockname()[1]), "begin the queue URL with redis://")


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused."),
        redis.TimeoutError("Timeout reading from socket"),
        redis.ReadOnlyError("You can't write against a read only replica."),
        OSError("reset"),
    ],
)
def test_an_outage_is_no_refusal(error: Exception) -> None:
    assert trouble_of(error, parse_redis_url("redis://h")) == OUTAGE


def test_what_a_redis_says_to_a_large_call_of_a_stranger_is_a_refusal() -> None:
    error = redis.ResponseError("Protocol error: unauthenticated multibulk length")
    assert trouble_of(error, parse_redis_url("redis://h")).cause == "credentials"
