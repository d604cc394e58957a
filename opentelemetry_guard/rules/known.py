"""Rules that were taken over, and how a document becomes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from pydantic import ValidationError

from ..decision.signing import Proof
from ..models import DynamicRules
from .refusals import RefusedDocument


@dataclass(frozen=True, slots=True)
class Known:
    """Rules that were taken over; `content` is the document apart from its timestamp, `proof` its signature."""

    rules: DynamicRules
    content: Mapping[str, object]
    etag: str | None
    proof: Proof | None

    def expired(self, now: float) -> bool:
        """Whether the document says that it is no longer valid at `now` (Unix seconds)."""
        return self.expires_at <= now

    @property
    def expires_at(self) -> float:
        """Unix seconds, infinite where the document names no end."""
        return float("inf") if self.rules.expires_at is None else self.rules.expires_at.timestamp()


def read_document(document: bytes, etag: str | None, proof: Proof | None) -> Known:
    """Validate a rules document.

    Raises:
        RefusedDocument: it is not JSON, or not what the contract calls DynamicRules; the text names the first field.
    """
    try:
        content = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise RefusedDocument("malformed", str(error)) from None
    if not isinstance(content, dict):
        raise RefusedDocument("malformed", f"it must be a JSON object, not {type(content).__name__}")
    try:
        rules = DynamicRules.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field_name = ".".join(str(part) for part in first["loc"])
        text = f"{field_name}: {first['msg']} ({error.error_count()} in all)"[:300]
        raise RefusedDocument("malformed", text) from None
    return Known(rules, {name: value for name, value in content.items() if name != "timestamp"}, etag, proof)
