"""The request itself: over TLS with the standard variables, and without a secret in what is told of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.raw_server import answer, make_certificate, raw_server, server_context

from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.durable.delivery import Posting
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.settings.durable import DurableConfig

BATCH = Batch("b", "spans", 1, b"")
PATH = "/v1/traces"


def sent(endpoint: str, **settings: object) -> Outcome:
    config = DurableConfig.of("traces", endpoint=endpoint + PATH, **settings)
    posting = Posting(config, lambda batch: batch.body)
    try:
        return posting.send(BATCH, 10.0)
    finally:
        posting.close()


def test_a_receivers_certificate_is_checked_against_the_standard_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    with raw_server(answer(), server_context(certificate, key)) as server:
        endpoint = f"https://127.0.0.1:{server.port}"
        assert sent(endpoint).verdict is Verdict.RETRY
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", str(certificate))
        assert sent(endpoint).verdict is Verdict.ACCEPTED


def test_a_receiver_that_wants_to_know_us_is_shown_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    with raw_server(answer(), server_context(certificate, key, client_ca=certificate)) as server:
        endpoint = f"https://127.0.0.1:{server.port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate))
        assert sent(endpoint).verdict is Verdict.RETRY
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(certificate))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(key))
        assert sent(endpoint).verdict is Verdict.ACCEPTED


def test_a_certificate_that_is_no_file_is_named_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
    with raw_server(answer()) as server:
        outcome = sent(f"https://127.0.0.1:{server.port}")
    assert outcome.verdict is Verdict.RETRY
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE can't be used" in outcome.reason


def test_an_answer_that_quotes_a_token_does_not_tell_it() -> None:
    quoting = (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 26\r\n\r\nunknown key planted-secret"
    )
    with raw_server(answer(quoting)) as server:
        outcome = sent(f"http://127.0.0.1:{server.port}", headers={"api-key": "planted-secret"})
    assert outcome.verdict is Verdict.REFUSED
    assert "planted-secret" not in outcome.reason


def test_a_function_that_hangs_for_headers_does_not_hold_the_sender_up() -> None:
    hanging = threading.Event()
    try:
        outcome = sent("http://127.0.0.1:1", headers=lambda: {"wait": str(hanging.wait())}, timeout=0.2)
    finally:
        hanging.set()
    assert (outcome.verdict, outcome.reason) == (Verdict.RETRY, "the headers can't be told now: TimeoutError")


@pytest.mark.parametrize("value", [5, "a\nplanted-secret"])
def test_a_header_that_cannot_travel_is_told_without_its_value(value: object) -> None:
    with raw_server(answer()) as server:
        outcome = sent(f"http://127.0.0.1:{server.port}", headers=lambda: {"api-key": value})
    assert "planted-secret" not in outcome.reason
    assert outcome.verdict is (Verdict.ACCEPTED if value == 5 else Verdict.RETRY)
