"""The OpenAPI document says what the backend takes and answers, no more and no less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from opentelemetry_guard.backend.app import create_app
from opentelemetry_guard.backend.ingest import streams
from opentelemetry_guard.backend.settings import BackendSettings
from opentelemetry_guard.backend.storage.keys import ApiKeys
from opentelemetry_guard.backend.storage.store import Store

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

KEY = "openapi-key"
HOST = {"Host": "127.0.0.1"}
WITHOUT_PARAMETERS = [("GET", "/local/agents"), ("GET", "/local/summary")]
OPERATIONS = [
    ("POST", "/api/v1/events"),
    ("POST", "/api/v1/metrics"),
    ("POST", "/api/v1/events/encrypted"),
    ("POST", "/api/v1/status"),
    ("GET", "/api/v1/rules"),
    ("GET", "/api/v1/rules/stream"),
    ("GET", "/api/v1/status"),
    ("POST", "/v1/logs"),
    ("POST", "/v1/traces"),
    ("GET", "/local/enforcement"),
    ("GET", "/local/events"),
    ("GET", "/local/feed"),
    ("GET", "/local/incidents"),
    ("GET", "/local/metrics"),
    *WITHOUT_PARAMETERS,
]


def described(store: Store, signing_secret: bytes | None = None) -> Any:
    """Return the document of a backend, which is asked by it."""
    said = BackendSettings(
        ApiKeys({KEY: "default"}), encryption_key=b"k" * 32, signing_secret=signing_secret, requests_per_minute=0
    )
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(store, said), headers=HOST)


@pytest.fixture(scope="module")
def document(module_store: Store) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        # Else nobody would see the end of a stream.
        patch.setattr(streams, "LIFE_SECONDS", 0.05)
        patch.setattr(streams, "HEARTBEAT_SECONDS", 0.01)
        yield described(module_store)


def test_the_document_has_the_contract_and_the_local_routes(document: Any) -> None:
    found = [(one.ok().method.upper(), one.ok().path) for one in document.get_all_operations()]
    assert sorted(found) == sorted(OPERATIONS)


@pytest.mark.usefixtures("document")
def test_an_event_of_the_stream_is_what_the_document_says_of_it(module_store: Store) -> None:
    signing = described(module_store, b"s")
    asked = signing["/api/v1/rules/stream"]["GET"].Case(headers={**HOST, "X-API-Key": KEY, "X-Rules-Nonce": "n" * 16})
    answer = asked.call()
    asked.validate_response(answer)
    schemas = signing.raw_schema["components"]["schemas"]
    kind = schemas["RulesEvent"]
    [event] = [part for part in answer.text.split("\n\n") if part and not part.startswith(":")]
    fields = dict(line.split(": ", 1) for line in event.splitlines())
    assert fields["event"] == kind["properties"]["event"]["const"]
    assert re.fullmatch(kind["properties"]["signature"]["pattern"], fields["signature"])
    assert fields.keys() == kind["properties"].keys()
    assert kind["properties"]["data"]["contentSchema"] == {"$ref": "#/components/schemas/DynamicRules"}
    assert json.loads(fields["data"]).keys() == schemas["DynamicRules"]["properties"].keys()


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        pytest.param(*operation, mode, id=f"{' '.join(operation)} {mode.value}")
        for operation in OPERATIONS
        for mode in GenerationMode
        # What takes nothing can't be given anything wrong.
        if mode is GenerationMode.POSITIVE or operation not in WITHOUT_PARAMETERS
    ],
)
def test_every_answer_is_one_that_the_document_declares(
    document: Any, method: str, path: str, mode: GenerationMode
) -> None:
    # Nobody can write an encrypted body by chance.
    unfounded = [positive_data_acceptance] if path.endswith("/encrypted") else []

    @settings(max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(document[path][method].as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            # That a body has to be packed as this header says can't be told in the document.
            case.headers.pop("Content-Encoding", None)
        case.call_and_validate(headers={**HOST, "X-API-Key": KEY}, excluded_checks=unfounded)

    holds()
