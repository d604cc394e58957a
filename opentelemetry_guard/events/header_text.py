"""The text of an HTTP header: what clients send is UTF-8 more often than the Latin-1 that the old rules have."""

from __future__ import annotations

import codecs


def header_text(value: bytes, limit: int | None = None) -> str:
    """Return a header's value as text: UTF-8 where it is valid, else Latin-1 (RFC 9110, 5.5, leaves it open).

    Args:
        value: the bytes.
        limit: characters that are kept at most; a character that the cut would halve is left out.
    """
    cut = value if limit is None else value[: 4 * limit]
    try:
        text, _ = codecs.utf_8_decode(cut, "strict", len(cut) == len(value))
    except UnicodeDecodeError:
        text = cut.decode("latin-1")
    return text if limit is None else text[:limit]


def repaired(text: str) -> str:
    """Return the text that a header held which a framework has read as Latin-1 (Starlette and `http.client` do)."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text
