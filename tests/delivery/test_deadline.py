"""One request ends at its total deadline, however the answer comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.raw_server import OK, RawServer, answer, make_certificate, raw_server, server_context
from support.redis import eventually

from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.delivery.transport import HTTPTransport
from opentelemetry_guard.delivery.workers import MAX_LEFT
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.settings.delivery import GuardConfig

WATCHDOG = 60.0
BATCH = Batch("b", "events", 1, b"{}")
LONG_HEADER = b"X-Padding: " + b"x" * 5000 + b"\r\n"


def transport(server: RawServer, timeout: float = 0.5, scheme: str = "http", **settings: object) -> HTTPTransport:
    config = GuardConfig.resolve(
        {}, endpoint=f"{scheme}://127.0.0.1:{server.port}", api_key="key", timeout=timeout, **settings
    )
    return HTTPTransport(config, lambda: "id")


def assert_timed_out(outcome: Outcome) -> None:
    assert outcome.verdict is Verdict.RETRY
    assert outcome.status == 0
    assert outcome.timed_out


# Each of these answers would be whole, and accepted, after a hundred seconds: what ends it is the deadline.


def drip_headers(server: RawServer, connection: socket.socket) -> bool:
    server.drip(connection, OK.replace(b"\r\nContent-Type", b"\r\n" + LONG_HEADER + b"Content-Type"))
    return True


def drip_body(server: RawServer, connection: socket.socket) -> bool:
    body = b'{"success":true' + b" " * 5000 + b"}"
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    server.drip(connection, body)
    return True


def drip_chunks(server: RawServer, connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.drip(connection, b"1\r\n \r\n" * 1000 + b"2\r\n{}\r\n0\r\n\r\n")
    return True


def drip_informational_answers(server: RawServer, connection: socket.socket) -> bool:
    server.drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 200 + OK)
    return True


def never_answer(server: RawServer, connection: socket.socket) -> bool:
    server.closing.wait(100)
    return False


@pytest.mark.parametrize("behaviour", [drip_headers, drip_body, drip_chunks, drip_informational_answers, never_answer])
def test_a_slow_answer_ends_at_the_total_deadline(behaviour: object) -> None:
    with raw_server(behaviour) as server:  # type: ignore[arg-type]
        assert_timed_out(transport(server).send(BATCH))


@pytest.mark.parametrize("behaviour", [drip_headers, drip_body])
def test_a_slow_answer_over_tls_ends_at_the_total_deadline(behaviour: object, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with raw_server(behaviour, server_context(certificate, key)) as server:  # type: ignore[arg-type]
        assert_timed_out(transport(server, timeout=1.0, scheme="https", certificate=str(certificate)).send(BATCH))


def test_a_handshake_that_never_ends_is_given_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        server = RawServer(listener.getsockname()[1])
        assert_timed_out(transport(server, scheme="https").send(BATCH))


def test_a_body_that_nobody_reads_is_given_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        server = RawServer(listener.getsockname()[1])
        assert_timed_out(transport(server).send(Batch("b", "events", 1, b" " * 50_000_000)))


def test_through_a_proxy_the_deadline_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(drip_body) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        config = GuardConfig.resolve({}, endpoint="http://guard.example", api_key="key", timeout=2.0)
        assert_timed_out(HTTPTransport(config, lambda: "id").send(BATCH))
        eventually(lambda: proxy.requests)
        assert proxy.requests[0].startswith(b"POST http://guard.example/api/v1/events ")


def test_a_caller_may_ask_for_less_than_the_setting() -> None:
    with raw_server(never_answer) as server:
        assert_timed_out(transport(server, timeout=100.0).send(BATCH, 0.2))
        assert_timed_out(transport(server, timeout=100.0).send(BATCH, -1.0))


def test_after_a_timeout_the_next_request_has_its_own_deadline_and_connection() -> None:
    timed_out = threading.Event()

    def first_never(server: RawServer, connection: socket.socket) -> bool:
        if not timed_out.is_set():
            return never_answer(server, connection)
        return answer()(server, connection)

    with raw_server(first_never) as server:
        sender = transport(server, timeout=WATCHDOG)
        assert_timed_out(sender.send(BATCH, 0.5))
        timed_out.set()
        assert sender.send(BATCH).verdict is Verdict.ACCEPTED
        assert server.connections == 2


@pytest.mark.parametrize("tls", [False, True])
def test_the_connection_is_kept_between_requests(tls: bool, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = server_context(certificate, key) if tls else None
    with raw_server(answer(), context) as server:
        sender = transport(
            server, timeout=WATCHDOG, scheme="https" if tls else "http", certificate=str(certificate) if tls else None
        )
        assert [sender.send(BATCH).verdict for _ in range(3)] == [Verdict.ACCEPTED] * 3
        assert server.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 16\r\n\r\n{"success":true}',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"success":true}',
        b'HTTP/1.0 200 OK\r\n\r\n{"success":true}',
        b'HTTP/1.1 200 OK\r\nConnection:close\r\nTransfer-Encoding:chunked\r\n\r\n10\r\n{"success":true}\r\n0\r\n\r\n',
    ],
)
def test_an_answer_that_closes_the_connection_is_read_whole(data: bytes) -> None:
    def in_two_parts(server: RawServer, connection: socket.socket) -> bool:
        connection.sendall(data[:-5])
        server.closing.wait(0.05)
        connection.sendall(data[-5:])
        return False

    with raw_server(in_two_parts) as server:
        sender = transport(server, timeout=WATCHDOG)
        assert [sender.send(BATCH).verdict for _ in range(2)] == [Verdict.ACCEPTED] * 2
        assert server.connections == 2


def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    both = threading.Barrier(2)

    def together(server: RawServer, connection: socket.socket) -> bool:
        both.wait(WATCHDOG)
        return answer()(server, connection)

    with raw_server(together) as server:
        sender = transport(server, timeout=WATCHDOG)
        other = threading.Thread(target=sender.send, args=(BATCH,))
        other.start()
        assert sender.send(BATCH).verdict is Verdict.ACCEPTED
        other.join()
        assert server.connections == 2


class Names:
    """A resolver for one name: it answers with these addresses, or hangs until it is let go."""

    def __init__(self, addresses: list[tuple[str, int]] | None) -> None:
        self.addresses = addresses
        self.let_go = threading.Event()
        self.asked = 0
        self._getaddrinfo = socket.getaddrinfo

    def __call__(self, host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        if host != "guard.example":
            return self._getaddrinfo(host, port, *arguments, **options)
        self.asked += 1
        if self.addresses is None:
            self.let_go.wait(WATCHDOG)
            raise socket.gaierror("let go")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self.addresses]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[tuple[str, int]] | None], Names]]:
    made: list[Names] = []

    def install(addresses: list[tuple[str, int]] | None) -> Names:
        made.append(Names(addresses))
        monkeypatch.setattr(socket, "getaddrinfo", made[-1])
        return made[-1]

    yield install
    for names in made:
        names.let_go.set()


@contextmanager
def dead_address() -> Iterator[tuple[str, int]]:
    """An address that never answers: its queue of connections is full, and nobody takes any."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        yield address


