"""The queue with a copy in Redis when Redis is in trouble: the application does not notice, and nothing is lost."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.redis import RedisServer, eventually, proxy, redis_cluster, redis_sentinel, redis_server

from opentelemetry_guard.queue.base import Lease, QueueOptions
from opentelemetry_guard.queue.conformance import make_batch
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.redis import link as redis_link
from opentelemetry_guard.queue.redis.allowance import Allowance
from opentelemetry_guard.queue.redis.entries import keys_of
from opentelemetry_guard.queue.redis.link import Link, describe, pause_after
from opentelemetry_guard.queue.redis.scripts import RENEW
from opentelemetry_guard.queue.redis.store import PATIENCE, RedisQueue
from opentelemetry_guard.queue.redis.url import RedisAddress, parse_redis_url
from opentelemetry_guard.queue.sqlite.store import SqliteQueue
from opentelemetry_guard.queue.url import check_queue_url
from opentelemetry_guard.settings import once

OPTIONS = QueueOptions("ab12", max_bytes=1_000_000, lease_seconds=2.0)
WATCHDOG = 20.0
"""Seconds after which a call is taken for one that waits for Redis; far more than it may take on a busy machine."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(redis_link, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(redis_link, "REFUSED_PAUSE", 0.2)


@contextmanager
def opened(
    url: str, options: QueueOptions = OPTIONS, path: Path | None = None, patience: float = PATIENCE
) -> Iterator[RedisQueue]:
    local = MemoryQueue(options) if path is None else SqliteQueue(path / "guard.db", options)
    queue = RedisQueue(parse_redis_url(url), options, local, patience=patience)
    try:
        yield queue
    finally:
        queue.close()


def quickly(call: Callable[[], object]) -> None:
    """Make a call under the watchdog."""
    began = time.monotonic()
    call()
    assert time.monotonic() - began < WATCHDOG


def append_and_deliver(queue: RedisQueue, prefix: str, count: int = 10) -> None:
    """Append batches and send them, each call under the watchdog."""
    names = {f"{prefix}{number}" for number in range(count)}
    for name in sorted(names):
        quickly(lambda name=name: queue.append(make_batch(name)))
    quickly(lambda: queue.renew(time.time()))
    sent: set[str] = set()

    def deliver() -> bool:
        leases: list[Lease] = []
        quickly(lambda: leases.extend(queue.lease("events", time.time(), max_batches=5)))
        for lease in leases:
            sent.add(lease.batch.batch_id)
            quickly(lambda lease=lease: queue.acknowledge(lease.batch.batch_id))
        return queue.stats().depth == 0

    eventually(deliver)
    assert names <= sent
    for ledger in queue.stats().ledger.values():
        assert ledger.balanced


def copies(server: RedisServer) -> int:
    with closing(server.client()) as client:
        return int(client.xlen("{guard:ab12}:events"))


def has_copies(queue: RedisQueue, server: RedisServer, count: int) -> bool:
    queue.renew(time.time())
    return copies(server) == count


# What may befall Redis: each breaks it, yields the URL to use, and mends it at the end.


@contextmanager
def down_at_start() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server(start=False) as server:
        yield server.url, lambda: None, server.start


@contextmanager
def died() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server() as server:
        yield server.url, server.stop, lambda: server.start(keep=False)


@contextmanager
def hanging() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server() as server:
        yield server.url, server.pause, server.resume


@contextmanager
def slow() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server() as server, proxy(server.port) as between:

        def delay(seconds: float) -> None:
            between.delay = seconds

        yield between.url, lambda: delay(1.0), lambda: delay(0.0)


@contextmanager
def read_only() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server() as server, redis_server() as other, closing(server.client()) as client:
        yield (
            server.url,
            lambda: client.execute_command("REPLICAOF", "127.0.0.1", other.port),
            lambda: client.execute_command("REPLICAOF", "NO", "ONE"),
        )


@contextmanager
def out_of_memory() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server() as server, closing(server.client()) as client:
        yield server.url, lambda: client.config_set("maxmemory", "1"), lambda: client.config_set("maxmemory", "0")


@contextmanager
def wrong_password() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server() as server, closing(server.client()) as client:
        client.ping()

        def protect() -> None:
            client.config_set("requirepass", "other")
            client.client_kill_filter(_type="normal", skipme=True)
            client.execute_command("AUTH", "other")

        yield (
            server.url.replace("redis://", "redis://:s3cret@"),
            protect,
            lambda: client.config_set("requirepass", "s3cret"),
        )


