"""Where processes put their counts together: what a store has to do; `store_place` says which one there is.

Nothing here is in the way of a request: `sharing` calls a store in a thread of its own. What is stored are counts and
bit maps under hashed names; no address, no user and no path is, and everything runs out by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

PREFIX = "{guard:behavior"
"""How the names of keys in Redis begin: as those of a queue, to which its user's grant is limited. Without a closing
brace it is no hash tag, so that they lie in all slots of a cluster."""
NAME_BYTES = 16
_WORD = 4


class Row(NamedTuple):
    """What a process adds to a client's bucket.

    Attributes:
        name: hashed; of the bucket, the same in all processes.
        before: the name of the bucket before, where that is to be read as well.
        counts: to add.
        bits: to set, within `width` bits.
        width: of the bit map.
        seconds: for which the row is of use.
    """

    name: bytes
    before: bytes | None
    counts: tuple[int, ...]
    bits: int
    width: int
    seconds: float


class Total(NamedTuple):
    """What all processes have in a bucket."""

    counts: tuple[int, ...]
    bits: int


class Claim(NamedTuple):
    """The wish to tell something of an incident.

    Attributes:
        key: of the incident, hashed.
        name: that it gets if it has none.
        pause: seconds in which nobody else may tell of it, but for what isn't explained by what was told.
        seconds: after which it is forgotten.
        bit: which finding is told (`incidents.Chapter`).
        explains: bits of all findings that are explained by it, its own among them; 8 bits.
    """

    key: bytes
    name: str
    pause: float
    seconds: float
    bit: int
    explains: int


class Claimed(NamedTuple):
    """A claim that was granted: the incident's name, and how often it was told before."""

    name: str
    number: int


class Store(Protocol):
    """What processes share; every call may wait, and raises what its client raises when the store is away."""

    def secret(self) -> bytes:
        """Return the key of the hashes, which the first process of all makes."""
        ...

    def exchange(self, rows: Sequence[Row]) -> list[tuple[Total, Total | None]]:
        """Add to the rows; return what all have in each, and in the one before where that was asked for."""
        ...

    def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Return for each claim what was granted, None where another process was first."""
        ...

    def keep(self, text: bytes) -> None:
        """Keep what is usual over a restart, instead of what was kept before."""
        ...

    def kept(self) -> bytes | None:
        """Return what was kept, None where there is nothing."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def packed(counts: Sequence[int], bits: int, width: int) -> bytes:
    """Return counts as words of 32 bits, and the bit map behind them."""
    words = b"".join(min(count, 2**32 - 1).to_bytes(_WORD, "big") for count in counts)
    return words + bits.to_bytes((width + 7) // 8, "little")


def unpacked(found: bytes, number: int, width: int) -> Total:
    """Return what `packed` has made, `number` counts and a map of `width` bits; what is missing is 0."""
    counts = tuple(int.from_bytes(found[i * _WORD : (i + 1) * _WORD].ljust(_WORD, b"\0"), "big") for i in range(number))
    return Total(counts, int.from_bytes(found[number * _WORD :], "little") & ((1 << width) - 1))
