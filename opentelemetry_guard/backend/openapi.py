"""What the contract's endpoints take and answer, for the OpenAPI document.

The endpoints read their bodies themselves (decompression and the signature
come before JSON), so nothing of this can be told from their parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from ..decision.signing import NONCE, NONCE_HEADER, SIGNATURE_HEADER
from ..models import AgentStatus, DynamicRules, EventBatch
from .ingest.body import EncryptedEnvelope

Document = dict[str, Any]

_KEY_SCHEME, _BEARER_SCHEME = "apiKey", "bearer"

_MEANINGS = {
    400: "The body is not one complete gzip member, not JSON, or cannot be decrypted.",
    401: "The API key is missing or unknown, or the signature is missing or wrong.",
    403: "The request names another project than the key's.",
    408: "The body did not come in time: send it again.",
    411: "The request has no Content-Length: send the body whole, and not in chunks.",
    413: "The body is larger than the backend takes: send fewer rows in one batch.",
    415: "The body is encoded in another way than gzip.",
    422: "The body or a header doesn't match the schema; the answer names row and field.",
    429: "This address, key or project has sent too often: wait as long as Retry-After says, in seconds.",
    503: "The backend cannot store now: wait as long as Retry-After says, in seconds.",
}


class Accepted(BaseModel):
    """A batch is on the disk.

    Of the rows received, those processed are on the disk: `accepted` are new, `duplicates` were there already. Events
    that were dropped for their timestamps are not. A batch is stored as a whole, so there are no `errors` beside it.
    """

    success: bool = True
    events_received: int
    events_dropped_invalid_timestamp: int
    metrics_received: int
    events_processed: int
    metrics_processed: int
    errors: list[str] = Field(default_factory=list)
    accepted: int
    duplicates: int


class Ready(BaseModel):
    """The backend takes what this key sends, and can read its database."""

    success: bool = True
    status: Literal["healthy"] = "healthy"
    project_id: str
    version: str


class Success(BaseModel):
    """A status is on the disk."""

    success: bool


class Refused(BaseModel):
    """Why a request was refused, and the remedy."""

    success: bool
    detail: str


def _ref(model: type[BaseModel]) -> Document:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _header(name: str, meaning: str, **schema: object) -> Document:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": meaning,
        "schema": {"type": "string", **schema},
    }


_PROJECT = _header("X-Project-ID", "The project of the key; another one is refused.")
_SIGNATURE = _header(
    "X-Payload-Signature",
    "v1= and the hex HMAC-SHA256 of the uncompressed body; needed where the backend has a signing secret.",
)
_ENCODING = _header("Content-Encoding", "How the body is compressed: gzip, or not at all.")
_INSTALLATION = {
    **_header("X-Agent-Install-Id", "The UUID of the installation.", minLength=1),
    "required": True,
}
_ASKING = _header("X-Agent-Install-Id", "The UUID of the installation, so that it is known who enforces rules.")
_UNCHANGED = _header("If-None-Match", "The ETag of the rules that the caller has.")
_KNOWN = _header("Last-Event-ID", "The ETag of the rules that the caller has: they are not sent again.")
_NONCE = _header(
    NONCE_HEADER,
    "What no question has had before: asks for signed documents, where the backend has a signing secret.",
    pattern=f"^{NONCE.pattern}$",
)

_RULES_EVENT: Document = {
    "title": "RulesEvent",
    "description": "Rules that are in force from now on; the first of a stream are those that the caller lacks.",
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"const": "rules"},
        "id": {"type": "string", "description": "The ETag of these rules, for Last-Event-ID."},
        "signature": {
            "type": "string",
            "pattern": "^v1=[0-9a-f]{64}$",
            "description": "Of the data, where it was asked for: a field beside those of the standard.",
        },
        "data": {
            "type": "string",
            "description": "DynamicRules as JSON, on one line.",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/DynamicRules"},
        },
    },
}


def _json(model: type[BaseModel], description: str) -> Document:
    return {"description": description, "content": {"application/json": {"schema": _ref(model)}}}


def answers(*statuses: int) -> dict[int | str, Document]:
    """Return the declarations of refusals with the HTTP `statuses`."""
    declared: dict[int | str, Document] = {status: _json(Refused, _MEANINGS[status]) for status in statuses}
    seconds = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 1}}
    for status in {429, 503}.intersection(statuses):
        declared[status]["headers"] = {"Retry-After": seconds}
    return declared


def receiving(body: type[BaseModel], answer: type[BaseModel], *, installation: bool = False) -> Document:
    """Return what `APIRouter.post` needs to know of an endpoint that takes `body` and answers `answer`."""
    refusals = answers(400, 401, 403, 408, 411, 413, 415, 422, 429, 503)
    return {
        "responses": {200: _json(answer, "The rows are on the disk."), **refusals},
        "openapi_extra": {
            "parameters": [_PROJECT, _SIGNATURE, _ENCODING] + ([_INSTALLATION] if installation else []),
            "requestBody": {**_json(body, "The body, before it is packed."), "required": True},
            "security": [{_KEY_SCHEME: []}],
        },
    }


def handing_out_rules() -> Document:
    """Return what `APIRouter.get` needs to know of the endpoint of the rules."""
    tag = {"ETag": {"description": "Changes with the rules.", "required": True, "schema": {"type": "string"}}}
    signed = {
        SIGNATURE_HEADER: {
            "description": "Of the body, where it was asked for.",
            "schema": _RULES_EVENT["properties"]["signature"],
        }
    }
    return {
        "responses": {
            200: {**_json(DynamicRules, "The rules."), "headers": tag | signed},
            304: {"description": "The caller has these rules already.", "headers": tag},
            **answers(401, 403, 422, 429, 503),
        },
        "openapi_extra": {"parameters": [_PROJECT, _ASKING, _UNCHANGED, _NONCE], "security": [{_KEY_SCHEME: []}]},
    }


def streaming_rules() -> Document:
    """Return what `APIRouter.get` needs to know of the stream of rules."""
    said = (
        "Server-sent events, for as long as both sides want: one for each change, and comments while nothing happens."
    )
    # `itemSchema` is what OpenAPI 3.2 calls the schema of one event; earlier readers pass it over.
    events = {"text/event-stream": {"itemSchema": {"$ref": "#/components/schemas/RulesEvent"}}}
    return {
        "response_class": Response,
        "responses": {200: {"description": said, "content": events}, **answers(401, 403, 422, 429, 503)},
        "openapi_extra": {
            "parameters": [_PROJECT, _ASKING, _KNOWN, _UNCHANGED, _NONCE],
            "security": [{_KEY_SCHEME: []}],
        },
    }


def receiving_otlp(rows: str) -> Document:
    """Return what `APIRouter.post` needs to know of an endpoint that takes OTLP, in whose JSON `rows` has all."""
    items: Document = {"type": ["array", "null"], "items": {"type": "object"}}
    forms = {
        "application/json": {"schema": {"type": "object", "properties": {rows: items}}},
        "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
    }
    response = {
        "application/json": {"schema": {"type": "object", "properties": {"partialSuccess": {"type": "object"}}}},
        "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
    }
    message = {
        "application/json": {
            "schema": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
        },
        "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
    }
    refusals = answers(400, 401, 403, 408, 413, 415, 429, 503)
    for refusal in refusals.values():
        refusal["content"] = message
    stored = "Security events are on the disk; `partialSuccess` counts what is not stored, and says why."
    return {
        "responses": {200: {"description": stored, "content": response}, **refusals},
        "openapi_extra": {
            "parameters": [_PROJECT, _SIGNATURE, _ENCODING],
            "requestBody": {"description": "An OTLP export request.", "content": forms, "required": True},
            "security": [{_KEY_SCHEME: []}, {_BEARER_SCHEME: []}],
        },
    }


def probing() -> Document:
    """Return what `APIRouter.get` needs to know of the probe."""
    return {
        "responses": {200: _json(Ready, "The backend is ready."), **answers(401, 403, 429, 503)},
        "openapi_extra": {"parameters": [_PROJECT], "security": [{_KEY_SCHEME: []}]},
    }


def by_key() -> Document:
    """Return what `APIRouter.get` needs to know of an endpoint that wants a key."""
    return {"openapi_extra": {"security": [{_KEY_SCHEME: []}]}}


def describe(app: FastAPI) -> None:
    """Make `app` describe itself with the contract's schemas, and with the errors as this backend words them."""

    def openapi() -> Document:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes, summary=app.summary)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(
                _schemas([EventBatch, EncryptedEnvelope, AgentStatus, DynamicRules, Accepted, Success, Ready, Refused])
            )
            schemas["RulesEvent"] = _RULES_EVENT
            document["components"]["securitySchemes"] = {
                _KEY_SCHEME: {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                _BEARER_SCHEME: {"type": "http", "scheme": "bearer"},
            }
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _schemas(models: Iterable[type[BaseModel]]) -> Document:
    _, document = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: Document = document["$defs"]
    # What the models' own schemas leave out (keys are UUIDs), and what they say in words that few readers know.
    schemas["SecurityEvent"]["properties"]["idempotency_key"]["format"] = "uuid"
    schemas["DynamicRules"]["properties"]["endpoint_rate_limits"]["additionalProperties"] = {
        "type": "array",
        "items": {"type": "integer"},
        "minItems": 2,
        "maxItems": 2,
    }
    return schemas