@contextmanager
def flushed() -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    with redis_server() as server, closing(server.client()) as client:
        yield server.url, client.flushall, lambda: None


FAULTS = [down_at_start, died, hanging, slow, read_only, out_of_memory, wrong_password, flushed]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_application_does_not_notice_and_nothing_is_lost(fault: Callable[[], object], tmp_path: Path) -> None:
    with ExitStack() as stack:
        url, breaks, mends = stack.enter_context(fault())  # type: ignore[arg-type]
        queue = stack.enter_context(opened(url, path=tmp_path))
        if fault not in (down_at_start, wrong_password):
            append_and_deliver(queue, "before")
        breaks()
        append_and_deliver(queue, "during")
        for number in range(5):
            quickly(lambda number=number: queue.append(make_batch(f"left{number}")))
        quickly(queue.release)
        mends()

        def is_up() -> bool:
            queue.renew(time.time())
            return queue.link.up

        eventually(is_up)
        append_and_deliver(queue, "after")
        assert queue.stats().depth == 0
        quickly(queue.close)


@pytest.mark.parametrize("keep", [False, True], ids=["empty", "with what it had saved"])
def test_batches_that_redis_lost_are_copied_again(keep: bool) -> None:
    with redis_server() as server, opened(server.url) as queue:
        for number in range(3):
            queue.append(make_batch(f"saved{number}"))
        queue.renew(time.time())
        eventually(lambda: has_copies(queue, server, 3))
        with closing(server.client()) as client:
            client.save()
        for number in range(200):
            queue.append(make_batch(str(number)))
        server.stop()
        queue.append(make_batch("meanwhile"))
        server.start(keep=keep)
        with closing(server.client()) as client:
            eventually(lambda: has_copies(queue, server, 204) and int(client.get("{guard:ab12}:bytes") or 0) == 2040)


def test_a_flushed_redis_gets_its_copies_back_without_any_outage() -> None:
    with redis_server() as server, opened(server.url) as queue:
        for number in range(200):
            queue.append(make_batch(str(number)))
        queue.renew(time.time())
        with closing(server.client()) as client:
            client.flushall()
        eventually(lambda: has_copies(queue, server, 200))


def test_what_was_delivered_while_redis_was_away_is_not_sent_by_others() -> None:
    with redis_server() as server, opened(server.url) as first, opened(server.url) as second:
        for name in "abc":
            first.append(make_batch(name))
        first.renew(time.time())
        server.pause()
        leases = [lease for _ in range(3) for lease in first.lease("events", time.time())]
        assert all(first.acknowledge(lease.batch.batch_id) for lease in leases)
        server.resume()
        eventually(lambda: has_copies(first, server, 0))
        first.release()
        assert second.lease("events", time.time()) == []


def test_leases_hold_while_redis_is_full() -> None:
    with redis_server() as server, opened(server.url) as first, opened(server.url) as second:
        first.append(make_batch("a"))
        first.renew(time.time())
        second.renew(time.time())
        with closing(server.client()) as client:
            client.config_set("maxmemory", "1")
        eventually(lambda: second._copies.get().link.up_for() > OPTIONS.lease_seconds / 2)
        for step in range(10):
            first.renew(time.time() + step)
            assert second.lease("events", time.time() + step) == []
        first.lease("events", time.time())
        assert first.acknowledge("a")
        assert copies(server) == 0
        assert first.link.up


def test_nobody_is_taken_for_dead_right_after_redis_was_away() -> None:
    """Every lease has run out by then; its owner is about to renew it."""
    options = replace(OPTIONS, lease_seconds=4.0)
    with redis_server() as server, opened(server.url, options) as first, opened(server.url, options) as second:
        first.append(make_batch("a"))
        for queue in (first, second):
            queue.renew(time.time())
        server.stop(save=True)
        second.renew(time.time())
        server.start()
        now = time.time() + 10.0

        def is_up() -> bool:
            second.renew(now)
            return second.link.up

        eventually(is_up)
        assert second.lease("events", now) == []
        first.renew(now)
        eventually(lambda: second._copies.get().link.up_for() > options.lease_seconds / 2)
        assert second.lease("events", now + 1.0) == []


