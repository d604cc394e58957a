"""Values as error messages, answers and terminals may show them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from html import escape
from urllib.parse import quote

MASKED = "***"
"""What stands where one of our own secrets was."""
_LONGEST = 200
"""Characters of a wrong value that are shown; what is longer is more likely a key or a certificate than a slip."""
_SHORTEST_SECRET = 4


def quoted(value: object) -> str:
    """Return a wrong value in quotes for an error message, or what it is where it may be a key: a PEM, a long text."""
    text = str(value)
    if "-----BEGIN" in text or "PRIVATE KEY" in text:
        return f"a PEM text of {len(text)} characters"
    if len(text) > _LONGEST or "\n" in text.strip():
        return f"a text of {len(text)} characters"
    from .tokens import mask_tokens  # here, since the settings of privacy are read with this module

    return repr(value if (masked := mask_tokens(text)) == text else masked)


def without(secrets: Iterable[str | None], text: str) -> str:
    """Return a text without our own secrets, also where they are escaped, or where the text's end cuts one."""
    forms = _forms(tuple(secret for secret in secrets if secret and len(secret) >= _SHORTEST_SECRET))
    for form in forms:
        text = text.replace(form, MASKED)
    for form in forms:
        for length in range(min(len(form) - 1, len(text)), _SHORTEST_SECRET - 1, -1):
            if text.endswith(form[:length]):
                return text[:-length] + MASKED
    return text


@lru_cache(maxsize=8)
def _forms(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Return the spellings in which a secret may come back: as it is, and in JSON, URLs and HTML; the longest first."""
    found = {
        form
        for secret in secrets
        for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote(secret), escape(secret))
    }
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def visible(text: str) -> str:
    r"""Return text with what commands a terminal, or turns its direction, escaped as JSON does (``\u202e``)."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)
