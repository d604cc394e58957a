"""Regular expressions that others wrote, run over text that a client wrote, in bounded time.

A pattern is what `re` understands, found anywhere, in either case; text that
is no regular expression is looked for as it stands. All patterns together are
one automaton of google-re2 (extra ``patterns``), which reads a text once,
however many they are. What RE2 doesn't know (a look-ahead), and everything
where it isn't installed, is searched by `re` as far as that is bounded
(`bounded_re`). A long text is looked at piece by piece, so that nothing hides
behind a pad. A text that keeps patterns busy for `MOST_SECONDS` is not
looked at by the rest of them, and that is said.
"""

from __future__ import annotations

import importlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ..settings.once import log_once
from .bounded_re import FLAGS, GRAM, BoundedSearch

_logger = logging.getLogger(__name__)

MOST_SECONDS = 0.02
"""Seconds of processor time after which a text is not looked at by further matchers."""
LONGEST_PATTERN = 4096
"""Characters of a pattern; a longer one is refused."""
MOST_INSTRUCTIONS = 4096
"""Instructions of RE2 that one pattern may have; ordinary ones have about as many as characters."""
SET_INSTRUCTIONS = 24_576
"""Instructions of one automaton of patterns as they were written; a thousand ordinary patterns."""
UNROLLED_INSTRUCTIONS = 4_096
"""Instructions of one automaton of patterns that are much longer than their text, as ``.{200}`` is.

All of them can be at work at once, which takes some nanoseconds each at each character of the worst text.
"""
MOST_SETS = 64
"""Automata of one list, of 8 MiB at most each."""

_QUOTED = 100
"""Characters of a pattern that a message quotes."""
_DIFFERENT = re.compile(r"\{,|\[:")
"""What RE2 takes for something else than `re` does."""


class Patterns:
    """A list of patterns that tells which of them a text contains.

    Attributes:
        problems: what was found wrong with patterns, in words.
    """

    __slots__ = ("_matchers", "problems")

    def __init__(self, texts: Iterable[str], piece: int, *, trusted: bool = False) -> None:
        """Compile patterns.

        Args:
            texts: the patterns.
            piece: characters of a text that are looked at together. A longer text is looked at in pieces, each half
                over the one before, and a match has to lie within one.
            trusted: whether no pattern can keep `re` busy for long with a piece, as its author says.
        """
        problems: list[str] = []
        self._matchers = _matchers([text for text in texts if text], piece, problems, trusted=trusted)
        self.problems = tuple(problems)

    def __bool__(self) -> bool:
        return bool(self._matchers)

    def find(self, text: str) -> str | None:
        """Return a pattern that `text` contains, None where it contains none; the first one where RE2 knows all."""
        if len(self._matchers) == 1:
            return self._matchers[0].find(text, _never)
        budget = _Budget()
        for matcher in self._matchers:
            if (found := matcher.find(text, budget)) is not None:
                return found
            if budget():
                break
        return None


def refusal(text: str, piece: int) -> str | None:
    """Return why a pattern would not be used, in words; None for one that would be.

    Args:
        text: the pattern.
        piece: characters of the longest text that it is searched in at once.
    """
    return next(iter(Patterns([text], piece).problems), None)


def matched(pattern: str, text: str) -> str:
    """Return what of `text` a pattern matches; all of it without google-re2, which alone is sure to end."""
    re2 = _re2()
    found = None if re2 is None else re2.search(_for_re2(pattern), text, _options(re2))
    return text if found is None else str(found.group())


class _Budget:
    """The time that one text may take. Processor time: a process that waits for its turn is no slow pattern."""

    __slots__ = ("_cpu", "_wall")

    def __init__(self) -> None:
        self._cpu = time.thread_time() + MOST_SECONDS
        self._wall = time.perf_counter() + MOST_SECONDS

    def __call__(self) -> bool:
        if time.perf_counter() < self._wall or time.thread_time() < self._cpu:  # the first is cheap, and says it mostly
            return False
        log_once(
            _logger,
            logging.WARNING,
            f"patterns took more than {MOST_SECONDS * 1000:.0f} ms on a request, which was not "
            "looked at by the rest of them: simplify the patterns, or use fewer",
            cause="patterns over their time",
        )
        return True


def _never() -> bool:
    return False


