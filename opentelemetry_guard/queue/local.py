"""What the Redis store needs of the store on this machine, beyond the queue protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from .base import Batch, DeliveryQueue

Holding = Literal["mine", "theirs", "dead"]
"""Where a stored batch is: this owner's, another owner's of the same store, or among the dead letters."""


class LocalQueue(DeliveryQueue, Protocol):
    """A delivery queue that can also be compared with a copy elsewhere."""

    def read(self, batch_ids: Sequence[str]) -> list[Batch]:
        """Return those of the batches that this owner has, queued or in flight; nothing changes."""
        ...

    def holdings(self, batch_ids: Sequence[str]) -> Mapping[str, Holding]:
        """Say where each of the batches is; one that is not stored is missing in the answer."""
        ...

    def forget(self, batch_id: str) -> bool:
        """Remove a batch of this owner's that was delivered from another store, or went there.

        Its acceptance goes with it: the rows leave `accepted` here, and are in
        the ledger of the other store. False when this owner does not have it.
        """
        ...
