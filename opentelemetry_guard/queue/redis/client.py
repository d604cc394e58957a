"""Clients of one Redis, of sentinels and of a cluster, as the queue's scripts need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from .url import RedisAddress

CONNECT_SECONDS = 1.0
"""How long the courier waits for a connection."""
ANSWER_SECONDS = 2.0
"""How long the courier waits for an answer; whoever asked has gone on long before."""


class Answers(Protocol):
    """A Redis client as the scripts need it."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: str | bytes | float) -> object:
        """Run a script that Redis has."""
        ...

    def eval(self, script: str, numkeys: int, *keys_and_args: str | bytes | float) -> object:
        """Run a script that Redis may not have yet."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def connect(address: RedisAddress) -> Answers:
    """Make a client that never retries: a call whose answer was lost is judged by the caller, who can repeat it."""
    import redis
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode, RedisCluster
    from redis.retry import Retry

    timeouts = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS}
    tls = {} if address.tls is None else {"ssl": True, **address.tls}
    # RESP2, which every server and proxy speaks, and for which the client sends nothing of its own
    common = {**timeouts, **tls, "username": address.username, "password": address.password, "protocol": 2}
    if address.topology == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]  # type: ignore[no-untyped-call]
        return cast(Answers, RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **common))  # type: ignore[arg-type]
    if address.topology == "sentinel":
        own = {**timeouts, **tls, "username": address.sentinel_username, "password": address.sentinel_password}
        sentinel = _sentinels(address.hosts, {**own, "protocol": 2, "retry": Retry(NoBackoff(), 0)})
        client = sentinel.master_for(address.service, db=address.db, retry=Retry(NoBackoff(), 0), **common)
        return cast(Answers, client)
    ((host, port),) = address.hosts
    single = redis.Redis(host=host, port=port, db=address.db, retry=Retry(NoBackoff(), 0), **common)  # type: ignore[arg-type]
    return cast(Answers, single)


def _sentinels(hosts: Sequence[tuple[str, int]], options: Mapping[str, object]) -> Any:
    from redis import AuthenticationError, RedisError
    from redis.sentinel import MasterNotFoundError, Sentinel

    class TellingSentinel(Sentinel):
        """Says why no sentinel has named a master: the client tells a refusal from a sentinel that is away by nothing
        but a type's name in a long text."""

        def discover_master(self, service_name: str) -> Any:
            try:
                return super().discover_master(service_name)  # type: ignore[no-untyped-call]
            except MasterNotFoundError:
                failures = [error for sentinel in self.sentinels if (error := self._failure(sentinel)) is not None]
                # A refusal before an absence: this one of them a person can mend.
                failures.sort(key=lambda error: not isinstance(error, AuthenticationError))
                cause = failures[0] if failures else None
                why = "" if cause is None else f": {type(cause).__name__}: {cause}"
                raise MasterNotFoundError(f"No master found for {service_name!r}{why}") from cause

        @staticmethod
        def _failure(sentinel: Any) -> Exception | None:
            try:
                sentinel.sentinel_masters()
            except (RedisError, OSError) as error:
                return error
            return None

    return TellingSentinel(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
