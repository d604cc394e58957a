"""With a signing secret the backend takes signed bodies alone."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from collections.abc import Iterator

import pytest
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, post


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend(signing_secret="s3cret") as running:
        yield running


def sign(body: bytes, secret: bytes = b"s3cret") -> str:
    return "v1=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def test_a_signed_body_is_taken(backend: RunningBackend) -> None:
    body = json.dumps(batch(events=[event()])).encode()
    assert post(backend, "/api/v1/events", body, X_Payload_Signature=sign(body)).status_code == 200


def test_the_signature_is_of_the_uncompressed_body(backend: RunningBackend) -> None:
    body = json.dumps(batch(events=[event()])).encode()
    headers = {"X_Payload_Signature": sign(body), "Content_Encoding": "gzip"}
    assert post(backend, "/api/v1/events", gzip.compress(body), **headers).status_code == 200


@pytest.mark.parametrize("nonce", ["", "short", "n" * 65, "n" * 15 + "é"])
def test_a_nonce_that_is_none_is_422_and_named(backend: RunningBackend, nonce: str) -> None:
    for path in ("/rules", "/rules/stream"):
        headers = {**backend.headers, "X-Rules-Nonce": nonce.encode("utf-8")}
        answer = backend.http.get(f"{backend.url}/api/v1{path}", headers=headers, timeout=20)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("X-Rules-Nonce must be 16 to 64 letters")


@pytest.mark.parametrize("path", ["/events", "/metrics", "/events/encrypted", "/status"])
def test_a_missing_signature_is_401(backend: RunningBackend, path: str) -> None:
    assert post(backend, f"/api/v1{path}", batch()).status_code == 401


def test_a_wrong_signature_is_401_and_nothing_is_stored(backend: RunningBackend) -> None:
    body = json.dumps(batch(events=[event(event_type="forged")])).encode()
    for signature in (sign(body, b"other"), sign(body + b" "), sign(body)[3:], "v1=é"):
        answer = backend.http.post(
            backend.url + "/api/v1/events",
            data=body,
            headers={**backend.headers, "X-Payload-Signature": signature.encode("utf-8")},
            timeout=10,
        )
        assert answer.status_code == 401
        assert "s3cret" not in answer.text
    assert backend.events("forged") == []
