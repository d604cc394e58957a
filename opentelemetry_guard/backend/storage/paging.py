"""Pages of a list, the newest first: how far one goes, and where the next begins.

A list is in the order of a time and an id, so that a page costs the same wherever it lies. Where rows have to be
compared one by one, a look (`looks`) may end before a page is full: the page says how far it came, and the next one
goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .looks import stretches

_AT_THE_TOP = (1e12, 0)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: what follows it is older than `occurred_at` (Unix seconds), or as old with a smaller id."""

    occurred_at: float
    id: int

    def __str__(self) -> str:
        """Spell the cursor for a URL."""
        return f"{self.occurred_at!r}_{self.id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` spelled.

        Raises:
            ValueError: it is no cursor.
        """
        match = re.fullmatch(r"(-?\d{1,15}(?:\.\d{1,20})?(?:e[-+]?\d{1,3})?)_(\d{1,18})", text)
        if match is None:
            raise ValueError("not a place in the list of events")
        return cls(float(match[1]), int(match[2]))


def place_of(before: Cursor | None) -> tuple[float, int]:
    """Return the time and id before which a page begins; without a cursor, what comes before all."""
    return _AT_THE_TOP if before is None else (before.occurred_at, before.id)


class Listed(Protocol):
    """What a list is of."""

    @property
    def cursor(self) -> Cursor:
        """Its place in the list."""
        ...


ListedT = TypeVar("ListedT", bound=Listed)


@dataclass(frozen=True, slots=True)
class Page(Generic[ListedT]):
    """What was found, the newest first; `older` is where to go on, None at the end of the list.

    `looked_at` is how many rows were looked at where a look ended before the page was full, 0 where none did.
    """

    found: list[ListedT]
    older: Cursor | None
    looked_at: int = 0

    @property
    def cut_short(self) -> bool:
        """Whether there are more rows to look at, though the page isn't full."""
        return self.looked_at > 0


def paged(found: list[ListedT], limit: int) -> Page[ListedT]:
    """Return a page of what was found, which is up to one more than there is room for."""
    return Page(found[:limit], found[limit - 1].cursor) if len(found) > limit else Page(found, None)


Stretch = tuple[list[ListedT], Callable[[], "Cursor | None"]]
"""What was found in it, and what returns the place at its end; None at the end of the list."""


def looked(
    walk: Callable[[Cursor | None, int, int], Stretch[ListedT]], before: Cursor | None, limit: int
) -> Page[ListedT]:
    """Return a page of what one look finds.

    Args:
        walk: walks a stretch of the list; it is given the place where that begins, how much is to be found at most, and
            how many rows it has.
        before: where the page begins.
        limit: how much the page has room for.
    """
    found: list[ListedT] = []
    looked_at, place = 0, before
    for rows in stretches():
        more, end = walk(place, limit + 1 - len(found), rows)
        found += more
        if len(found) > limit:
            return paged(found, limit)
        place = end()
        if place is None:
            return Page(found, None)
        looked_at += rows
    return Page(found, place, looked_at)


def followed(page: Callable[[Cursor | None], Page[ListedT]]) -> Iterator[ListedT]:
    """Give everything of a list, page by page, each one read when it is come to.

    Args:
        page: returns the page that begins at a place, None for the first.
    """
    read = page(None)
    yield from read.found
    while read.older is not None:
        read = page(read.older)
        yield from read.found
