"""What the signatures say of an answered request: `decision.inspection`, with what only the answer tells.

The shape of a path means something where nothing is there: an application that serves no PHP is asked for none but by
scanners. Shapes that old links have as well mean something only together (`Together`), and none that was served once.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...decision.addresses import subscriber
from ...decision.inspection import Inspector, Match, quotation
from ...decision.signatures import Signature
from ...privacy import current as current_privacy
from ...settings.instrumentation import DEFAULT_IPV6_PREFIX
from ...settings.signature_rules import SignatureRules
from .answers import AnsweredRequest, Finding
from .bodies import texts_of
from .folding import Together

RULE = "signatures"

_EVENT_TYPES = {"high": "penetration_attempt", "medium": "suspicious_request", "low": "suspicious_request"}
_MOST_SERVED = 256
_LONGEST_ENDING = 16


class SignatureJudge:
    """Holds requests against the signatures that the rules name."""

    def __init__(self, given: SignatureRules, ipv6_prefix: int = DEFAULT_IPV6_PREFIX) -> None:
        """Compile the signatures.

        Args:
            given: what is looked for, and where.
            ipv6_prefix: bits of an IPv6 address that tell one client from another.
        """
        self._inspector = Inspector(given.categories, given.headers)
        self.headers = tuple(name.encode("latin-1") for name in given.headers)
        self._together = Together(given.together, given.seconds, given.clients)
        self._ipv6_prefix = ipv6_prefix
        # Endings of what the application has served; only set, and only so many, so that no lock is needed.
        self._served: set[str] = set()

    def judge(self, answered: AnsweredRequest) -> Finding | None:
        """Return what a request has in it, whatever the answer was."""
        if answered.status_code < 400 and "." in answered.path:
            self._note_served(answered.path)
        path = answered.raw_path.encode("latin-1") if answered.raw_path else answered.path.encode("utf-8", "replace")
        match = self._inspector.inspect(path, answered.query, answered.headers)
        if match is None and answered.body is not None:
            match = self._in_body(answered.body)
        return None if match is None else _finding(match.signature, match.place, _quoted(match))

    def is_plain(self, path: str, raw_path: bytes | None, query: bytes) -> bool:
        """Whether a request that went well has nothing in its path and query; what was served is noted, as in `judge`.

        Args:
            path: decoded once.
            raw_path: as it was on the wire, None or empty where the server doesn't tell.
            query: as it was on the wire.
        """
        if "." in path:
            self._note_served(path)
        sent = raw_path or path.encode("utf-8", "replace")
        return self._inspector.is_plain(sent, query) or self._inspector.inspect(sent, query, ()) is None

    def is_plain_header(self, name: bytes, value: bytes) -> bool:
        """Whether a header has nothing in it that is looked for."""
        return self._inspector.inspect(b"", b"", ((name, value),)) is None

    def missing(self, answered: AnsweredRequest, now: float) -> Finding | None:
        """Return what it means that somebody asks for something that isn't there."""
        signature = self._inspector.missing(answered.path)
        if signature is None or _ending(answered.path) in self._served:
            return None
        if signature.severity != "low":
            return _finding(signature, "path", {})
        client = subscriber(answered.address, self._ipv6_prefix)
        number = self._together.add(client, signature.id, now) if client else 0
        return _finding(signature, "path", {"together": number}) if number else None

    def _in_body(self, body: tuple[str, bytes]) -> Match | None:
        kind, sent = body
        return self._inspector.values(sent) if kind == "form" else self._inspector.texts(texts_of(sent))

    def _note_served(self, path: str) -> None:
        ending = _ending(path)
        if ending and ending not in self._served and len(self._served) < _MOST_SERVED:
            self._served.add(ending)


def _ending(path: str) -> str:
    """Return how the last segment of a path ends, "" where it has no ending."""
    _, dot, ending = path[-_LONGEST_ENDING:].rpartition(".")
    return ending.lower() if dot and "/" not in ending else ""


def _quoted(match: Match) -> Mapping[str, object]:
    """Return the text that matched, where a setting asks for it."""
    return {"matched_text": quotation(match)} if current_privacy().settings.capture_content else {}


def _finding(signature: Signature, place: str, evidence: Mapping[str, object]) -> Finding:
    reason = f"{signature.category.replace('_', ' ')} in the {place}"
    told = {"category": signature.category, "severity": signature.severity, "place": place}
    return Finding(_EVENT_TYPES[signature.severity], RULE, reason, {**told, **evidence}, signature.id)
