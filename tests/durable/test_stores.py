"""A store that can't be used: the application never notices, the log says it once, and what can be kept is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from support.otlp_receiver import Receiver
from support.redis import redis_server

from .conftest import spans
from .test_delivery import settled

Make = Callable[..., Any]

SUCCESS = SpanExportResult.SUCCESS


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_full_disk_keeps_what_it_has_and_the_rest_waits_in_memory(
    receiver: Receiver, make: Make, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.set_mode("status", status=503)
    exporter = make(queue_url=f"sqlite://{small_disk}/otlp.db", max_bytes=64 * 1024 * 1024)
    for first in range(0, 3000, 100):
        assert exporter.export(spans(range(first, first + 100), text="x" * 1000)) is SUCCESS
    assert len([message for message in said(caplog) if "can't be written" in message]) == 1
    receiver.set_mode("ok")
    settled(exporter, seconds=40)
    assert receiver.seen()["distinct"]["spans"] == 3000


def test_a_directory_that_cannot_be_written_costs_nothing_while_the_process_lives(
    receiver: Receiver, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way of a directory, for root too")
    exporter = make(queue_url=f"sqlite://{tmp_path}/file/otlp.db")
    for first in range(0, 50, 10):
        assert exporter.export(spans(range(first, first + 10))) is SUCCESS
    receiver.wait(lambda seen: seen["distinct"]["spans"] == 50)
    assert receiver.seen()["distinct"]["spans"] == 50
    assert len([message for message in said(caplog) if "can't be written" in message]) == 1


def test_a_damaged_file_is_set_aside_and_what_comes_after_arrives(
    receiver: Receiver, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.set_mode("status", status=503)
    exporter = make()
    exporter.export(spans(range(10)))
    exporter.shutdown(500)
    (path,) = (tmp_path / "queue").glob("*.db")
    path.write_bytes(b"damage" * 10_000)
    receiver.set_mode("ok")
    other = make()
    assert other.export(spans(range(100, 110))) is SUCCESS
    assert settled(other).delivered == 10
    assert [file.name for file in (tmp_path / "queue").glob("*.damaged-*")]
    assert sum("damaged" in message for message in said(caplog)) == 1
    assert other.delivery.stats().set_aside == 1


def test_a_queue_that_is_full_stays_within_its_bound_and_counts_what_went(receiver: Receiver, make: Make) -> None:
    receiver.set_mode("status", status=503)
    exporter = make(max_bytes=64 * 1024)
    for first in range(0, 1000, 10):
        exporter.export(spans(range(first, first + 10), text="x" * 200))
    found = exporter.delivery.stats().ledger["spans"]
    assert found.balanced
    assert set(found.dropped) == {"queue_overflow"}
    assert exporter.delivery.stats().bytes <= 64 * 1024


def test_a_fleet_shares_what_waits_through_redis(
    receiver: Receiver, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.set_mode("status", status=503)
    with redis_server() as server:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "one"))
        one = make(queue_url=server.url)
        one.export(spans(range(10)))
        one.shutdown(500)  # its lease ends, and its disk is lost
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
        receiver.set_mode("ok")
        other = make(queue_url=server.url)
        assert receiver.wait(lambda seen: seen["distinct"]["spans"] == 10)["received"]["spans"] == 10
        other.shutdown(2000)
