"""How a rules document is signed: for one caller's one question, by whoever shares the signing secret.

The caller sends a fresh nonce (`NONCE_HEADER`), and gets beside the document
an HMAC-SHA256 over the key that it asked with, its nonce, a number and the
document's bytes. So nobody without the secret can make a document, nor repeat
one: what was signed for another question, another key or an earlier place of
a stream fits no more. No clock has to be right for that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

NONCE_HEADER = "X-Rules-Nonce"
"""Of a question for rules that wants a signed answer."""
SIGNATURE_HEADER = "X-Rules-Signature"
"""Of the answer: ``v1=`` and 64 hexadecimal digits."""

NONCE = re.compile(r"[0-9A-Za-z_-]{16,64}")
"""What a nonce looks like."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A signature, and what it was made for (`context_of`)."""

    context: str
    signature: str


def new_nonce() -> str:
    """Return what no question has had before."""
    return secrets.token_hex(16)


def is_nonce(text: str) -> bool:
    """Whether a text can be a nonce: 16 to 64 letters, digits, ``-`` and ``_``."""
    return NONCE.fullmatch(text) is not None


def context_of(api_key: str, nonce: str, number: int) -> str:
    """Return what a signature is for.

    Args:
        api_key: that the question came with.
        nonce: of the question.
        number: 0 for the only document of an answer, 1 and up for those of a stream in their order.
    """
    return f"{hashlib.sha256(api_key.encode(errors='backslashreplace')).hexdigest()}:{nonce}:{number}"


def digest_of(document: bytes) -> str:
    """Return what of a document is signed; one digest serves any number of signatures."""
    return hashlib.sha256(document).hexdigest()


def sign(secret: bytes, context: str, digest: str) -> str:
    """Return the signature of the document with this `digest` (`digest_of`), for `context` (`context_of`)."""
    text = f"guard-rules\n{context}\n{digest}"
    return "v1=" + hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def is_genuine(secret: str, proof: Proof, document: bytes) -> bool:
    """Whether a proof is the secret's, and of exactly these bytes."""
    expected = sign(secret.encode(), proof.context, digest_of(document))
    return hmac.compare_digest(expected.encode(), proof.signature.encode(errors="backslashreplace"))
