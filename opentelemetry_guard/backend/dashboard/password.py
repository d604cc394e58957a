"""The dashboard's password: kept as a salted, slow hash for as long as the process runs."""

from __future__ import annotations

import hashlib
import hmac
import os

MIN_LENGTH = 8
"""Characters that a password has at least."""

_MAX_LENGTH = 1024


class Password:
    """A password that can be compared with, and not be read back."""

    def __init__(self, text: str) -> None:
        """Take the password.

        Raises:
            ValueError: it is too short; the text does not repeat it.
        """
        if len(text) < MIN_LENGTH:
            raise ValueError(
                f"The dashboard password has {len(text)} characters: give it at least {MIN_LENGTH} "
                "(--password or OTEL_GUARD_BACKEND_PASSWORD)."
            )
        self._salt = os.urandom(16)
        self._hash = self._hashed(text)

    def matches(self, offered: str) -> bool:
        """Whether `offered` is the password; takes some 50 ms of a processor either way."""
        return hmac.compare_digest(self._hash, self._hashed(offered))

    def _hashed(self, text: str) -> bytes:
        return hashlib.scrypt(
            text[:_MAX_LENGTH].encode("utf-8", "surrogatepass"), salt=self._salt, n=2**14, r=8, p=1, dklen=32
        )
