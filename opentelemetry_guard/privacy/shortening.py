"""Cut a string to a number of bytes."""

from __future__ import annotations

MARKER = "..."
"""What a string that was cut ends with; it counts towards the limit."""


def fits(text: str, limit: int) -> bool:
    """Whether `text` has at most `limit` bytes of UTF-8."""
    length = len(text)
    return length <= limit and (length * 4 <= limit or text.isascii() or len(text.encode()) <= limit)


def shorten(text: str, limit: int, *, always: bool = False) -> str:
    """Return `text` in at most `limit` bytes of UTF-8: whole, or cut between characters and ended with the marker.

    Args:
        text: text that UTF-8 can encode.
        limit: bytes, at least 1.
        always: whether the marker is wanted even where the text fits, because something was cut from it before.
    """
    if not always and fits(text, limit):
        return text
    room = limit - len(MARKER)
    if room <= 0:
        return MARKER[:limit]
    return text[:limit].encode()[:room].decode(errors="ignore") + MARKER