def test_an_outage_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opentelemetry_guard")
    with redis_server() as server, opened(server.url) as queue:
        queue.append(make_batch("a"))
        server.stop()
        for number in range(20):
            queue.append(make_batch(str(number)))
        eventually(lambda: queue.renew(time.time()) or queue.link.failures > 3)
        server.start()
        eventually(lambda: queue.renew(time.time()) or queue.link.up)
        eventually(lambda: has_copies(queue, server, 21))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_refused_credentials_are_said_once_with_the_remedy_in_reach(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(password="right") as server, opened(server.url.replace("right", "wr0ng")) as queue:
        eventually(lambda: queue.append(make_batch(str(time.monotonic()))) or queue.link.failures > 3)
    refused, ended = caplog.records
    assert refused.levelname == "ERROR"
    assert "refuses the user or password" in refused.getMessage()
    assert "have no copy in Redis and end with this process" in ended.getMessage()
    assert "wr0ng" not in caplog.text


def test_a_missing_password_is_told_from_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(password="right") as server, opened(server.url.replace(":right@", "")) as queue:
        eventually(lambda: queue.append(make_batch(str(time.monotonic()))) or queue.link.failures)
    assert "refuses the user or password" in caplog.records[0].getMessage()


def test_waiting_for_the_courier_is_no_outage() -> None:
    with redis_server() as server:
        link = Link(parse_redis_url(server.url), keys_of("ab12"), 0.5)
        go_on = threading.Event()
        link.post(lambda _: go_on.wait(WATCHDOG * 10))
        assert link.call(lambda _: 1, 0.01) is None
        assert link.state.failures == link.outages == 0
        go_on.set()
        eventually(lambda: link.call(lambda caller: caller.run(RENEW, "me", 0, 1000, "word")))
        assert link.state.up
        link.close()


def test_nobody_waits_for_a_redis_that_has_failed_until_it_has_answered() -> None:
    with redis_server() as server, opened(server.url, patience=100.0) as queue:
        queue.append(make_batch("a"))
        server.stop()
        queue.append(make_batch("b"))
        assert queue.link.failures
        server.start()
        server.pause()
        for number in range(5):
            quickly(lambda number=number: queue.append(make_batch(str(number))))
            quickly(lambda: queue.renew(time.time()))
        server.resume()
        eventually(lambda: has_copies(queue, server, 7))


def test_appends_that_have_waited_enough_wait_no_more_and_get_their_copies() -> None:
    with redis_server() as server, opened(server.url, patience=100.0) as queue:
        queue.append(make_batch("a"))
        queue._copies.get().allowance = Allowance(100.0, clock=lambda: 0.0)
        queue._copies.get().allowance.spend(100.0)
        server.pause()
        for number in range(5):
            quickly(lambda number=number: queue.append(make_batch(str(number))))
        server.resume()
        eventually(lambda: copies(server) == 6)


@given(waits=st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=50))
def test_no_more_is_waited_than_the_allowance_and_what_came_back(waits: list[tuple[float, bool]]) -> None:
    now, waited = 0.0, 0.0
    allowance = Allowance(0.3, clock=lambda: now)
    for pause, in_full in waits:
        now += pause
        left = allowance.left()
        spent = left if in_full else left / 2
        now += spent
        waited += spent
        allowance.spend(spent)
        assert 0.0 <= left <= 0.3
        assert waited <= 0.3 + 0.3 * now + 1e-9


def test_closing_waits_once_for_a_redis_that_hangs() -> None:
    with redis_server() as server, opened(server.url, patience=2.0) as queue:
        queue.append(make_batch("a"))
        queue._copies.get().book.note("a", "missing")
        server.pause()
        quickly(queue.close)
        quickly(queue.close)


@pytest.mark.parametrize("failures", [1, 2, 3, 10, 10_000])
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_pauses_grow_to_a_bound_and_spread(failures: int, chance: float) -> None:
    assert 0 < pause_after(failures, False, chance) <= redis_link.LONGEST_PAUSE
    assert pause_after(failures, False, 0.0) <= pause_after(failures + 1, False, 0.0)
    assert pause_after(failures, True, 1.0) == redis_link.REFUSED_PAUSE


