"""What a request has in it that attacks have: its query, path and some headers, held against the signatures.

Nearly every request has nothing in it but letters, digits and what joins them, and none of the words that a signature
needs then. `bytes.translate` and a few searches say so in a microsecond, and nothing else is done: the automaton is as
quick in a loop, but its tables are far from a processor that has just run an application. What remains is brought to
one form first (`forms`): decoded as often as servers and applications do it, without the blanks and comments by which
payloads are drawn apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from .patterns import matched
from .signatures import Signature, SignatureSet

MOST_BYTES = 65_536
"""Bytes of a query, a path or a body that are looked at; servers take no longer request line."""

_LONGEST_QUOTATION = 200
_REMEMBERED = 1024
_LONGEST_REMEMBERED = 512

_WORDS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_PLAIN_QUERY = _WORDS + b"+,"
_PLAIN_PATH = _WORDS + b"-_/~"
"""Of these alone, next to nothing is made that a signature looks for; of parameters see `_HINTS`."""
_HINTS = ("union", "having", "order+", "like", "cposix", "gzinflate", "ro0ab", "aced0005")
"""What parameters of `_PLAIN_QUERY` have in them where a signature matches, unless a value has an equals sign."""
_HINTS_JOINED = tuple(
    """
    moz-binding bash+ invoke- certutil powershell base64_decode str_rot13 file_get_contents allow_url_include
    auto_prepend_file c__builtin _memberaccess xp_ sp_
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""What they may have besides, where a hyphen or an underscore is in them."""
_PERCENT = ord("%")
"""A number is looked up in bytes in a fifth of the time that one byte takes."""

_OVERLONG = tuple(
    (encoded, bytes((code,)))
    for code in map(ord, "\"'<>()[]{}./\\;:|&$`=,#%!*+-")
    for encoded in (bytes((0xC0 | code >> 6, 0x80 | code & 0x3F)), bytes((0xE0, 0x80 | code >> 6, 0x80 | code & 0x3F)))
)
"""Encodings of ASCII characters that UTF-8 forbids, careless decoders accept, and payloads need."""
_UNICODE_ESCAPE = re.compile(r"%u([0-9a-fA-F]{4})")
_FULL_WIDTH = re.compile("[\uff01-\uff5e]")
_BLANKS = re.compile(
    r"(?:/\*(?:!\d*)?|\*/|[ \t\r\f\v\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\ufffd])+"
)
_ENCODED_BLANK = re.compile(rb"%(?:0[9a-d]|85|a0)", re.IGNORECASE)
_ENCODED_BLANK_TEXT = re.compile(_ENCODED_BLANK.pattern.decode(), re.IGNORECASE)
_RAW = re.compile(rb"%(?:0[0ad]|25(?:25|2e|2f|5c|0[ad])|c[01]|e0%80|u|2e%2e|e5%98|ef%bc)", re.IGNORECASE)
_FULL_WIDTH_GAP = 0xFEE0
"""How far a full-width character is from the one that it looks like."""


class Match(NamedTuple):
    """A signature that a request matches, where, and the text in which it does, for who wants to quote it."""

    signature: Signature
    place: str
    text: str


class Inspector:
    """Holds requests against the signatures of some categories; any number of threads may ask it."""

    def __init__(self, wanted: Collection[str], headers: Collection[str]) -> None:
        """Compile what is looked for.

        Args:
            wanted: the categories of signatures.
            headers: names of the headers that are looked at, in lower case.
        """
        self._values = SignatureSet("values", wanted)
        self._path = SignatureSet("path", wanted)
        self._raw = SignatureSet("raw", wanted)
        self._missing = SignatureSet("missing", wanted)
        self._of_headers = SignatureSet("headers", wanted)
        self._headers = frozenset(name.encode("latin-1") for name in headers)
        # Clients of one kind send one text, of which there are few.
        self._known_header = lru_cache(maxsize=_REMEMBERED)(self._header)

    def inspect(self, path: bytes, query: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Match | None:
        """Return the least accidental signature of a request's query, else of its path, else of a header.

        Args:
            path: as it was sent.
            query: as it was sent, without its question mark.
            headers: names in lower case, and values.
        """
        found: Match | None = None
        if query and not _is_plain_query(query):
            found = self._query(query[:MOST_BYTES])
        if found is None and path.translate(None, _PLAIN_PATH):
            found = self._in_path(path[:MOST_BYTES])
        if found is None and self._headers:
            found = self._in_headers(headers)
        if found is None and (_PERCENT in path or _PERCENT in query):
            found = self._as_sent(path[:MOST_BYTES], query[:MOST_BYTES])
        return found

    @staticmethod
    def is_plain(path: bytes, query: bytes) -> bool:
        """Whether a look is enough to know that `inspect` finds nothing in a path and a query."""
        return not path.translate(None, _PLAIN_PATH) and (not query or _is_plain_query(query))

    def missing(self, path: str) -> Signature | None:
        """Return the signature of the path of something that isn't there; `path` is decoded."""
        return self._missing.find(path)

    def values(self, body: bytes) -> Match | None:
        """Return the signature of a form's body, encoded as a query is."""
        return self._match(self._values, forms(body[:MOST_BYTES], is_query=True), "body")

    def texts(self, lines: Iterable[str]) -> Match | None:
        """Return the signature of the strings of a JSON body, each a line ``name=value``."""
        return self._match(self._values, ("\n".join(_plain(line.replace("\n", " ")) for line in lines),), "body")

    def _query(self, query: bytes) -> Match | None:
        return self._match(self._values, forms(query, is_query=True), "query")

    def _in_path(self, path: bytes) -> Match | None:
        # Each segment is a value as well: it may be what a route takes for a parameter.
        views = (f"{text}\n=" + text.lstrip("/").replace("/", "\n=") for text in forms(path))
        return self._match(self._path, views, "path")

    def _in_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Match | None:
        wanted = self._headers
        for name, value in headers:
            if name in wanted:
                known = len(value) <= _LONGEST_REMEMBERED
                match = self._known_header(value) if known else self._header(value[:MOST_BYTES])
                if match is not None:
                    return match._replace(place=f"header {str(name, 'latin-1')}")
        return None

    def _header(self, value: bytes) -> Match | None:
        views = (f"={text}" for text in forms(value.replace(b"&", b"\n")))
        return self._match(self._of_headers, views, "header")

    def _as_sent(self, path: bytes, query: bytes) -> Match | None:
        target = path + b"?" + query
        if _RAW.search(target) is None:
            return None
        return self._match(self._raw, (str(target, "latin-1"),), "query" if _RAW.search(query) else "path")

    @staticmethod
    def _match(signatures: SignatureSet, views: Iterable[str], place: str) -> Match | None:
        for text in views:
            if (signature := signatures.find(text)) is not None:
                return Match(signature, place, text)
        return None


