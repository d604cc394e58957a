"""The signatures: what attacks look like in a request. `signatures.ini` has them, and is read at first use."""

from __future__ import annotations

from collections.abc import Collection
from configparser import ConfigParser
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .patterns import Patterns

PLACES = ("values", "path", "headers", "raw", "missing")
"""Where a signature applies; `signatures.ini` says what each is."""

SEVERITIES = ("high", "medium", "low")
"""How little accidental a match is, the least accidental first."""

PIECE = 2048
"""Characters of a text that are looked at together; a match is much shorter."""

_VALUE = ("{value}", r"^[^=\n]*=")
"""What stands in the file for where a value begins, and its pattern."""
_FILE = Path(__file__).with_name("signatures.ini")


@dataclass(frozen=True, slots=True)
class Signature:
    """What one kind of attack looks like.

    Attributes:
        id: its name in events.
        category: of the attack.
        severity: one of `SEVERITIES`.
        where: some of `PLACES`.
        pattern: a regular expression that RE2 and `re` share, in either case of letters.
        finds: a text that it matches.
        passes: a text that it doesn't match.
    """

    id: str
    category: str
    severity: str
    where: frozenset[str]
    pattern: str
    finds: str
    passes: str


@lru_cache(maxsize=1)
def signatures() -> tuple[Signature, ...]:
    """Return all signatures, the least accidental first."""
    read = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",), strict=True)
    read.read_string(_FILE.read_text("utf-8"))
    found = [
        Signature(
            name,
            section["category"],
            section["severity"],
            frozenset(section["where"].split()),
            section["pattern"].replace(*_VALUE),
            section["finds"],
            section["passes"],
        )
        for name, section in read.items()
        if name != read.default_section
    ]
    return tuple(sorted(found, key=lambda signature: SEVERITIES.index(signature.severity)))


def categories() -> tuple[str, ...]:
    """Return the names of the categories, in alphabetical order."""
    return tuple(sorted({signature.category for signature in signatures()}))


class SignatureSet:
    """The signatures of one place; it tells which of them a text contains, in a time in proportion to its length."""

    __slots__ = ("_by_pattern", "_patterns")

    def __init__(self, place: str, wanted: Collection[str]) -> None:
        """Compile the signatures.

        Args:
            place: one of `PLACES`.
            wanted: the categories to look for.
        """
        self._by_pattern = {
            signature.pattern: signature
            for signature in signatures()
            if place in signature.where and signature.category in wanted
        }
        self._patterns = Patterns(self._by_pattern, PIECE, trusted=True)

    def find(self, text: str) -> Signature | None:
        """Return the least accidental signature that `text` contains, None where it contains none."""
        pattern = self._patterns.find(text)
        return None if pattern is None else self._by_pattern[pattern]
