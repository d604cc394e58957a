"""What is particular to one wire protocol: what a batch is, how it is merged, split and accounted for, and its answers.

Guard's rows are one protocol, OTLP's requests another; queue, sender, breaker, limiter and ledger are the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..queue.base import KINDS, Batch, Kind
from ..settings.delivery import PREFIX
from .body_limit import BodyLimit
from .outcome import Outcome
from .route import ROUTES, RouteName

Piece = tuple[bytes, int]
"""Rows as a body has them, and how many they are."""


def grouped(pieces: Sequence[Piece], room: int, max_rows: int, between: int = 0) -> Iterator[tuple[list[bytes], int]]:
    """Yield the pieces in as few groups as keep the bounds, in their order, each with its number of rows.

    Args:
        pieces: what is put together; one that is larger than a bound is a group of its own.
        room: bytes of a group at most.
        max_rows: rows of a group at most.
        between: bytes between two pieces.
    """
    parts: list[bytes] = []
    size = rows = 0
    for piece, number in pieces:
        if parts and (size + len(piece) > room or rows + number > max_rows):
            yield parts, rows
            parts, size, rows = [], 0, 0
        parts.append(piece)
        size += len(piece) + between
        rows += number
    if parts:
        yield parts, rows


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire protocol's names.

    Attributes:
        name: whose it is, in messages: "the Guard backend".
        kinds: of its rows, in the order in which they are sent; the reverse is the order in which they are dropped.
        routes: of its receiver: one for each kind, named like it, and those for other calls.
        queue_variable: the setting that names the queue.
    """

    name: str
    kinds: tuple[Kind, ...]
    routes: tuple[RouteName, ...]
    queue_variable: str


GUARD = Wire("Guard", KINDS, ROUTES, f"{PREFIX}QUEUE_URL")
"""Rows of events and metrics as the Guard backend takes them."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What is left of a batch of which not all is worth sending any more.

    `batch` takes its place, with a `batch_id` of its own and as many rows;
    None where nothing is left, and `dropped` says why, rows by reason.
    """

    batch: Batch | None
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an accepted batch: the outcome with all that was not kept, and what of that is a dead letter.

    `dropped` has the other rows by reason.
    """

    outcome: Outcome
    dropped: Mapping[str, int] = field(default_factory=dict)
    letters: Sequence[Batch] = ()


class Cargo(Protocol):
    """Knows what is in the batches of one wire protocol. Any thread may call any method."""

    limit: BodyLimit
    """How large a body may be."""
    max_rows: int
    """Rows of one request at most, as far as batches are merged."""

    def size(self, batch: Batch) -> int:
        """Return the bytes of a batch's body without compression and encryption; it never raises."""
        ...

    def is_current(self, batch: Batch) -> bool:
        """Whether a batch may be sent as it is; else its pieces are joined anew."""
        ...

    def pieces(self, batch: Batch) -> list[Piece]:
        """Return a batch's rows for `join`.

        Raises:
            ValueError: they can't be read.
        """
        ...

    def join(self, kind: Kind, pieces: Sequence[Piece], created_at: float | None) -> list[Batch]:
        """Return as few batches as have room for the pieces, in their order, that are as old as `created_at`."""
        ...

    def split(self, batch: Batch) -> list[Batch]:
        """Return the batches that a batch's rows make under the limit; its halves where it is within the limit.

        Raises:
            ValueError: they can't be read.
        """
        ...

    def sift(self, batch: Batch) -> Sifted | None:
        """Look what of a batch is still worth sending; None where all of it is."""
        ...

    def receipt(self, batch: Batch, outcome: Outcome, was_sent_before: bool) -> Receipt:
        """Return what has become of an accepted batch's rows.

        `was_sent_before` says that it may have arrived already, with its answer lost.
        """
        ...


class Sending(Protocol):
    """Makes the requests of one destination, and judges the answers. It never raises: whatever happens is an `Outcome`.

    Each `timeout` is in seconds and counts where it is less than the
    setting. Any thread may call any method.
    """

    def send(self, batch: Batch, timeout: float = math.inf) -> Outcome:
        """Send `batch` and return what became of it."""
        ...

    def close(self) -> None:
        """Close the connections that no call is using; a later call opens new ones."""
        ...