def _is_plain_query(query: bytes) -> bool:
    joints = query.translate(None, _PLAIN_QUERY)
    hints: tuple[str, ...] = _HINTS
    if joints.strip(b"=&"):
        joints = joints.translate(None, b"-_")
        if joints.strip(b"=&"):
            return False
        hints += _HINTS_JOINED
    if joints.find(b"==") >= 0:  # an equals sign in a value
        return False
    text = str(query, "ascii").lower()
    return not any(map(text.__contains__, hints))


def quotation(match: Match) -> str:
    """Return the text that matched; where google-re2 is not installed, the beginning of the text in which it is."""
    return matched(match.signature.pattern, match.text)[:_LONGEST_QUOTATION]


def forms(sent: bytes, *, is_query: bool = False) -> Iterator[str]:
    """Yield the texts that something percent-encoded can stand for: decoded once, and twice where that is another one.

    In a query, a blank may be a plus, and each parameter becomes a line.
    """
    if is_query:
        sent = sent.replace(b"\n", b" ").replace(b"&", b"\n").replace(b"+", b" ")
    decoded = unquote_to_bytes(_ENCODED_BLANK.sub(b" ", sent)) if b"%" in sent else sent
    if not decoded.isascii():
        for encoded, character in _OVERLONG if b"\xc0" in decoded or b"\xc1" in decoded or b"\xe0" in decoded else ():
            decoded = decoded.replace(encoded, character)
    once = decoded.decode("utf-8", "replace")
    yield _plain(once)
    if "%" in once:
        twice = unquote(_UNICODE_ESCAPE.sub(_character, _ENCODED_BLANK_TEXT.sub(" ", once)))
        if twice != once:
            yield _plain(twice)


def _plain(text: str) -> str:
    """Return a text without what payloads are drawn apart by, its parts as lines."""
    if not text.isascii():
        return _BLANKS.sub(" ", _FULL_WIDTH.sub(_narrow, text))
    if "  " in text or "/*" in text or "*/" in text or "\t" in text or "\r" in text:
        return _BLANKS.sub(" ", text)
    return text


def _narrow(found: re.Match[str]) -> str:
    return chr(ord(found[0]) - _FULL_WIDTH_GAP)


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))
