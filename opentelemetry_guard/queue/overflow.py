"""Who goes when a queue is full: metrics before events, then by age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .base import Kind, Overflow

End = Literal["oldest", "newest"]


def eviction_order(incoming: Kind, policy: Overflow) -> tuple[tuple[Kind, End], ...]:
    """Return which queued batches may make room for an incoming one: kinds in order, each from one end."""
    if policy == "drop_oldest":
        return (("metrics", "oldest"),) if incoming == "metrics" else (("metrics", "oldest"), ("events", "oldest"))
    return () if incoming == "metrics" else (("metrics", "newest"),)


def room_can_be_made(
    size: int, excess: int, max_bytes: int, queued: Mapping[Kind, int], order: tuple[tuple[Kind, End], ...]
) -> bool:
    """Whether evicting in `order` fits an incoming body of `size` bytes; when it cannot, nothing is evicted in vain.

    `excess` is how far the incoming body passes the bound; `queued` holds the
    bytes of each kind that are queued (what is in flight never goes).
    """
    return size <= max_bytes and sum(queued[kind] for kind, _ in order) >= excess
