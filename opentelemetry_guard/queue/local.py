"""What the Redis store needs of the store on this machine, beyond the queue protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from .base import Batch, DeliveryQueue

Holding = Literal["mine", "theirs", "dead"]
"""Where a stored batch is: this owner's, another owner's of the same store, or among the dead letters."""


@runtime_checkable
class LocalQueue(DeliveryQueue, Protocol):
    """A delivery queue that can also be compared with a copy elsewhere."""

    def adopt(self, batch: Batch) -> None:
        """Store a batch that another machine left behind, as `append` does, but as attempted once.

        It may have been sent without anybody knowing, so it must come alone and go out under its own `batch_id`. One
        that this store remembers to have finished is not stored again: its copy was only not removed in time.
        """
        ...

    def read(self, batch_ids: Sequence[str]) -> list[Batch]:
        """Return those of the batches that this owner has, queued or in flight; nothing changes."""
        ...

    def holdings(self, batch_ids: Sequence[str]) -> Mapping[str, Holding]:
        """Say where each of the batches is; one that is not stored is missing in the answer."""
        ...

    def finished(self, batch_ids: Sequence[str]) -> list[str]:
        """Return those of the batches that were here and are remembered as delivered or replaced."""
        ...

    def forget(self, batch_id: str) -> bool:
        """Remove a batch of this owner's that was delivered from another store, or went there.

        Its acceptance goes with it: the rows leave `accepted` here, and are in
        the ledger of the other store. False when this owner does not have it.
        """
        ...
