"""Which ban list of others an entry of the blacklist is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Source(Protocol):
    """A part of a blacklist: `count` entries from the one at `first`, counted from 0, are of the list `name`."""

    @property
    def name(self) -> str:
        """The list, as operators know it."""

    @property
    def first(self) -> int:
        """Where its entries begin."""

    @property
    def count(self) -> int:
        """How many it has."""


def by_entry(blacklist: Sequence[str], sources: Iterable[Source]) -> dict[str, str]:
    """Return the name of the list that each entry is from; those of the operator are left out.

    Of parts that overlap the first counts, so that it takes no longer than the blacklist is.
    """
    names: dict[str, str] = {}
    reached = 0
    for source in sources:
        end = source.first + source.count
        for entry in blacklist[max(source.first, reached) : max(end, 0)]:
            names.setdefault(entry, source.name)
        reached = max(reached, end)
    return names