# URLs and secrets.


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress("single", (("h", 6379),))),
        ("redis://u:p%40@[::1]:7000/3", RedisAddress("single", (("::1", 7000),), "u", "p@", 3)),
        (
            "rediss://:p@h/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
            RedisAddress(
                "single", (("h", 6379),), None, "p", tls={"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
            ),
        ),
        (
            "redis+sentinel://u:p@a,b:5/main/2?sentinel_password=q",
            RedisAddress("sentinel", (("a", 26379), ("b", 5)), "u", "p", 2, "main", sentinel_password="q"),
        ),
        ("redis+cluster://a:1,b:2?ssl=true", RedisAddress("cluster", (("a", 1), ("b", 2)), tls={})),
    ],
)
def test_a_url_names_the_servers(url: str, address: RedisAddress) -> None:
    check_queue_url(url)
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:s3cret@h:99999",
        "redis://:s3cret@h:0",
        "redis://:s3cret@h/name",
        "redis://:s3cret@h/1/2",
        "redis://:s3cret@a,b",
        "redis://h?password=s3cret",
        "redis://h/0?s3cret",
        "redis+sentinel://h/main?sentinel_password=x&s3cret=1",
        "rediss://:s3cret@h?ssl_cert_reqs=maybe",
        "redis+sentinel://:s3cret@a:1",
        "redis+sentinel://:s3cret@a:1/main?ssl_ca_certs=/x",
        "redis+cluster://:s3cret@a:1/2",
    ],
)
def test_a_wrong_url_is_refused_with_the_right_form_and_without_secrets(url: str) -> None:
    with pytest.raises(ValueError, match=r"write redis\S*://") as raised:
        check_queue_url(url)
    assert "s3cret" not in str(raised.value)


alphanumeric = st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=38).filter(str.isalnum)
# The end makes it no word of the messages themselves, such as the package's name.
secrets = alphanumeric.map(lambda text: f"{text}7q")


@settings(suppress_health_check=list(HealthCheck), max_examples=25)
@given(secret=secrets)
def test_a_password_is_in_no_log_exception_or_repr(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    once._said.clear()
    url = f"redis://{secret}x:{secret}@127.0.0.1:1/0"
    address = parse_redis_url(url)
    with opened(url) as queue:
        queue.append(make_batch("a"))
        shown = [repr(queue), repr(address), str(address), repr(queue.link), caplog.text]
    shown.append(describe(redis.ResponseError(f"no {secret}"), address.secrets))
    assert not [text for text in shown if secret in text]


def certificate(directory: Path) -> Path:
    """Write a certificate for 127.0.0.1 that signs itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "redis.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


def test_tls_is_used_and_the_certificate_is_checked(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with redis_server() as server, proxy(server.port, context) as between:
        url = between.url.replace("redis://", "rediss://")
        with opened(url) as stranger:
            # On a busy machine the first attempts may end without any answer.
            eventually(
                lambda: (
                    stranger.append(make_batch(str(time.monotonic())))
                    or "CERTIFICATE_VERIFY_FAILED" in str(stranger.link.last_error)
                )
            )
        assert copies(server) == 0
        with opened(f"{url}?ssl_ca_certs={file}") as queue:
            queue.append(make_batch("a"))
            eventually(lambda: has_copies(queue, server, 1))


# Cluster and sentinels.


def survives_a_failover(queue: RedisQueue, breaks: Callable[[], None]) -> None:
    append_and_deliver(queue, "before")
    breaks()
    append_and_deliver(queue, "during")
    for number in range(5):
        queue.append(make_batch(f"left{number}"))
    eventually(lambda: queue.renew(time.time()) or queue.link.up, seconds=60.0)
    append_and_deliver(queue, "after")
    assert queue.stats().depth == 0


@pytest.mark.slow
def test_sentinels_lead_to_the_new_master_after_a_failover() -> None:
    with redis_sentinel(password="s3cret") as fleet, opened(fleet.url) as queue:
        survives_a_failover(queue, fleet.master.stop)
        with opened(fleet.url) as other:
            queue.append(make_batch("last"))
            # Replication is asynchronous: what the old master deleted last may be there, and is not offered again.
            eventually(lambda: queue.renew(time.time()) or copies(fleet.replica) >= 1)
            eventually(lambda: queue.renew(time.time()) or not queue._copies.get().book.missing(1))
            queue.release()
            offered: list[str] = []
            eventually(
                lambda: offered.extend(lease.batch.batch_id for lease in other.lease("events", time.time())) or offered
            )
            assert offered == ["last"]


@pytest.mark.slow
def test_a_cluster_delivers_and_survives_a_failover() -> None:
    with redis_cluster() as cluster, opened(cluster.url) as queue:
        queue.append(make_batch("first"))
        eventually(lambda: queue.renew(time.time()) or queue.link.up)
        survives_a_failover(queue, cluster.master_of("{guard:ab12}:events").stop)
        with opened(cluster.url) as other:
            queue.append(make_batch("last"))
            eventually(lambda: queue.renew(time.time()) or not queue._copies.get().book.missing(1))
            queue.release()
            eventually(lambda: [lease.batch.batch_id for lease in other.lease("events", time.time())] == ["last"])