def by_name(timeout: float, scheme: str = "http", port: int = 80) -> HTTPTransport:
    config = GuardConfig.resolve({}, endpoint=f"{scheme}://guard.example:{port}", api_key="key", timeout=timeout)
    return HTTPTransport(config, lambda: "id")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_many_dead_addresses_behind_one_name_have_one_deadline(resolve: Any, scheme: str) -> None:
    with dead_address() as dead:
        resolve([dead] * 100)
        before = set(threading.enumerate())
        sender = by_name(1.0, scheme)
        assert_timed_out(sender.send(BATCH))
        # With a second for each of them the attempt would go on for longer than anybody waits here.
        for thread in set(threading.enumerate()) - before:
            sender.close()
            thread.join(WATCHDOG)
            assert not thread.is_alive()


def test_a_dead_address_leaves_time_for_the_one_after_it(resolve: Any) -> None:
    with dead_address() as dead, raw_server(answer()) as server:
        resolve([dead, ("127.0.0.1", server.port)])
        assert by_name(8.0).send(BATCH).verdict is Verdict.ACCEPTED


def test_a_name_server_that_is_silent_is_not_waited_for(resolve: Any) -> None:
    names = resolve(None)
    assert_timed_out(by_name(1.0).send(BATCH))
    eventually(lambda: names.asked == 1)


def test_the_threads_that_are_left_behind_are_bounded_and_later_calls_work_again(resolve: Any) -> None:
    names = resolve(None)
    before = set(threading.enumerate())
    sender = by_name(1.0)
    outcomes = [sender.send(BATCH) for _ in range(MAX_LEFT + 3)]
    for outcome in outcomes:
        assert_timed_out(outcome)
    eventually(lambda: names.asked == MAX_LEFT)
    assert "still hang" in outcomes[-1].reason
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert len(left) == MAX_LEFT
    names.let_go.set()
    for thread in left:
        thread.join(WATCHDOG)
    with raw_server(answer()) as server:
        assert transport(server, timeout=WATCHDOG).send(BATCH).verdict is Verdict.ACCEPTED


def test_a_proxy_that_drips_its_greeting_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip_greeting(server: RawServer, connection: socket.socket) -> bool:
        server.drip(connection, b"HTTP/1.1 200 Connection established\r\n" + LONG_HEADER * 10 + b"\r\n")
        return True

    with raw_server(drip_greeting) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert_timed_out(by_name(2.0, "https", 443).send(BATCH))
        eventually(lambda: proxy.requests)
        assert proxy.requests[0].startswith(b"CONNECT guard.example:443 ")


def test_over_tls_a_body_that_nobody_reads_is_given_up(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    server = RawServer(listener.getsockname()[1])

    def read_little() -> None:
        connection, _ = listener.accept()
        with server_context(certificate, key).wrap_socket(connection, server_side=True) as stream:
            while not server.closing.wait(0.02):
                stream.recv(100)

    reading = threading.Thread(target=read_little, daemon=True)
    with listener:
        reading.start()
        sender = transport(server, timeout=1.0, scheme="https", certificate=str(certificate))
        assert_timed_out(sender.send(Batch("b", "events", 1, b" " * 50_000_000)))
        server.closing.set()
        reading.join(WATCHDOG)
