"""Encrypted batches are stored like plain ones."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator

import pytest
import requests
from support.backend import RunningBackend, running_backend
from support.sending import event, metric, post

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    pytest.importorskip("cryptography", reason="needs the extra 'encryption'")
    with running_backend(encryption_key=KEY) as running:
        yield running


def seal(plain: bytes, key: bytes = b"01234567890123456789012345678901") -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(12)
    return base64.urlsafe_b64encode(nonce + AESGCM(key).encrypt(nonce, plain, None)).decode()


def send(backend: RunningBackend, payload: str, batch_id: str = "b") -> requests.Response:
    return post(backend, "/api/v1/events/encrypted", {"encrypted_payload": payload, "batch_id": batch_id})


def test_events_and_metrics_are_stored_once(backend: RunningBackend) -> None:
    sent = event()
    plain = json.dumps({"events": [sent], "metrics": [metric(tags={}, endpoint=None)]}).encode()
    answers = [send(backend, seal(plain), "sealed").json() for _ in range(2)]
    assert [(answer["accepted"], answer["duplicates"]) for answer in answers] == [(2, 0), (0, 2)]
    assert len(backend.events()) == 1
    assert backend.metrics() == [metric(tags={}, endpoint=None)]


def test_padding_is_optional(backend: RunningBackend) -> None:
    sealed = seal(b'{"events":[],"metrics":[]}').rstrip("=")
    assert send(backend, sealed).status_code == 200


def test_another_key_is_400(backend: RunningBackend) -> None:
    answer = send(backend, seal(b"{}", b"x" * 32))
    assert answer.status_code == 400
    assert "encryption key" in answer.json()["detail"]


@pytest.mark.parametrize("payload", ["***", "A", "", "AAAA"])
def test_a_payload_that_is_no_envelope_is_422(backend: RunningBackend, payload: str) -> None:
    assert send(backend, payload).status_code == 422


def test_rows_outside_the_schema_are_422(backend: RunningBackend) -> None:
    answer = send(backend, seal(json.dumps({"events": [event(status_code="1")]}).encode()))
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (422, "events[0].status_code")
