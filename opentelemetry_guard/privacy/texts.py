"""The cleaning of one text.

- A text is cut to the limit and `LOOKAHEAD` before anything searches it.
- What is returned has no secret that the rules know, and at most `limit` bytes.
- Cleaning what was cleaned changes nothing: a text is cleaned until it stays.
- Only harmless texts are remembered, never what was masked; memory is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Sequence
from typing import TypeAlias

import orjson

from ..events.jsonsafe import JSON
from ..settings.mask import MASK
from .familiar import Familiar
from .hashed_addresses import HASHED_ADDRESS, AddressHash
from .kinds import Kind
from .ordinary import Ordinary
from .paths import mask_path, mask_query
from .quoted_content import without_content
from .secrets_in_text import mask
from .sensitive_names import Names

LOOKAHEAD = 256
"""Characters beyond the size limit that are searched for secrets; what is still longer is not looked at."""
MARKER = "..."
"""What a string that was cut ends with; it counts towards the limit."""
MEMORY = 2048
"""Harmless texts of each kind that are remembered; a client can send any number of them."""
MEMORABLE = 200
"""Characters of a text that is worth remembering for long."""

_MARGIN = 64
"""Characters before a cut that are left out: a secret that the cut goes through may be too short to recognise."""
_PASSES = 4
"""How often a text is cleaned until it stays; what does not stay is masked as a whole."""
_LONG_MEMORY = 16
"""Longer harmless texts of each kind that are remembered: a span is cleaned at its start and again at its end."""
_ID = re.compile(r"[0-9A-Fa-f-]{8,64}|[0-9]{4}-[0-9T:.Z+-]{6,36}")

_BEFORE_JSON = frozenset("{[ \t\r\n")

Hashing: TypeAlias = "Callable[[str], str] | None"
"""Returns a text with the client addresses in it hashed; None where they stay."""


class Texts:
    """Cleans texts under one configuration.

    Nothing here changes but the memories; threads that race there do some work twice, no more.
    """

    def __init__(
        self, names: Names, limit: int, addresses: AddressHash | None, clean_json: Callable[[JSON, int], JSON]
    ) -> None:
        """Clean texts.

        Args:
            names: which names are sensitive.
            limit: bytes of a text that is returned.
            addresses: hashes what a field of client addresses holds.
            clean_json: cleans the value of a JSON text, given how deep it lies.
        """
        self.harmless: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._harmless_long: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._names, self._limit, self._addresses, self._clean_json = names, limit, addresses, clean_json
        self._ordinary = Ordinary(names)
        self.familiar = Familiar(names, limit)
        self._mask = shorten(MASK, limit)

    def clean(self, original: str, kind: Kind, depth: int = 0, hashing: Hashing = None) -> str:
        """Return a text without secrets, the same object where there are none."""
        text, cut = original, False
        if len(original) > self._limit + LOOKAHEAD:
            text, cut = original[: self._limit + LOOKAHEAD], True
        if hashing:
            text = hashing(text)
        harmless = self.harmless[kind]
        if text in harmless or (not cut and text in self._harmless_long[kind]):
            return text
        if kind is Kind.ID and _ID.fullmatch(text):
            return text
        if kind is Kind.ADDRESS and len(text) <= self._limit and HASHED_ADDRESS.fullmatch(text):
            return text
        if (kind is Kind.PATH or kind is Kind.PLAIN) and not cut and len(text) <= self._limit:
            # What is known at once isn't remembered: it may never come again, and others that do would have to go.
            if self.familiar.has_all((text,)):
                return original if text == original else text
            if text in self._ordinary:
                self.familiar.learn(text)
                self._remember(text, kind)
                return original if text == original else text
        cleaned = text
        for _ in range(_PASSES):
            before, cleaned, cut = cleaned, self._once(cleaned, kind, depth, cut), False
            if cleaned == before or cleaned in harmless:
                break
        else:
            return self._mask
        self._remember(cleaned, kind)
        return original if cleaned == original else cleaned

    def _remember(self, text: str, kind: Kind) -> None:
        memory, most = self.harmless, MEMORY
        if len(text) > MEMORABLE:
            memory, most = self._harmless_long, _LONG_MEMORY
        if len(memory[kind]) >= most:
            memory[kind].clear()
        memory[kind].add(text)

    def _once(self, text: str, kind: Kind, depth: int, cut: bool) -> str:
        """Clean a text once; `cut` says whether something was cut from it before."""
        if len(text) > self._limit + LOOKAHEAD:
            text, cut = text[: self._limit + LOOKAHEAD], True
        if kind is Kind.ADDRESS and self._addresses is not None:
            text = self._addresses.in_field(text)
        elif kind is Kind.QUOTING:
            text = without_content(text)
        masked = None
        if text[:1] in _BEFORE_JSON and not cut and text.lstrip()[:1] in ("{", "["):
            masked = self._json(text, depth)
        if masked is None:
            masked = mask_query(text, self._names) if kind is Kind.PATH and "=" in text else text
            masked = mask(masked, self._names)
            if kind is Kind.PATH or "://" in masked or masked[:1] == "/":
                masked = mask_path(masked, self._names)
        if cut:
            return shorten(masked[:-_MARGIN], self._limit, always=True)
        return shorten(masked, self._limit)

    def _json(self, text: str, depth: int) -> str | None:
        """Return JSON text with its values cleaned, None where the text is no JSON."""
        repeated = False

        def collect(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
            nonlocal repeated
            made = dict(pairs)
            repeated = repeated or len(made) < len(pairs)
            return made

        try:
            value = json.loads(text, object_pairs_hook=collect)
            cleaned = self._clean_json(value, depth + 1)
            # A name that comes twice has a value that the mapping does not show.
            return text if cleaned is value and not repeated else orjson.dumps(cleaned).decode()
        except (ValueError, TypeError, RecursionError):
            return None


def free_name(name: str, limit: int, taken: Sequence[Container[str]], numbers: dict[str, int]) -> str:
    """Return a name that is not taken: names that differ in a secret alone are the same when it is masked.

    Args:
        name: that is taken.
        limit: bytes of a name.
        taken: where names are taken.
        numbers: where the search for the last one like it ended, so that a thousand like it are no longer search each.
    """
    number = numbers.get(name, 2)
    while True:
        suffix = f" ({number})"
        free = shorten(name, limit - len(suffix)) + suffix
        number += 1
        if not any(free in names for names in taken):
            numbers[name] = number
            return free


def shorten(text: str, limit: int, *, always: bool = False) -> str:
    """Return `text` in at most `limit` bytes of UTF-8: whole, or cut between characters and ended with the marker.

    Args:
        text: text that UTF-8 can encode.
        limit: bytes, at least 1.
        always: whether the marker is wanted even where the text fits, because something was cut from it before.
    """
    length = len(text)
    if not always and length <= limit and (length * 4 <= limit or text.isascii() or len(text.encode()) <= limit):
        return text
    room = limit - len(MARKER)
    if room <= 0:
        return MARKER[:limit]
    return text[:limit].encode()[:room].decode(errors="ignore") + MARKER
