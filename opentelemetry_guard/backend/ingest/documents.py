"""The rules as they are handed out: one document for all who ask, and a signature for each of them."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from ...decision.signing import NONCE_HEADER, context_of, digest_of, is_nonce, sign
from ..askers import etag
from ..refusal import Refusal
from ..storage.store import Store


@dataclass(frozen=True, slots=True)
class Document:
    """The JSON of a project's rules; `digest` is what is signed of it, `ttl` in seconds."""

    body: bytes
    tag: str
    digest: str
    ttl: int


def document_of(store: Store, project_id: str) -> Document:
    """Return a project's rules of this moment."""
    rules = store.enforced_rules(project_id)
    body = rules.model_dump_json().encode()
    digest = digest_of(body)
    return Document(body, etag(rules.version, digest[:32]), digest, rules.ttl)


class Signatures:
    """Signs for whoever sent a request, where it asks for that and there is a secret."""

    def __init__(self, request: Request, secret: bytes | None) -> None:
        """Read the request's headers; `secret` is the backend's.

        Raises:
            Refusal: 422 for a nonce that is none: an answer without a signature would be worth nothing to the caller.
        """
        nonce = request.headers.get(NONCE_HEADER)
        if nonce is not None and not is_nonce(nonce):
            raise Refusal(422, f"{NONCE_HEADER} must be 16 to 64 letters, digits, - and _: send a fresh one.")
        self._secret = secret if nonce is not None else None
        self._nonce, self._key = nonce or "", request.headers.get("x-api-key", "")

    def of(self, document: Document, number: int = 0) -> str | None:
        """Return the signature of the answer's document, or of the stream's `number`-th one, from 1."""
        if self._secret is None:
            return None
        return sign(self._secret, context_of(self._key, self._nonce, number), document.digest)
