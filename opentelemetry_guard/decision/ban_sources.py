"""Which ban list of others an entry of the blacklist is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from .addresses import AddressList, number_of


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


class ListedBans:
    """The bans of lists of others alone, for whoever bans by a blacklist without knowing whose entries are whose."""

    def __init__(self, blacklist: Sequence[str], sources: Iterable[Source]) -> None:
        """Take a blacklist, and which parts of it are from lists."""
        self._names = by_entry(blacklist, sources)
        self._addresses = AddressList(self._names)
        self._others = AddressList(entry for entry in blacklist if entry not in self._names) if self._names else None

    def list_of(self, address: str) -> str:
        """Return the list that bans an address; "" where none does, or the operator does as well."""
        number = number_of(address) if self._others is not None else None
        if number is None or self._others is None or self._others.find(number) is not None:
            return ""
        return self._names.get(self._addresses.find(number) or "", "")
