"""From the bytes of a request to validated rows: decompression, signature, JSON, schema, decryption.

Every function is pure and raises `Refusal` for what it does not accept.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from typing import TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError

from ...models import SecurityEvent, SecurityMetric
from ..refusal import Refusal
from ..settings import decode_urlsafe_base64

ModelT = TypeVar("ModelT", bound=BaseModel)

_NAMED_ERRORS = 10
"""How many schema violations an answer names."""

_MOST_ERRORS = 1_000
"""Schema violations up to which the first ones are named: all are built to name any, at about a kilobyte each."""

MOST_VALUES = 100_000
"""Values of one body: each takes up to a hundred times the bytes that it has in JSON."""

MOST_ROWS = 10_000
"""Events, and metrics, of one body; senders send 1,000 unless told otherwise."""

DEEPEST = 64
"""Levels of lists and objects in one body."""

_LONG_NUMBER = 300
"""Digits of a number that may be larger than any float."""

_DIGITS_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_BRACKETS_ONLY = bytes(set(range(256)) - set(b"[]{}"))

_NONCE_BYTES = 12
_TAG_BYTES = 16


class EncryptedEnvelope(BaseModel):
    """The body of an encrypted batch: the rows are in `encrypted_payload`, the rest is readable."""

    encrypted_payload: str
    batch_id: str
    agent_version: str | None = None
    guard_version: str | None = None
    guard_core_version: str | None = None


class EncryptedRows(BaseModel):
    """What an encrypted payload contains."""

    events: list[SecurityEvent] = Field(default_factory=list)
    metrics: list[SecurityMetric] = Field(default_factory=list)


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Undo the `Content-Encoding` named `encoding` without ever holding more than `max_bytes` and one byte."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Refusal(415, "Content-Encoding must be gzip or absent.")
    member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = member.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Refusal(400, f"The body is not valid gzip: {error}.") from None
    if len(plain) > max_bytes:
        raise too_large(max_bytes)
    if not member.eof or member.unused_data:
        raise Refusal(400, "The body is not one complete gzip member.")
    return plain


def too_large(max_bytes: int) -> Refusal:
    """Return the refusal of a body beyond `max_bytes`."""
    return Refusal(413, f"The body is larger than {max_bytes} bytes: send fewer rows in one batch.")


def check_signature(body: bytes, signature: str | None, secret: bytes) -> None:
    """Refuse a body whose `X-Payload-Signature` is not ``v1=`` and the hex HMAC-SHA256 of the uncompressed `body`."""
    if signature is None:
        raise Refusal(401, "X-Payload-Signature is missing, and this backend has a signing secret.")
    expected = "v1=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass")):
        raise Refusal(401, "X-Payload-Signature does not match the body: check the signing secret on both sides.")


def parse(model: type[ModelT], body: bytes) -> ModelT:
    """Read `body` as JSON and hold it against `model` strictly: 400 for bad JSON, 422 for a schema violation.

    A body of too many values or rows is refused with 413, one that is nested too deeply with 400, before anything is
    made of its rows.
    """
    if _is_unusual(check_size(body)):
        _check_rows(body)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _schema_violation(error) from None


def _is_unusual(outside: bytes) -> bool:
    """Whether a body has so many values that they may be too many rows, or a number that may be none of JSON's.

    Pydantic's reader takes NaN, Infinity and what is as large. JSON has no such letters outside of texts, and only a
    number with an exponent or some hundred digits is too large.
    """
    if outside.count(b",") >= MOST_ROWS or b"N" in outside or b"I" in outside:
        return True
    alike = outside.translate(_DIGITS_ALIKE)
    return b"0e" in alike or b"0" * _LONG_NUMBER in alike


def _check_rows(body: bytes) -> None:
    """Refuse what is no JSON, and more rows than are taken."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(str(error)) from None
    if isinstance(document, dict):
        for name in ("events", "metrics"):
            rows = document.get(name)
            if isinstance(rows, list) and len(rows) > MOST_ROWS:
                raise Refusal(413, f"{name}: {len(rows)} rows, and {MOST_ROWS} are the most: send fewer in one batch.")


def _not_json(reason: str) -> Refusal:
    return Refusal(400, f"The body is not valid JSON: {reason}.")


def check_size(body: bytes) -> bytes:
    """Refuse JSON of more than `MOST_VALUES` values or `DEEPEST` levels, by its punctuation alone.

    What is no JSON may pass: the reader refuses it, after no more work than for JSON of that length. What lies outside
    of its texts is returned.
    """
    # Without escapes every quote begins or ends a text; a backslash outside of texts is no JSON.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if plain.count(b'"') > 4 * MOST_VALUES:
        raise _too_many_values()
    outside = b"".join(plain.split(b'"')[::2])
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > MOST_VALUES:
        raise _too_many_values()
    depth = 0
    for bracket in outside.translate(None, _BRACKETS_ONLY):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise Refusal(400, f"The body is nested too deeply: keep it to {DEEPEST} levels.")
    return outside


def _too_many_values() -> Refusal:
    return Refusal(413, f"The body has more than {MOST_VALUES} values: send fewer rows in one batch.")


def _schema_violation(error: ValidationError) -> Refusal:
    if error.error_count() > _MOST_ERRORS:
        return Refusal(422, f"{error.error_count()} values do not fit the schema: see /openapi.json.")
    # Neither input nor context: both would repeat values of the rows.
    found = error.errors(include_url=False, include_context=False, include_input=False)
    unreadable = next((one["msg"] for one in found if one["type"] == "json_invalid"), None)
    if unreadable is not None:
        return _not_json(unreadable.removeprefix("Invalid JSON: "))
    named = [f"{_place(one['loc'])}: {one['msg']}" for one in found[:_NAMED_ERRORS]]
    if len(found) > _NAMED_ERRORS:
        named.append(f"and {len(found) - _NAMED_ERRORS} more")
    return Refusal(422, "; ".join(named))


def _place(location: tuple[int | str, ...]) -> str:
    """Spell a location as ``events[3].status_code``."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step[:100]}"
    return text.removeprefix(".") or "body"


def decrypt(envelope: EncryptedEnvelope, key: bytes | None) -> bytes:
    """Return the plain JSON of an encrypted batch: urlsafe base64 of nonce, AES-256-GCM ciphertext and tag."""
    if key is None:
        raise Refusal(400, "This backend has no encryption key: start it with one, or send plain batches.")
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise Refusal(400, "This backend cannot decrypt: pip install 'opentelemetry-guard[encryption]'") from None
    try:
        sealed = decode_urlsafe_base64(envelope.encrypted_payload)
    except ValueError:
        raise Refusal(422, "encrypted_payload: Input should be urlsafe base64") from None
    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise Refusal(422, "encrypted_payload: Input should hold a nonce of 12 bytes and a tag of 16 bytes")
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
    except InvalidTag:
        raise Refusal(
            400, "encrypted_payload cannot be decrypted: check that both sides have the same encryption key."
        ) from None
