"""Says of a URL that it is made of familiar parts: of names that ordinary ones had, and values too short for a secret.

A client chooses its texts, but not what they are made of: paths and the names of parameters come from the application.
Those that were in ordinary URLs (`ordinary`) are remembered; between them may be numbers, UUIDs and short words. No
token and no card number is so short, and no name among those that are remembered announces anything: what is said here
is what all rules together would say. Of any other text nothing is said.

Every request has two such texts, and nothing that looks at them is in the processor's caches when they come: so a look
is few steps, and one expression for a whole query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..settings.token_forms import HOSTS
from ..settings.tokens import mask_tokens
from .sensitive_names import Names

_LONGEST = 2_000
_SHORT = 14
"""Digits that are too many: so many can be a card's number."""
_DIGITS = "0123456789"
# No blank is between digits, so that those of several words are no card number. What stands where is never in
# doubt: an expression that could be read in two ways would take a hostile query's square.
_WORD = "[A-Za-z0-9.-]{0,12}"
_BLANK = r"(?:\+|%20| )"
# No letter beyond ASCII that `re` takes for one of ASCII, and none that is a wide or an invisible one.
_LETTER = "[\u00c0-\u012f\u0132-\u017e\u0370-\u03ff\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]"
_JOINT = rf"(?:,|{_LETTER}|%[89A-Fa-f][0-9A-Fa-f]|(?<![0-9]){_BLANK}|(?<=[0-9]){_BLANK}(?![0-9]))"
_VALUE = re.compile(rf"{_WORD}(?:{_JOINT}{_WORD})*")
"""Numbers, dates and short words, and what joins these."""
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

_ORIGIN = re.compile(r"https?://([a-z0-9.-]{1,80}(?::[0-9]{1,5})?)")
_SEGMENT = re.compile(r"[a-z]{1,15}(?:[_-][a-z]{1,15}){0,3}|(?=[0-9]*[a-z])[a-z0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}(?:[_-][A-Za-z0-9]{1,15}){0,3}")
_FILLER = "0" * 64
"""What any form of a token takes for the rest of one, where it has no other sign in its midst."""
_MEMORY = 512
"""Parts of each kind that are remembered; a client can invent any number of them."""
_AT_ONCE = 3
"""Parts of one text that are remembered, so that one with many that are made up costs little more than without."""


class Familiar:
    """Knows familiar URLs under one configuration.

    Nothing here changes but the memories; threads that race there do some work twice, no more.
    """

    def __init__(self, names: Names, limit: int) -> None:
        """Take the names that are sensitive, and the bytes of the longest text that stays whole."""
        self._names = names
        self._longest = min(limit, _LONGEST)
        self._origins: set[str] = set()
        self._segments: set[str] = set()
        # Paths made of these, up to a number at their end.
        self._stems: set[str] = set()
        self._parameters: set[str] = set()

    def has_all(self, texts: Sequence[str]) -> bool:
        """Whether URLs, paths and queries are made of familiar parts, so that cleaning them would change nothing.

        Args:
            texts: those of one span. What the last one has in it already, which is the URL, is not looked at again.
        """
        path = query = ""
        for text in reversed(texts):
            if text in (path, query):
                continue
            # Slack's tokens are shorter than others, and Bedrock's go on behind a plus.
            if len(text) > self._longest or "xox" in text or "ABSK" in text:
                return False
            if text[:1] == "/":
                path, _, query = text.partition("?")
            elif text[:4] == "http" and (begin := text.find("/", 8)) > 0:
                if text[:begin] not in self._origins:
                    return False
                path, _, query = text[begin:].partition("?")
            else:
                path, query = "", text
            if path:
                if not path.isascii():
                    return False
                stem = path.rstrip(_DIGITS)
                number = len(path) - len(stem)
                is_known = stem in self._stems and (not number or (number < _SHORT and stem[-1] == "/"))
                if not is_known and not self._learns(path, stem):
                    return False
            if query and not self._has_query(query):
                return False
        return True

    def _has_query(self, query: str) -> bool:
        parameters = self._parameters
        for parameter in query.split("&"):
            name, _, value = parameter.partition("=")
            if name not in parameters or not ((len(value) < _SHORT and value.isalnum()) or _VALUE.fullmatch(value)):
                return False
        # What has credentials behind it, after a blank.
        lower = query.lower()
        return not ("bearer" in lower or "basic" in lower or "digest" in lower or "--" in lower or "dentified" in lower)

    def _learns(self, path: str, stem: str) -> bool:
        """Whether all segments of a path are familiar; then what is in front of its last number is remembered."""
        segments = self._segments
        inner = path[1:-1] if path[-1] == "/" else path[1:]
        if inner:
            before = ""
            for segment in inner.split("/"):
                is_plain = segment in segments or (segment.isdigit() and len(segment) < _SHORT)
                # Behind a sensitive name a UUID may be a secret; what is remembered is none.
                if not is_plain and not (before in segments and _UUID.fullmatch(segment)):
                    return False
                before = segment
        if stem[-1] == "/" or stem == path:
            _remember(stem, self._stems)
        return True

    def learn(self, text: str) -> None:
        """Remember some parts of a URL that `ordinary` knows to hold no secret."""
        origin = _ORIGIN.match(text)
        begin = origin.end() if origin else 0
        path, _, query = text[begin:].partition("?") if text[begin : begin + 1] == "/" else ("", "", text[begin:])
        left = _AT_ONCE
        if origin and path and origin[0] not in self._origins and self._is_harmless_host(origin[1]):
            _remember(origin[0], self._origins)
            left -= 1
        for segment in path.split("/"):
            if left and segment not in self._segments and self._is_harmless_segment(segment):
                _remember(segment, self._segments)
                left -= 1
        for parameter in query.split("&"):
            name, separator, _ = parameter.partition("=")
            if left and separator and name not in self._parameters and _is_harmless_name(name):
                _remember(name, self._parameters)
                left -= 1

    def _is_harmless_host(self, host: str) -> bool:
        return not self._is_sensitive(host) and not any(word in host for word in HOSTS)

    def _is_harmless_segment(self, segment: str) -> bool:
        if not _SEGMENT.fullmatch(segment) or self._is_sensitive(segment):
            return False
        sample = f"/{segment}/{_FILLER}"
        return mask_tokens(sample) == sample

    def _is_sensitive(self, segment: str) -> bool:
        """Whether a segment that looks like a secret is one behind this one."""
        return segment in self._names or segment.removesuffix("s") in self._names


def _is_harmless_name(name: str) -> bool:
    if not _NAME.fullmatch(name):
        return False
    sample = f"?{name}={_FILLER}"
    return mask_tokens(sample) == sample


def _remember(part: str, memory: set[str]) -> None:
    if len(memory) >= _MEMORY:
        memory.clear()
    memory.add(part)
