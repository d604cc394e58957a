"""Says of a URL, a query or a user agent that it is an ordinary one, in which most rules can't find anything.

A client chooses these texts, and most of them are new: ``/items/7?page=3&sort=price``. The form of such a text leaves
out what nearly all rules need to find a secret: quotes, brackets, encoded delimiters, blanks behind a name. What is
left are the names of its parameters, tokens, card numbers and the segments of its path, and those are looked at by the
same functions as anywhere else. Of any other text nothing is said.
"""

from __future__ import annotations

import re

from ..settings.tokens import mask_tokens
from .announced import ROLES
from .cards import cards
from .paths import mask_path
from .sensitive_names import Names

_LONGEST = 2_000
_VALUE = r"(?:[A-Za-z0-9_.,~+*!/-]|%20|%[89A-Fa-f][0-9A-Fa-f])*"
_NAME = r"[A-Za-z0-9_.-]{1,80}"
_PARAMETER = rf"{_NAME}(?:={_VALUE})?"
_QUERY = rf"{_PARAMETER}(?:&{_PARAMETER})*"
# A colon stands behind the scheme and in front of the port only: elsewhere it may announce a password.
_URL = re.compile(
    rf"(?:https?://(?P<host>[A-Za-z0-9.-]{{1,253}})(?::[0-9]{{1,5}})?)?/[A-Za-z0-9_.,~+*!/-]*(?:\?(?P<query>{_QUERY})?)?"
    rf"|(?P<alone>{_NAME}={_VALUE}(?:&{_PARAMETER})*)"
)
# A URL comes last and has no port, so that nothing behind its "//" can be a user and a password.
_WORDS = r"[A-Za-z0-9 ._,;/()+~*!-]*"
_AGENT = re.compile(rf"[A-Za-z]{_WORDS}(?:[ ;(]rv:[0-9]{_WORDS})?(?:[ ;(+]https?://{_WORDS})?")
_AGENT_NAMES = ("rv", "http", "https")


class Ordinary:
    """Knows ordinary texts under one configuration; any number of threads may ask it."""

    def __init__(self, names: Names) -> None:
        """Take the names that are sensitive."""
        self._names = names
        self._knows_urls = "http" not in names and "https" not in names
        self._knows_agents = not any(name in names for name in _AGENT_NAMES)

    def __contains__(self, text: str) -> bool:
        """Whether a text is ordinary and has no secret in it, as a URL or as any other text."""
        if len(text) > _LONGEST:
            return False
        url = _URL.fullmatch(text) if self._knows_urls else None
        if url is not None:
            if not self._has_harmless_names(url):
                return False
        elif not self._is_agent(text):
            return False
        if (url is not None or "://" in text) and mask_path(text, self._names) != text:
            return False
        return mask_tokens(text) == text and not any(cards(text))

    def _is_agent(self, text: str) -> bool:
        # Without a colon there is next to nothing in it that the rules would look for.
        if ":" not in text or not self._knows_agents or "--" in text or not _AGENT.fullmatch(text):
            return False
        lower = text.lower()
        return "curl" not in lower and "dentified" not in lower

    def _has_harmless_names(self, url: re.Match[str]) -> bool:
        host, query, alone = url.groups()
        names = self._names
        if host is not None and (host in names or host.lower() in ROLES):
            return False
        for parameter in (query or alone or "").split("&"):
            name, separator, _ = parameter.partition("=")
            # What reads like a label may say what another parameter is.
            if separator and (name in names or name.lower() in ROLES or name.endswith("input_value")):
                return False
        return True
