"""Find the passwords in URLs: what stands between ``//user:`` and the ``@`` in front of the host.

What a client, a driver or an operator wrote need not be a URL by RFC 3986: a
password may hold ``/``, ``@``, quotes and blanks as they are, and the delimiters
may be percent-encoded, each for itself and more than once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .scanning import Lookahead, Span

_COLON, _SLASH, _AT = (
    rf"(?:{plain}|%(?:25){{0,8}}{code})" for plain, code in ((":", "3[Aa]"), ("/", "2[Ff]"), ("@", "40"))
)
_NO_DELIMITER = r"%(?!(?:25){0,8}(?:3[AaFf]|2[Ff3]|40))"
_USER = re.compile(rf"(?<!file){_COLON}{_SLASH}{_SLASH}(?:[^\s/:@?#\"'<>\[\]&%]|{_NO_DELIMITER}){{0,200}}{_COLON}")
_PORT = re.compile(r"[0-9]{1,5}(?=[/?#\s\"'`)\]}<>\\&|%]|[.,;:](?:\s|\Z)|\Z)")
_STORE = re.compile(
    r"(?:postgres(?:ql)?|cockroachdb|mysql|mariadb|mssql|sqlserver|oracle|db2|redis|rediss|valkey|mongodb|amqps?|nats|kafka"
    r"|mqtts?|clickhouses?|cassandra|neo4j|bolt|couchbases?|memcached|snowflake|redshift|ldaps?|smtps?)(?:\+[\w.-]{1,32})?\Z",
    re.IGNORECASE,
)
"""Schemes of what has no ``@`` behind its host, so that a password there may begin like a port: ``bob:123/S@db``."""
_QUERY = re.compile(rf"(?:\?|%(?:25){{0,8}}3[Ff])[\w.-]{{1,64}}(?:=|%(?:25){{0,8}}3[Dd])|{_COLON}{_SLASH}{_SLASH}")
_LONGEST_SCHEME = 48
_END_OF_USERINFO = re.compile(_AT)
_END_OF_WORD = re.compile(r"[\s\"'<>]|&[\w.-]{1,64}=")
_END_OF_LINE = re.compile(r"[\r\n]")
_NO_AUTHORITY = re.compile(rf"[?#]|%(?:25){{0,8}}(?:3[Ff]|23)|{_COLON}{_SLASH}{_SLASH}|/@")
"""What begins behind the host: a query with addresses in it, a fragment, another URL, a package's scope."""
_LONGEST = 1024
"""Characters of a password that has blanks or quotes in it."""
_SHORTEST_CUT = 64
"""Characters without an ``@`` up to the text's end that are taken for a password of which the rest was cut off."""


def url_passwords(text: str) -> Iterator[Span]:
    """Find the passwords of the URLs in a text."""
    user = _USER.search(text)
    ends = _Ends(text)
    while user is not None:
        begin = position = user.end()
        if _PORT.match(text, begin):
            scheme = text[max(0, user.start() - _LONGEST_SCHEME) : user.start()]
            end = ends.near(begin) if _STORE.search(scheme) else None
        else:
            end = ends.of(begin)
        if end is not None:
            position = end
            if end > begin:
                yield begin, end
        user = _USER.search(text, position)


class _Ends:
    """Finds where passwords end in one text; they have to come in the text's order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = Lookahead(_END_OF_USERINFO, text)
        self._word = Lookahead(_END_OF_WORD, text)
        self._line = Lookahead(_END_OF_LINE, text)

    def of(self, begin: int) -> int | None:
        """Return where the password that begins here ends, None where it is none."""
        text, at, word = self._text, self._at.after(begin), self._word.after(begin)
        if at < word:
            return self._last_within_word(at, word)
        if at < len(text):
            is_near = at - begin <= _LONGEST and at < self._line.after(begin)
            return at if is_near and not _USER.search(text, begin, at) else None
        return word if word == len(text) and word - begin >= _SHORTEST_CUT else None

    def near(self, begin: int) -> int | None:
        """Return the same for what may as well be a port: None where a path, a query or a text goes on behind it."""
        at, word = self._at.after(begin), self._word.after(begin)
        if at >= word or _QUERY.search(self._text, begin, at):
            return None
        return self._last_within_word(at, word)

    def _last_within_word(self, at: int, word: int) -> int:
        """Return the last ``@`` that may end the password, which may have some in it: a host has none."""
        behind = _NO_AUTHORITY.search(self._text, at, word)
        for found in _END_OF_USERINFO.finditer(self._text, at, behind.start() if behind else word):
            at = found.start()
        return at
