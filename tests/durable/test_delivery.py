"""What a receiver answers, and what becomes of every row then: the ledger equals what the receiver has counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from support.otlp_receiver import POISON, Receiver

from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.delivery.metrics import _observed, _rows
from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.queue.base import Ledger
from opentelemetry_guard.semconv import DELIVERY_DESTINATION, DELIVERY_ROW_KIND, DELIVERY_ROW_STATE
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.testing import FakeBackend

from .conftest import records, spans

Make = Callable[..., Any]


def ledger(exporter: Any, kind: str = "spans") -> Ledger:
    found: Ledger = exporter.delivery.stats().ledger[kind]
    assert found.balanced
    return found


def settled(exporter: Any, kind: str = "spans", seconds: float = 60.0) -> Ledger:
    """Return the ledger when nothing waits any more, or the time is up."""
    ends = time.monotonic() + seconds
    while not exporter.force_flush(500) and time.monotonic() < ends:
        pass
    return ledger(exporter, kind)


def test_what_is_exported_arrives_once_with_the_headers_of_the_exporter(receiver: Receiver, make: Make) -> None:
    exporter = make(headers={"Authorization": "Bearer token-1", "x-tenant": "a"})
    exporter.export(spans(range(600)))
    assert settled(exporter).delivered == 600
    seen = receiver.seen()
    assert (seen["received"]["spans"], seen["distinct"]["spans"], seen["requests"]) == (600, 600, {"spans": 1})
    headers = seen["headers"][0]
    assert headers["authorization"] == "Bearer token-1"
    assert headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_a_body_is_compressed_as_the_standard_variable_says(
    receiver: Receiver, make: Make, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", compression)
    exporter = make()
    exporter.export(spans(range(50)))
    assert settled(exporter).delivered == 50
    assert receiver.seen()["headers"][0]["content-encoding"] == compression


def test_signals_of_one_endpoint_share_one_queue_and_one_sender(receiver: Receiver, make: Make) -> None:
    traces, logs = make("traces"), make("logs")
    assert traces.delivery is logs.delivery
    traces.export(spans(range(3)))
    logs.export(records(range(5)))
    assert settled(logs, "logs").delivered == 5
    assert settled(traces).delivered == 3
    assert receiver.seen()["received"] == {"spans": 3, "logs": 5, "points": 0}


def test_tenants_have_a_queue_each_and_a_renewed_token_finds_its_own(make: Make) -> None:
    def destination(**headers: str) -> str:
        found: str = make(headers=headers).delivery.config.destination
        return found

    assert destination(authorization="one", **{"x-scope-orgid": "a"}) == destination(
        authorization="two", **{"x-scope-orgid": "a"}
    )
    assert destination(authorization="one", **{"x-scope-orgid": "a"}) != destination(
        authorization="one", **{"x-scope-orgid": "b"}
    )
    assert destination(authorization="one") != destination(authorization="two")


def test_retry_after_is_waited_for_and_the_same_bytes_come_again(receiver: Receiver, make: Make) -> None:
    receiver.set_mode("status", status=429, retry_after=1, times=1)
    exporter = make()
    began = time.monotonic()
    exporter.export(spans(range(10)))
    assert settled(exporter).delivered == 10
    assert time.monotonic() - began >= 1.0  # what was asked for, and no measurement of ours
    seen = receiver.seen()
    assert (seen["received"]["spans"], seen["attempts_of_one"]) == (10, 2)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_receiver_that_is_away_gets_the_same_request_again(receiver: Receiver, make: Make, status: int) -> None:
    receiver.set_mode("status", status=status, times=2)
    exporter = make()
    exporter.export(spans(range(10)))
    assert settled(exporter).delivered == 10
    assert receiver.seen()["attempts_of_one"] == 3


@pytest.mark.parametrize("mode", ["reset", "hang"])
def test_a_connection_that_breaks_or_hangs_costs_nothing(receiver: Receiver, make: Make, mode: str) -> None:
    receiver.set_mode(mode, times=1)
    exporter = make(timeout=2.0 if mode == "hang" else 20.0)
    exporter.export(spans(range(10)))
    assert settled(exporter).delivered == 10
    assert receiver.seen()["received"]["spans"] == 10


@pytest.mark.parametrize("mode", ["partial", "json"])
def test_what_a_partial_success_rejects_is_counted_and_never_sent_again(
    receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    receiver.set_mode(mode, rejected=4)
    exporter = make()
    exporter.export(spans(range(10)))
    found = settled(exporter)
    assert (found.delivered, found.dropped) == (6, {"rejected_by_backend": 4})
    assert receiver.seen()["requests"] == {"spans": 1}
    assert "too old" in caplog.text


def test_a_body_that_is_too_large_is_split_by_rows_and_a_single_row_dies(receiver: Receiver, make: Make) -> None:
    receiver.set_mode("limit", bytes=20_000)
    exporter = make()
    exporter.export([*spans(range(400)), *spans(range(400, 401), text="x" * 30_000)])
    found = settled(exporter)
    assert (found.delivered, found.dead_lettered) == (400, 1)
    assert receiver.seen()["distinct"]["spans"] == 400
    (letter,) = exporter.delivery.queue.dead_letters()
    assert (letter.status, letter.batch.rows) == (413, 1)


def test_a_refused_request_is_a_dead_letter_with_its_message_and_the_others_arrive(
    receiver: Receiver, make: Make
) -> None:
    receiver.set_mode("poison", message="field is bad")
    exporter = make()
    for first in (0, 660, 1000):
        exporter.export(spans(range(first, first + 10)))
        settled(exporter)
    found = ledger(exporter)
    assert (found.delivered, found.dead_lettered) == (20, 10)
    assert receiver.seen()["received"]["spans"] == 20
    (letter,) = exporter.delivery.queue.dead_letters()
    assert (letter.status, letter.reason) == (400, "field is bad")
    assert POISON in range(660, 670)


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_receiver_that_takes_nothing_costs_one_request_and_the_rest_is_kept(
    receiver: Receiver, make: Make, status: int
) -> None:
    receiver.set_mode("status", status=status, message="go away")
    exporter = make()
    for first in range(0, 50, 10):
        exporter.export(spans(range(first, first + 10)))
        exporter.force_flush(2000)
    found = ledger(exporter)
    assert (found.dead_lettered, found.queued) == (10, 40)
    assert receiver.seen()["requests"] == {"spans": 1}
    assert exporter.delivery.stats().routes["spans"].held


def test_a_success_whose_body_cannot_be_read_is_a_success(receiver: Receiver, make: Make) -> None:
    receiver.set_mode("garbage")
    exporter = make()
    exporter.export(spans(range(10)))
    assert settled(exporter).delivered == 10
    assert receiver.seen()["requests"] == {"spans": 1}


def test_a_web_page_in_the_receivers_place_loses_nothing(receiver: Receiver, make: Make) -> None:
    receiver.set_mode("page")
    exporter = make()
    exporter.export(spans(range(10)))
    exporter.force_flush(2000)
    assert (ledger(exporter).queued, ledger(exporter).delivered) == (10, 0)


def test_what_has_waited_too_long_is_dropped_and_counted(receiver: Receiver, make: Make) -> None:
    receiver.set_mode("status", status=503, retry_after=1)
    exporter = make(max_age=1)
    exporter.export(spans(range(10)))
    exporter.force_flush(300)
    found = settled(exporter)
    assert (found.delivered, found.dropped) == (0, {"expired": 10})


def test_headers_are_asked_for_at_each_request_and_stored_nowhere(
    receiver: Receiver, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = iter(["token-number-one", "token-number-two"])
    receiver.set_mode("status", status=503, times=1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-fixed=value-from-environment")
    exporter = make(headers=lambda: {"Authorization": next(tokens)})
    exporter.export(spans(range(10)))
    assert settled(exporter).delivered == 10
    assert [headers["authorization"] for headers in receiver.seen()["headers"]] == [
        "token-number-one",
        "token-number-two",
    ]
    assert receiver.seen()["headers"][0]["x-fixed"] == "value-from-environment"
    stored = b"".join(file.read_bytes() for file in (tmp_path / "queue").iterdir())
    assert b"span 9" in stored or stored
    assert b"token-number" not in stored
    assert b"value-from-environment" not in stored


def test_headers_that_cannot_be_told_are_asked_for_again(
    receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [OSError("secret in a message"), {"x-token": "fine"}]

    def headers() -> dict[str, str]:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return dict(found)

    exporter = make(headers=headers)
    exporter.export(spans(range(10)))
    assert settled(exporter).delivered == 10
    assert "secret in a message" not in caplog.text


def test_what_waits_is_encrypted_and_arrives_in_clear(receiver: Receiver, make: Make, tmp_path: Path) -> None:
    receiver.set_mode("status", status=503)
    exporter = make(encryption_key="A" * 43)
    exporter.export(spans(range(10), secret="a-planted-secret"))
    exporter.force_flush(300)
    stored = b"".join(file.read_bytes() for file in (tmp_path / "queue").iterdir())
    assert b"a-planted-secret" not in stored
    receiver.set_mode("ok")
    assert settled(exporter).delivered == 10
    assert receiver.seen()["distinct"]["spans"] == 10


def test_what_was_encrypted_with_another_key_is_a_dead_letter(receiver: Receiver, make: Make) -> None:
    receiver.set_mode("status", status=503)
    exporter = make(encryption_key="A" * 43)
    exporter.export(spans(range(10)))
    exporter.shutdown(300)
    receiver.set_mode("ok")
    other = make(encryption_key="B" * 43)
    found = settled(other)
    assert (found.delivered, found.dead_lettered) == (0, 10)
    assert "ENCRYPTION_KEY" in other.delivery.queue.dead_letters()[0].reason


def test_own_traffic_is_not_instrumented(make: Make) -> None:
    seen: list[bool] = []

    def headers() -> dict[str, str]:
        seen.append(is_instrumentation_enabled())
        return {}

    exporter = make(headers=headers)
    exporter.export(spans(range(3)))
    assert settled(exporter).delivered == 3
    assert seen == [False]


def test_the_metrics_of_the_delivery_name_its_destination(make: Make) -> None:
    exporter = make()
    exporter.export(spans(range(3)))
    assert settled(exporter).delivered == 3
    own = exporter.delivery.config.destination
    open_ones = [each for each in _observed if each.reading(object()) is not None]  # those of other tests are closed
    assert own in {each.attributes[DELIVERY_DESTINATION] for each in open_ones}
    told = {(a[DELIVERY_ROW_KIND], a[DELIVERY_ROW_STATE]): value for value, a in _rows(exporter.delivery.stats())}
    assert told["spans", "delivered"] == 3
    assert {kind for kind, _ in told} == {"spans", "logs", "points"}


def test_exporters_of_one_destination_send_their_own_headers(receiver: Receiver, make: Make) -> None:
    traces = make("traces", headers={"authorization": "for-traces"}, tenant="a")
    logs = make("logs", headers={"authorization": "for-logs"}, tenant="a")
    assert traces.delivery is logs.delivery
    traces.export(spans(range(3)))
    assert settled(traces).delivered == 3
    logs.export(records(range(3)))
    assert settled(logs, "logs").delivered == 3
    assert [headers["authorization"] for headers in receiver.seen()["headers"]] == ["for-traces", "for-logs"]


def test_after_an_outage_the_newest_point_of_a_series_is_sent_and_the_others_are_counted(
    receiver: Receiver, make: Make
) -> None:
    receiver.set_mode("status", status=503)
    exporter = make("metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader])
    counter = provider.get_meter("tests").create_counter("requests")
    for _ in range(5):
        counter.add(1, {"n": 7})
        reader.collect()
        exporter.force_flush(300)
    receiver.set_mode("ok")
    found = settled(exporter, "points")
    assert found.accepted == 5
    assert found.delivered + found.dropped["superseded"] == 5
    assert receiver.seen()["received"]["points"] == found.delivered < 5
    provider.shutdown()


def test_a_span_that_cannot_be_encoded_is_counted_and_said_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(found: object) -> None:
        raise ValueError("an attribute of no type: password=hunter2")

    exporter = make()
    monkeypatch.setattr("opentelemetry_guard.durable.spans.encode_spans", broken)
    for _ in range(3):
        exporter.export(spans(range(10)))
    assert ledger(exporter).dropped == {"encoding_error": 30}
    (said,) = [record for record in caplog.records if "encoded" in record.message]
    assert said.levelno == logging.ERROR
    assert "an attribute of no type" in said.message
    assert "hunter2" not in said.message


def test_a_refusal_of_one_backend_does_not_silence_that_of_another(
    receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.set_mode("status", status=400)
    with FakeBackend() as backend:
        backend.answer(*[400] * 10, body=b'{"detail": "no"}')
        guard = Delivery(
            GuardConfig.resolve(endpoint=backend.url, api_key=backend.api_key, project_id="p", queue_url="memory://")
        )
        guard.submit("events", [to_row({"event_type": "ip_blocked"})[0]])
        guard.flush(10)
        guard.close(1)
    exporter = make()
    exporter.export(spans(range(1)))
    assert settled(exporter).dead_lettered == 1
    said = [record.message for record in caplog.records if "for good" in record.message]
    assert [message.partition(" backend")[0] for message in said] == ["the Guard", "the OTLP"]
