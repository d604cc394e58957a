"""How a webhook is signed: Standard Webhooks, for which there are libraries in most languages.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

_PREFIX = "whsec_"
_LEAST, _MOST = 24, 64
"""Bytes of a secret, as the specification says."""

_REMEDY = (
    "the secret must be whsec_ and the base64 of 24 to 64 bytes, for example from "
    "python -c 'import base64, os; print(\"whsec_\" + base64.b64encode(os.urandom(32)).decode())'"
)


def secret_bytes(secret: str) -> bytes:
    """Return the key that ``whsec_...`` stands for.

    Raises:
        ValueError: it is something else; the text does not repeat it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_REMEDY) from None
    if not secret.startswith(_PREFIX) or not _LEAST <= len(key) <= _MOST:
        raise ValueError(_REMEDY)
    return key


def signed_headers(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a message; `timestamp` is in Unix seconds, and part of what is signed."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
