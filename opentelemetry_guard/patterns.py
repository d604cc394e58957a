"""Regular expressions that others wrote, run over text that a client wrote, in bounded time.

A pattern is what `re` understands, found anywhere, in either case; text that
is no regular expression is looked for as it stands. Before a pattern is used,
the work that the worst text could cause is estimated from its parse tree, and
a pattern beyond `MOST_STEPS` is refused: `re` backtracks, holds the
interpreter's lock meanwhile and can't be interrupted.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

if sys.version_info >= (3, 11):
    from re import _parser as _sre
else:
    import sre_parse as _sre

MOST_STEPS = 5_000_000
"""Steps of `re` that the worst text may cost one pattern; tens of milliseconds, for patterns made to be slow."""
GROUP_COST = 15
"""Steps of a group's repeat, over its length, where a character class's takes one."""
MOST_VARIANTS = 256
"""Ways through a pattern's alternatives that are estimated; a pattern with more of them is refused."""

_Find = Callable[[str], "re.Match[str] | None"]

_FLAGS = re.IGNORECASE | re.MULTILINE
_QUOTED = 100
"""Characters of a pattern that a message quotes."""
_BEYOND = 256
"""Stands for every character beyond Latin-1."""
_ALL = frozenset(range(_BEYOND + 1))
_SINGLE = ("LITERAL", "NOT_LITERAL", "ANY", "IN")
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


class Patterns:
    """A list of patterns that tells which of them a text contains.

    Args:
        texts: the patterns.
        longest: characters of a text that are looked at; what follows is not.

    Attributes:
        problems: what was found wrong with patterns, in words.
    """

    __slots__ = ("_longest", "_matchers", "problems")

    def __init__(self, texts: Iterable[str], longest: int) -> None:
        self._longest = longest
        self._matchers: list[tuple[_Find, str]] = []
        problems: list[str] = []
        for text in texts:
            if not text:
                continue
            try:
                steps = worst_steps(text, longest)
                compiled = re.compile(text, _FLAGS)
            except (re.error, RecursionError, OverflowError):
                problems.append(f"{text[:_QUOTED]!r} is not a regular expression and is looked for as plain text")
                steps, compiled = 0.0, re.compile(re.escape(text), _FLAGS)
            if steps > MOST_STEPS:
                problems.append(
                    f"{text[:_QUOTED]!r} is ignored: a hostile text could keep it busy for too long; simplify it"
                )
            else:
                self._matchers.append((compiled.search, text))
        self.problems = tuple(problems)

    def __bool__(self) -> bool:
        return bool(self._matchers)

    def find(self, text: str) -> str | None:
        """Return the first pattern that `text` contains, None where it contains none."""
        subject = text[: self._longest]
        for find, pattern in self._matchers:
            if find(subject) is not None:
                return pattern
        return None


@dataclass(frozen=True, slots=True)
class _Piece:
    """One character class of a pattern: how often it may repeat, what a step costs, and its text if it is a literal."""

    characters: frozenset[int]
    many: bool = False
    literal: str = ""
    cost: int = 1


class _TooFree(Exception):
    """A pattern whose work can't be bounded: a repeat of something that itself varies, or a reference back."""


def worst_steps(pattern: str, longest: int) -> float:
    """Estimate the steps that the worst text of `longest` characters costs a search; infinity where nothing bounds it.

    Raises:
        re.error: the text is no regular expression.
    """
    tree = _sre.parse(pattern, _FLAGS)
    try:
        variants = list(itertools.islice(_variants(tree), MOST_VARIANTS + 1))
    except _TooFree:
        return float("inf")
    if len(variants) > MOST_VARIANTS:
        return float("inf")
    return sum(_steps(variant, longest) for variant in variants)


def _steps(pieces: Sequence[_Piece], longest: int) -> float:
    """Estimate one way through a pattern: the product of the places where its start and its loose ends can lie.

    A repeat whose successor can't be part of it ends at one place. Another
    is loose: it can end wherever the text that must follow occurs. From each
    combination of those the last repeat reads on, and all share the text.
    """
    repeats = [index for index, piece in enumerate(pieces[:-1]) if piece.many]  # one at the very end can't fail
    start = _period(_literal_at(pieces, 0))
    if not repeats:
        return len(pieces) * longest / start
    loose = [
        _period(_literal_at(pieces, index + 1))
        for index in repeats[:-1]
        if pieces[index + 1].many or pieces[index].characters & pieces[index + 1].characters
    ]
    share = longest / (2 + len(loose))
    cost = max(pieces[index].cost for index in repeats)
    return cost * longest * math.prod(max(1.0, share / period) for period in (start, *loose))


