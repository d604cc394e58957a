"""Encryption of a batch's rows: AES-256-GCM, as the wire contract has it."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Envelope:
    """Seals and opens payloads with one key. A payload is urlsafe base64 of nonce, ciphertext and tag."""

    def __init__(self, key: str) -> None:
        """Take a validated key: urlsafe base64 of 32 bytes, padding optional.

        Raises:
            ImportError: the package `cryptography` (extra ``encryption``) is missing.
        """
        # Imported here, since it is an extra: who doesn't encrypt needn't have it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher: AESGCM = AESGCM(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))

    def seal(self, payload: bytes) -> str:
        """Encrypt `payload` under a new nonce."""
        nonce = os.urandom(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, payload, None)).decode()

    def open(self, text: str) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            ValueError: it was sealed with another key, or is damaged.
        """
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.urlsafe_b64decode(text)
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, binascii.Error) as error:
            raise ValueError("it was encrypted with another key, or is damaged") from error
