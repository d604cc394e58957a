"""What one answered request means for security: the functions that apply `HttpRules` to it.

It has one finding at most, the first of: an unusual method or host, a path that climbs out of its directory, one that
scanners ask for, a malformed request, a failed login, the status of the answer, a client that calls itself a scanner.
Nothing here remembers a request: runs of them are for `bursts` and `behavior` to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from urllib.parse import unquote

from ...events.header_text import header_text
from ...settings.http_rules import HttpRules
from .answers import AnsweredRequest, Finding
from .logins import FAILED_LOGIN, LoginJudge

_REASONS: Mapping[int, str] = {
    401: "authentication failed",
    403: "access denied",
    413: "oversized body",
    414: "oversized URL",
    429: "too many requests",
    431: "oversized headers",
}
"""What a status tells a reader."""

_DECODINGS = 3
"""How often a path is decoded in search of dots; servers and proxies do it once or twice."""

_OVERLONG = {"%c0%ae": ".", "%e0%80%ae": ".", "%c0%af": "/", "%e0%80%af": "/", "%c1%9c": "\\"}
"""Encodings of ASCII that UTF-8 forbids and careless decoders accept."""

_LONGEST_HOST = 255
_LONGEST_AGENT = 512
_PORT = re.compile(r":\d+$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")


class HttpJudge:
    """Applies rules to single answers; its patterns are compiled once."""

    def __init__(self, rules: HttpRules) -> None:
        self._rules = rules
        self._hosts = rules.hosts
        self._logins = LoginJudge(rules.logins)
        self._scanner_path = _path_pattern(rules.scanner_paths)
        self._expected = _path_pattern(rules.expected_not_found)
        # Clients of one kind send one text, of which there are few; searching it again for each request is dear.
        self._scanner_agent = lru_cache(maxsize=1024)(_agent_search(rules.scanner_user_agents))

    def judge(self, answered: AnsweredRequest) -> Finding | None:
        """Return what an answer means, None where it means nothing or the request has an event already."""
        if answered.reported:
            return None
        status = answered.status_code
        if status < 400 and answered.login is None and status not in self._rules.statuses:
            return self._unusual(answered) or self._traversal(answered) or self._scanner(answered)
        refused = 400 <= status < 500
        return (
            self._unusual(answered)
            or self._traversal(answered)
            or (self._scanned(answered) if refused else None)
            or (self._malformed(answered) if refused else None)
            or self._login(answered)
            or (self._status(answered) if answered.login is None else None)
            or self._scanner(answered)
        )

    def is_plain(self, method: str, path: str) -> bool:
        """Whether an answer below 400 to a request with this method and path means nothing, but for its headers."""
        return (
            method not in self._rules.methods
            and not self._hosts
            and not (self._rules.path_traversal and may_climb(path))
        )

    def is_scanner(self, user_agent: str) -> bool:
        """Whether a client that calls itself so is a scanner."""
        return bool(user_agent) and self._scanner_agent(user_agent[:_LONGEST_AGENT]) is not None

    def is_unexpected_not_found(self, answered: AnsweredRequest) -> bool:
        """Whether an answer is a 404 that may belong to a burst."""
        return answered.status_code == 404 and not (self._expected and self._expected.search(answered.path.lower()))

    def is_nowhere(self, answered: AnsweredRequest) -> bool:
        """Whether an answer says that nothing is there for which nobody asks every site."""
        return (
            400 <= answered.status_code < 500
            and (answered.route is None or answered.status_code == 404)
            and not (self._expected and self._expected.search(answered.path.lower()))
        )

    def _unusual(self, answered: AnsweredRequest) -> Finding | None:
        if answered.method in self._rules.methods:
            return Finding("suspicious_request", "methods", f"the method is {answered.method}", {})
        if not self._hosts:
            return None
        host = next((value for name, value in answered.headers if name == b"host"), b"")
        name = header_text(host, _LONGEST_HOST).lower()
        if not host or self._is_ours(name.rpartition(":")[0] if _PORT.search(name) else name):
            return None
        return Finding("suspicious_request", "hosts", "the host is none of the application's", {"host": name})

    def _is_ours(self, host: str) -> bool:
        return any(host.endswith(ours[1:]) if ours.startswith("*.") else host == ours for ours in self._hosts)

    def _traversal(self, answered: AnsweredRequest) -> Finding | None:
        if not self._rules.path_traversal or not climbs(answered.path, answered.raw_path):
            return None
        return Finding("suspicious_request", "path_traversal", "the path climbs out of its directory", {})

    def _scanned(self, answered: AnsweredRequest) -> Finding | None:
        # A route that says no is the application's own page; one that finds nothing may be a catch-all.
        if self._scanner_path is None or (answered.route is not None and answered.status_code != 404):
            return None
        found = self._scanner_path.search(answered.path.lower())
        if found is None:
            return None
        return Finding(
            "suspicious_request", "scanner_paths", "scanners ask for this path", {"matched": found.group()[:80]}
        )

    def _malformed(self, answered: AnsweredRequest) -> Finding | None:
        if not self._rules.malformed or not is_malformed(answered.path, answered.raw_path, answered.status_code == 400):
            return None
        return Finding("suspicious_request", "malformed", "the path is malformed", {})

    def _login(self, answered: AnsweredRequest) -> Finding | None:
        if not self._logins.judge(answered).failed:
            return None
        return failed_login(answered)

    def asks_for_login(self, answered: AnsweredRequest) -> bool:
        """Whether an answer that is no failed login, as `judge` has said, says that somebody has to log in."""
        return (
            answered.status_code == 401
            and self._rules.logins is not None
            and self._rules.statuses.get(401) == FAILED_LOGIN
            and answered.login is None
        )

    def _status(self, answered: AnsweredRequest) -> Finding | None:
        status = answered.status_code
        event_type = self._rules.statuses.get(status)
        if event_type is None or self.asks_for_login(answered):
            return None
        return Finding(event_type, "statuses", _REASONS.get(status, f"the answer was {status}"), {"status": status})

    def _scanner(self, answered: AnsweredRequest) -> Finding | None:
        agent = answered.user_agent[:_LONGEST_AGENT]
        if not agent or (matched := self._scanner_agent(agent)) is None:
            return None
        return Finding(
            "suspicious_request", "scanner_user_agents", "the client calls itself a scanner", {"matched": matched}
        )


def failed_login(answered: AnsweredRequest, **evidence: object) -> Finding:
    """Return what a failed login means."""
    user = {} if answered.user is None else {"user": answered.user}
    return Finding(
        FAILED_LOGIN, "logins", "authentication failed", {"status": answered.status_code, **user, **evidence}
    )


def climbs(path: str, raw_path: str = "") -> bool:
    """Whether a path has a segment ``..`` in any encoding.

    Args:
        path: decoded once, as servers do.
        raw_path: as it was on the wire, for encodings that decoding has destroyed.
    """
    if not may_climb(path):
        return False
    lowered = raw_path.lower() or path.lower()
    for encoded, meant in _OVERLONG.items():
        lowered = lowered.replace(encoded, meant)
    return any(map(_has_dots, _decodings(path))) or any(map(_has_dots, _decodings(lowered)))


def may_climb(path: str) -> bool:
    """Whether a path, decoded once, has anything of which a segment ``..`` may be made."""
    return ".." in path or "%" in path or "\ufffd" in path


def is_malformed(path: str, raw_path: str, badly_encoded_too: bool) -> bool:
    """Whether a path has characters that no path has.

    Args:
        path: decoded once, as servers do.
        raw_path: as it was on the wire.
        badly_encoded_too: whether broken escapes and what is not UTF-8 count; old links of a site have these as well.
    """
    if _CONTROL.search(path):
        return True
    return badly_encoded_too and ("\ufffd" in path or _BROKEN_ESCAPE.search(raw_path) is not None)


def _decodings(path: str) -> Iterable[str]:
    yield path
    for _ in range(_DECODINGS):
        decoded = unquote(path)
        if decoded == path:
            return
        yield decoded
        path = decoded


def _has_dots(path: str) -> bool:
    # "..;" is ".." to servlet containers behind a proxy that reads it literally.
    return any(segment.partition(";")[0] == ".." for segment in path.replace("\\", "/").split("/"))


def _path_pattern(paths: Iterable[str]) -> re.Pattern[str] | None:
    # One search for all: they share their first character, and differ in the tree behind it.
    alternatives = [
        re.escape(path[:-1]) + "[^/]*" if path.endswith("*") else re.escape(path.rstrip("/")) + r"(?=/|$)"
        for path in paths
    ]
    return re.compile("|".join(alternatives)) if alternatives else None


def _agent_search(agents: tuple[str, ...]) -> Callable[[str], str | None]:
    def search(user_agent: str) -> str | None:
        lowered = user_agent.lower()
        return next((agent for agent in agents if agent in lowered), None)

    return search
