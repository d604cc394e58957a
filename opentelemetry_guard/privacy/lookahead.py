"""Where something comes next in a text: searched for once for each place, however often it is asked."""

from __future__ import annotations

import re


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
