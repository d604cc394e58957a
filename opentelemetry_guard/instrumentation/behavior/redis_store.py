"""The store of many hosts: counters and bit maps in Redis, in one pipeline a second, each with its time to live."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from ...queue.redis.client import connect
from ...queue.redis.url import parse_redis_url
from .stores import PREFIX, Claim, Claimed, Row, Total, unpacked

_KEPT_SECONDS = 7 * 86_400
_WORD_BITS = 32
_EXPLAINED_BITS = 8


class RedisStore:
    """Counts in the Redis that a queue's URL names, reached as a queue reaches it; used by one thread."""

    def __init__(self, url: str) -> None:
        """Take a URL as queues have it; its fragment keeps several destinations of one Redis apart."""
        self._url, _, destination = url.partition("#")
        self._prefix = f"{PREFIX}:{destination}:" if destination else f"{PREFIX}:"
        self._client: Any = None

    def secret(self) -> bytes:
        """Return the key of the hashes, which the first process of all makes."""
        client, name = self._connected(), f"{self._prefix}secret"
        client.set(name, secrets.token_bytes(16), nx=True)
        return bytes(client.get(name))

    def exchange(self, rows: Sequence[Row]) -> list[tuple[Total, Total | None]]:
        """Add to the rows; return what all have in each, and in the one before where that was asked for."""
        pipeline = self._connected().pipeline(transaction=False)
        for row in rows:
            name = self._name("r", row.name)
            pipeline.execute_command("BITFIELD", name, "OVERFLOW", "SAT", *_operations(row))
            pipeline.expire(name, max(1, round(row.seconds)))
            pipeline.get(name)
            if row.before is not None:
                pipeline.get(self._name("r", row.before))
        answers = iter(pipeline.execute())
        found = []
        for row in rows:
            _, _, total = next(answers), next(answers), next(answers)
            before = None if row.before is None else self._read(row, next(answers))
            found.append((self._read(row, total), before))
        return found

    @staticmethod
    def _read(row: Row, found: bytes | None) -> Total:
        return unpacked(found or b"", len(row.counts), row.width)

    def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Return for each claim what was granted, None where another process was first."""
        pipeline = self._connected().pipeline(transaction=False)
        for claim in claims:
            pipeline.set(self._name("c", claim.key), b"1", nx=True, px=max(1, round(claim.pause * 1000)))
            # Of two processes, one finds its own bit unset.
            bits = [number for number in range(_EXPLAINED_BITS) if claim.explains >> number & 1]
            own = claim.bit.bit_length() - 1
            operations = [word for number in (own, *bits) for word in ("SET", "u1", number, 1)]
            pipeline.execute_command("BITFIELD", self._name("e", claim.key), *operations)
            pipeline.expire(self._name("e", claim.key), max(1, round(claim.seconds)))
        answers = iter(pipeline.execute())
        granted = []
        for claim in claims:
            won, (was_explained, *_), _ = next(answers), next(answers), next(answers)
            granted.append(self._claimed(claim) if won or not was_explained else None)
        return granted

    def _claimed(self, claim: Claim) -> Claimed:
        name, number, seconds = self._name("i", claim.key), self._name("n", claim.key), max(1, round(claim.seconds))
        pipeline = self._connected().pipeline(transaction=False)
        pipeline.set(name, claim.name, nx=True, ex=seconds)
        pipeline.get(name)
        pipeline.expire(name, seconds)
        pipeline.incr(number)
        pipeline.expire(number, seconds)
        _, known, _, told, _ = pipeline.execute()
        return Claimed(bytes(known or claim.name.encode()).decode("ascii", "replace"), int(told) - 1)

    def keep(self, text: bytes) -> None:
        """Keep what is usual over a restart, instead of what was kept before."""
        self._connected().set(f"{self._prefix}usual", text, ex=_KEPT_SECONDS)

    def kept(self) -> bytes | None:
        """Return what was kept, None where there is nothing."""
        found = self._connected().get(f"{self._prefix}usual")
        return None if found is None else bytes(found)

    def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _name(self, kind: str, name: bytes) -> str:
        return f"{self._prefix}{kind}:{name.hex()}"

    def _connected(self) -> Any:
        if self._client is None:
            self._client = connect(parse_redis_url(self._url))
        return self._client


def _operations(row: Row) -> list[str | int]:
    """Return what BITFIELD is to do: add the counts, and set the bits that are new."""
    operations: list[str | int] = []
    for position, count in enumerate(row.counts):
        operations += ["INCRBY", "u32", position * _WORD_BITS, count]
    bits, offset = row.bits, len(row.counts) * _WORD_BITS
    while bits:
        bit = (bits & -bits).bit_length() - 1
        bits &= bits - 1
        # Redis numbers the bits of a byte from its highest one.
        operations += ["SET", "u1", offset + (bit | 7) - (bit & 7), 1]
    return operations
