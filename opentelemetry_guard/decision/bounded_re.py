"""Searches of `re` whose work is bounded before they begin.

`re` backtracks, holds the interpreter's lock meanwhile and can't be interrupted.
So the ways through a pattern are counted from its parse tree: at most
``factor * w ** degree`` in a text of `w` characters, one for each combination
of what its alternatives take and where its repeats end. From that comes the
window in which one search stays below `MOST_STEPS`; a longer text is searched
window by window, each half over the one before. A pattern whose ways nothing
bounds (a repeat of something that itself varies) has no window.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    from re import _parser as _sre
else:
    import sre_parse as _sre

FLAGS = re.IGNORECASE | re.MULTILINE
"""How patterns are meant: in either case, and with anchors at each line."""
MOST_STEPS = 4_000_000
"""Steps of `re` that one search may take at most; some 20 milliseconds."""
LEAST_WINDOW = 32
"""Characters that a window must have to be of use."""
GRAM = 3
"""Characters by which a text is known to lack what a pattern needs."""

_MOST_LOOSE = 8
"""Loose repeats beyond which no window is of use."""
_COUNTED = 16
"""Choices of a repeat that count as so many ways; one with more of them counts as loose."""
_UNROLLED = 8
"""Repetitions of something that itself varies that are counted out."""
_EDGES = re.compile(r"\$|\\[bBZ]|\(\?")
"""What can hold at the end of a window and not in the text."""


class _Ways(NamedTuple):
    """The ways through a part of a pattern, and the most steps of one of them besides its loose repeats."""

    degree: int
    factor: int
    length: int


class _Unbounded(Exception):
    """A part that nothing bounds."""


class BoundedSearch:
    """One pattern, searched by `re` in windows; see the module.

    Attributes:
        pattern: its text.
        gram: `GRAM` characters, casefolded, that each match has in it; "" where there are none for certain.
        window: characters of one search, 0 for a pattern that may not be used.
    """

    __slots__ = ("_has_edges", "_search", "gram", "pattern", "window")

    def __init__(self, pattern: str, longest: int, *, trusted: bool = False) -> None:
        """Look at a pattern.

        Args:
            pattern: a regular expression.
            longest: characters of the longest window.
            trusted: whether the author of the pattern says that it can be searched in so many characters.

        Raises:
            re.error: it is none.
        """
        tree = _sre.parse(pattern, FLAGS)
        self.pattern = pattern
        self.window = longest if trusted else _window(tree, longest)
        self.gram = _gram(tree)
        self._has_edges = _EDGES.search(pattern) is not None
        self._search: Callable[[str, int, int], re.Match[str] | None] = re.compile(pattern, FLAGS).search

    def searches(self, text: str) -> Iterator[bool]:
        """Search one window after the other, and tell of each whether it has a match."""
        start, end = 0, self.window
        while True:
            match = self._search(text, start, end)
            # The end of a window is none of the text's; the next window has the text around it.
            yield match is not None and not (self._has_edges and match.end() == end < len(text))
            if end >= len(text):
                return
            start, end = end - self.window // 2, end + self.window // 2


def _window(tree: Any, longest: int) -> int:
    try:
        ways = _of_search(list(tree))
    except (_Unbounded, RecursionError):
        return 0
    per_start = ways.factor * (ways.length + 1) / math.factorial(ways.degree + 1)
    widest = (MOST_STEPS / per_start) ** (1 / (ways.degree + 1))
    return min(longest, int(widest)) if widest >= min(LEAST_WINDOW, longest) else 0


def _of_search(nodes: list[Any]) -> _Ways:
    """Count the ways of a whole pattern. A repeat at its very end can't fail once it has what it must have."""
    if nodes and str(nodes[-1][0]) in ("MAX_REPEAT", "MIN_REPEAT"):
        least, _, body = nodes[-1][1]
        return _joined([*map(_of_node, nodes[:-1]), _repeated(least, least, _of(body))])
    return _of(nodes)


def _of(nodes: Any) -> _Ways:
    return _joined([_of_node(node) for node in nodes])


def _counted(degree: int, factor: int, length: int) -> _Ways:
    """Return ways that are few enough to go on with: numbers of any size would be slow themselves."""
    if degree > _MOST_LOOSE or factor > MOST_STEPS or length > MOST_STEPS:
        raise _Unbounded
    return _Ways(degree, factor, length)


def _joined(parts: Iterable[_Ways]) -> _Ways:
    return reduce(
        lambda a, b: _counted(a.degree + b.degree, a.factor * b.factor, a.length + b.length), parts, _Ways(0, 1, 0)
    )


def _of_node(node: tuple[Any, Any]) -> _Ways:
    name, arguments = str(node[0]), node[1]
    if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN", "AT", "FAILURE"):
        return _Ways(0, 1, 1)
    if name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
        return _of(arguments[-1])
    if name == "ATOMIC_GROUP":
        return _of(arguments)
    if name == "BRANCH":
        return _either([_of(branch) for branch in arguments[1]])
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, body = arguments
        return _repeated(least, most, _of(body))
    raise _Unbounded


def _either(ways: list[_Ways]) -> _Ways:
    degrees, factors, lengths = zip(*ways, strict=True)
    return _counted(max(degrees), sum(factors), max(lengths))


def _repeated(least: int, most: int, body: _Ways) -> _Ways:
    """Count the ways of a repeat: one for each number of repetitions, times the body's own."""
    choices = most - least + 1
    if body.degree == 0 and body.factor == 1:
        if choices <= _COUNTED:
            return _counted(0, choices, most * body.length)
        return _counted(1, 1, (least + 1) * body.length)
    if most > _UNROLLED:
        raise _Unbounded
    return _counted(body.degree * most, choices * body.factor**most, most * body.length)


def _gram(tree: Any) -> str:
    """Return the first characters of the longest run of ASCII literals that every match has."""
    runs = [""]
    for name, argument in tree:
        if str(name) == "LITERAL" and argument < 128:
            runs[-1] += chr(argument).casefold()
        else:
            runs.append("")
    longest = max(runs, key=len)
    return longest[:GRAM] if len(longest) >= GRAM else ""
