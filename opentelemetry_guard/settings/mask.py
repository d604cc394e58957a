"""What stands in a secret's place, and which words are none."""

from __future__ import annotations

MASK = "[REDACTED]"
"""What stands in a secret's place."""

_PROSE = frozenset(
    """
    token tokens auth authentication authorization scheme schemes credential credentials header headers type format
    prefix required missing expected expired invalid not found is was has been too short long empty
    malformed revoked rejected refused unknown unsupported unexpected wrong mismatch failed failure error denied closed
    signature verification validation value field none null
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Words that follow "bearer" or "token:" in a sentence."""


def is_prose(text: str) -> bool:
    """Whether all words of a text are ones that follow the name of a secret in a sentence."""
    return all(word.strip(".,;-").lower() in _PROSE for word in text.split())
