"""A look at a request that was answered with less than 400, which tells whether anything has to be judged of it.

Nearly every request is what a browser or a client of an API sends: nothing in its path and its query that a signature
needs, and headers that were looked into before. This look costs such a request one pass over its headers and one over
its path and query; all that it doesn't know is left to the rules themselves, and so is every other answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...events.header_text import header_text
from ..behavior.keys import fingerprint
from .crawlers import Crawlers
from .findings import HttpJudge
from .signatures import SignatureJudge

_AGENT = b"user-agent"
_FORWARDED = (b"x-forwarded-for", b"forwarded")

_REMEMBERED = 1024
"""Values of each header that are remembered; a client can send any number of them."""
_LONGEST = 512

_NO_AGENT = fingerprint("")


class Glance:
    """Looks at requests; threads that race here do some work twice, no more."""

    def __init__(
        self, judge: HttpJudge | None, signatures: SignatureJudge | None, crawlers: Crawlers | None = None
    ) -> None:
        """Look for what these would find, None where they are switched off."""
        self._judge = judge
        self._crawlers = crawlers
        self._signatures = signatures
        # Values that mean nothing, by the header's name; of a user agent its fingerprint.
        self._known: dict[bytes, dict[bytes, int]] = {
            name: {} for name in (_AGENT, *_FORWARDED, *(signatures.headers if signatures else ()))
        }
        self._agents = self._known[_AGENT]

    def headers(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, bool] | None:
        """Return what headers tell, where nothing in them means anything by itself; None where they have to be judged.

        Args:
            headers: names in lower case, and values.

        Returns:
            The fingerprint of the user agent, and whether a proxy may have named the client.
        """
        known, agents = self._known, self._agents
        agent, is_forwarded = None, False
        for name, value in headers:
            values = known.get(name)
            if values is not None:
                told = values.get(value)
                if told is None and (told := self._learned(name, value, values)) is None:
                    return None
                if values is not agents:
                    is_forwarded = is_forwarded or name in _FORWARDED
                elif agent is None:
                    agent = told
        return (_NO_AGENT if agent is None else agent), is_forwarded

    def is_plain(self, method: str, path: str, raw_path: bytes | None, query: bytes) -> bool:
        """Whether nothing in a request's line means anything, with an answer below 400.

        Args:
            method: as sent.
            path: decoded once.
            raw_path: as it was on the wire, None or empty where the server doesn't tell.
            query: as it was on the wire.
        """
        judge, signatures = self._judge, self._signatures
        if judge is not None and not judge.is_plain(method, path):
            return False
        return signatures is None or signatures.is_plain(path, raw_path, query)

    def _learned(self, name: bytes, value: bytes, values: dict[bytes, int]) -> int | None:
        """Return what is to be remembered of a header's value, None where it has to be judged."""
        if len(value) > _LONGEST or (
            self._signatures is not None and not self._signatures.is_plain_header(name, value)
        ):
            return None
        told = 0
        if name == _AGENT:
            text = header_text(value)
            if self._judge is not None and self._judge.is_scanner(text):
                return None
            if self._crawlers is not None and self._crawlers.is_named(text):
                return None
            told = fingerprint(text)
        if len(values) >= _REMEMBERED:
            values.clear()
        values[value] = told
        return told
