"""What all rules share that find secrets in a text: spans, and a look ahead that costs one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from ..settings.mask import MASK

Span: TypeAlias = tuple[int, int]
"""Where a secret begins in a text, and where it ends."""


def mask_spans(text: str, spans: Iterable[Span]) -> str:
    """Return a text with the mask in the place of each span; the same object where there are none.

    Args:
        text: the text that was searched.
        spans: ordered by where they begin; one that begins within another is part of it.
    """
    parts: list[str] = []
    done = 0
    for begin, end in spans:
        if begin >= done:
            parts += (text[done:begin], MASK)
        done = max(done, end)
    return "".join((*parts, text[done:])) if parts else text


class Lookahead:
    """The next match of a pattern in one text, for positions that only grow: all questions together cost one pass."""

    __slots__ = ("_at", "_pattern", "_text")

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        """Look for `pattern` in `text`; nothing is searched before the first question."""
        self._pattern, self._text = pattern, text
        self._at = -1

    def after(self, position: int) -> int:
        """Return where the first match at or after `position` begins, the text's length where there is none.

        Args:
            position: characters from the beginning; never less than in the question before.
        """
        if self._at < position:
            found = self._pattern.search(self._text, position)
            self._at = found.start() if found else len(self._text)
        return self._at