class _Automaton:
    """Patterns that one RE2 set looks for."""

    __slots__ = ("_all", "_compile", "_match", "_piece", "_texts")

    def __init__(self, re2: Any, texts: Sequence[str], piece: int) -> None:
        self._texts = texts
        self._piece = piece
        options = _options(re2)
        automaton = re2.Set.SearchSet(options)
        for text in texts:
            automaton.Add(_for_re2(text))
        # It is in every text: a set that doesn't find it has run out of memory, which it tells in no other way.
        self._all = automaton.Add("")
        automaton.Compile()
        self._match = automaton.Match
        self._compile = partial(re2.compile, options=options)

    def find(self, text: str, over: Callable[[], bool]) -> str | None:
        """Return one that `text` contains, None where it contains none or the time is over."""
        subject = text.encode("utf-8", "replace")
        if len(subject) <= self._piece:
            found = self._match(subject)
            if self._all in found:
                first = min(found)
                return None if first == self._all else self._texts[first]
        over = _Budget() if over is _never else over
        step = max(self._piece // 2, 1)
        for start in range(0, max(len(subject) - self._piece + step, 1), step):
            if (pattern := self._find_in(subject, start, over)) is not None:
                return pattern
            if over():
                break
        return None

    def _find_in(self, subject: bytes, start: int, over: Callable[[], bool]) -> str | None:
        """Look into the piece that begins at `start`, whose borders are none of the text's."""
        found = self._match(subject[start : start + self._piece])
        candidates = sorted(found)[:-1] if self._all in found else range(len(self._texts))
        for number in candidates:
            search = self._compile(_for_re2(self._texts[number])).search
            if search(subject, start, min(start + self._piece, len(subject))) is not None:
                return self._texts[number]
            if over():
                break
        return None


class _Searches:
    """Patterns that `re` looks for, in their order, each only in a text that has three characters which it needs."""

    __slots__ = ("_searches",)

    def __init__(self, searches: Sequence[BoundedSearch]) -> None:
        self._searches = searches

    def find(self, text: str, over: Callable[[], bool]) -> str | None:
        """Return one that `text` contains, None where it contains none or the time is over."""
        over = _Budget() if over is _never else over
        for search in self._candidates(text):
            for has_match in search.searches(text):
                if has_match:
                    return search.pattern
                if over():
                    return None
        return None

    def _candidates(self, text: str) -> Iterator[BoundedSearch]:
        folded = text.casefold()
        grams = {folded[index : index + GRAM] for index in range(len(folded) - GRAM + 1)}
        return (search for search in self._searches if not search.gram or search.gram in grams)


def _matchers(texts: Sequence[str], piece: int, problems: list[str], *, trusted: bool) -> list[_Automaton | _Searches]:
    """Return what looks for patterns, and add to `problems` what is wrong with them."""
    re2 = _re2() if texts else None
    written, unrolled = _Sets(SET_INSTRUCTIONS), _Sets(UNROLLED_INSTRUCTIONS)
    searches: list[BoundedSearch] = []
    for text in texts:
        pattern = text if trusted else _checked(text, problems)
        if pattern is None:
            continue
        if size := 0 if re2 is None else _instructions(re2, pattern):
            (unrolled if size > 2 * len(pattern) + 16 and not trusted else written).add(pattern, size)
        elif (search := BoundedSearch(pattern, piece, trusted=trusted)).window:
            searches.append(search)
        else:
            problems.append(f"{_quoted(text)} is ignored: a text could keep it busy for too long; {_remedy(re2)}")
    sets = [*written.sets, *unrolled.sets]
    left_out = [pattern for patterns in sets[MOST_SETS:] for pattern in patterns]
    if left_out:
        problems.append(f"{len(left_out)} patterns from {_quoted(left_out[0])} on are ignored: there are too many")
    found: list[_Automaton | _Searches] = [_Automaton(re2, patterns, piece) for patterns in sets[:MOST_SETS]]
    return [*found, _Searches(searches)] if searches else found


class _Sets:
    """Patterns in sets of so many instructions at most."""

    def __init__(self, instructions: int) -> None:
        self.sets: list[list[str]] = []
        self._instructions = instructions
        self._room = 0

    def add(self, pattern: str, size: int) -> None:
        """Put a pattern of that many instructions into the last set, or into a new one."""
        if size > self._room:
            self.sets.append([])
            self._room = self._instructions
        self._room -= size
        self.sets[-1].append(pattern)


def _checked(text: str, problems: list[str]) -> str | None:
    """Return a pattern that `re` understands; None for one that is too long."""
    if len(text) > LONGEST_PATTERN:
        problems.append(f"{_quoted(text)} is ignored: it has more than {LONGEST_PATTERN} characters")
        return None
    try:
        re.compile(text, FLAGS)
    except (re.error, RecursionError, OverflowError, Warning):
        problems.append(f"{_quoted(text)} is not a regular expression and is looked for as plain text")
        return re.escape(text)
    return text


def _quoted(text: str) -> str:
    return repr(text[:_QUOTED])


def _remedy(re2: Any) -> str:
    return "install google-re2 (extra 'patterns'), or simplify it" if re2 is None else "simplify it"


def _re2() -> Any:
    """Return the module `re2`, None where it isn't installed."""
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


def _options(re2: Any) -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.log_errors = False
    return options


def _for_re2(text: str) -> str:
    return f"(?m)(?:{text})"


def _instructions(re2: Any, text: str) -> int:
    """Return the size of a pattern as RE2 has it; 0 for one that RE2 doesn't know, or that is too large."""
    if _DIFFERENT.search(text):
        return 0
    try:
        size = int(re2.compile(_for_re2(text), _options(re2)).programsize)
    except (re2.error, UnicodeEncodeError):
        return 0
    return size if size <= MOST_INSTRUCTIONS else 0