def _literal_at(pieces: Sequence[_Piece], index: int) -> str:
    return "".join(piece.literal for piece in itertools.takewhile(lambda piece: piece.literal, pieces[index:]))


def _period(text: str) -> int:
    """Return how far apart occurrences of `text` lie at least; 1 for none."""
    return next((step for step in range(1, len(text)) if text.startswith(text[step:])), max(1, len(text)))


def _variants(tree: Any) -> Iterator[list[_Piece]]:
    """Yield every way through a parse tree as its pieces."""
    for choice in itertools.product(*(_choices(str(op), arguments) for op, arguments in tree)):
        yield [piece for pieces in choice for piece in pieces]


def _choices(op: str, arguments: Any) -> list[list[_Piece]]:
    """Return the ways through one node of a parse tree."""
    if op == "AT":
        # Where a text begins is no place to fail after a repeat; its end and the edges of words are.
        return [[] if "BEGINNING" in str(arguments) else [_Piece(_ALL)]]
    if op in _SINGLE:
        return [[_piece(op, arguments)]]
    if op == "SUBPATTERN":
        return _some(_variants(arguments[-1]))
    if op == "ATOMIC_GROUP":
        return _some(_variants(arguments))
    if op == "BRANCH":
        ways = [way for branch in arguments[1] for way in _some(_variants(branch))]
        return ways if any(piece.many for way in ways for piece in way) else _merged(ways)
    if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return _repeated(*arguments)
    raise _TooFree


def _some(ways: Iterator[list[_Piece]]) -> list[list[_Piece]]:
    found = list(itertools.islice(ways, MOST_VARIANTS + 1))
    if len(found) > MOST_VARIANTS:
        raise _TooFree
    return found


def _merged(ways: list[list[_Piece]]) -> list[list[_Piece]]:
    """Make alternatives without repeats one piece: what they can begin with, anything where one of them is empty."""
    return [[_Piece(frozenset().union(*(way[0].characters if way else _ALL for way in ways)))]]


def _repeated(least: int, most: int, body: Any) -> list[list[_Piece]]:
    ways = _some(_variants(body))
    if least == most == 1:
        return ways
    if (least, most) == (0, 1):
        return [[], *ways]
    if len(ways) != 1 or any(piece.many for piece in ways[0]) or _branches(body):
        raise _TooFree
    pieces = ways[0]
    cost = 1 if len(body) == 1 and str(body[0][0]) in _SINGLE else max(1, GROUP_COST // max(1, len(pieces)))
    if least == most and least * len(pieces) <= 64:
        return [pieces * least]
    return [[_Piece(frozenset().union(*(piece.characters for piece in pieces)), many=True, cost=cost)]]


def _branches(body: Any) -> bool:
    """Tell whether a repeat's body has alternatives, which may match one text in several ways."""
    return any(
        str(op) == "BRANCH"
        or (
            str(op) in ("SUBPATTERN", "ATOMIC_GROUP")
            and _branches(arguments[-1] if str(op) == "SUBPATTERN" else arguments)
        )
        for op, arguments in body
    )


def _piece(op: str, arguments: Any) -> _Piece:
    if op == "ANY":
        return _Piece(_ALL - {10})
    if op == "IN":
        return _Piece(_members(arguments))
    if op == "NOT_LITERAL":
        return _Piece(_ALL - _cases(arguments) | {_BEYOND})
    return _Piece(frozenset(_cases(arguments)), literal=chr(arguments).lower())


def _members(items: Sequence[tuple[Any, Any]]) -> frozenset[int]:
    """Return the characters of a class like ``[a-z0-9]``."""
    members: set[int] = set()
    for op, value in items:
        if str(op) == "LITERAL":
            members.add(min(value, _BEYOND))
        elif str(op) == "RANGE":
            members.update(range(min(value[0], _BEYOND), min(value[1], _BEYOND) + 1))
        elif str(op) == "CATEGORY":
            members.update(code for code in _ALL if code == _BEYOND or re.match(_CATEGORIES[str(value)], chr(code)))
    members.update([code for member in members for code in _cases(member)])
    return _ALL - members | {_BEYOND} if str(items[0][0]) == "NEGATE" else frozenset(members)


def _cases(code: int) -> set[int]:
    """Return a character in both cases."""
    return {min(ord(case), _BEYOND) for case in (chr(code).lower(), chr(code).upper()) if len(case) == 1}
