"""The delivery against a strict server with the hosted platform's limits."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from support.guard_platform import Platform
from support.guard_server import Answer, GuardServer, guard_server
from support.redis import eventually

from opentelemetry_guard.delivery.body_limit import BodyLimit
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import complete, format_nanoseconds, to_row
from opentelemetry_guard.queue.base import DROPPED_REJECTED, DROPPED_TIMESTAMP
from opentelemetry_guard.settings import once
from opentelemetry_guard.settings.delivery import GuardConfig

WATCHDOG = 60.0


@contextmanager
def platform(**limits: Any) -> Iterator[tuple[GuardServer, Platform]]:
    with guard_server() as server:
        server.decide = made = Platform(**limits)
        yield server, made


@contextmanager
def delivery(server: GuardServer, **settings: object) -> Iterator[Delivery]:
    made = Delivery(GuardConfig.resolve({}, **{**server.settings, **settings}))
    try:
        yield made
    finally:
        made.close(0.0)


def events(count: int, size: int = 200, seconds: float = 0.0) -> list[Any]:
    """Return `count` events of about `size` bytes of text that cannot be compressed much, from `seconds` ago."""
    at = format_nanoseconds(int((time.time() - seconds) * 1e9))
    text = random.Random(count).randbytes(size // 2).hex()
    return [complete(to_row({"event_type": "ip_blocked", "reason": text, "timestamp": at})[0]) for _ in range(count)]


def ledger(made: Delivery) -> Any:
    return made.stats().ledger["events"]


def test_no_body_is_too_large_for_the_platform_fresh_merged_or_from_before(tmp_path: Path) -> None:
    store = {"queue_url": f"sqlite://{tmp_path}/guard.db"}
    with platform() as (server, counts):
        with delivery(server, **store, api_key=None, max_body_bytes=10**6, batch_size=5000) as before:
            before.submit("events", events(3000, 500))
            before.submit("metrics", metric_rows(8000))
            for _ in range(30):
                before.submit("events", events(50, 400))
        with delivery(server, **store) as made:
            made.submit("events", events(2000, 300))
            assert made.flush(WATCHDOG)
            assert not counts.refused_sizes
            assert ledger(made).delivered == 6500 == len(server.events)
            assert made.stats().ledger["metrics"].delivered == 8000 == len(server.metrics)
    assert max(counts.sizes) < 256_000
    assert max(len(request.document["events"]) for request in server.requests) <= 1000


def metric_rows(count: int) -> list[Any]:
    row = {"timestamp": "2026-01-02T03:04:05Z", "metric_type": "request_count", "endpoint": None, "tags": {"a": "b"}}
    return [{**row, "value": float(number)} for number in range(count)]


@pytest.mark.parametrize(
    ("limit", "settings"),
    [(70_000, {}), (100_000, {"compression": "none"}), (200_000, {}), (100_000, {"encryption_key": "A" * 43})],
)
def test_one_refusal_for_size_is_enough(tmp_path: Path, limit: int, settings: dict[str, object]) -> None:
    store = {"queue_url": f"sqlite://{tmp_path}/guard.db", **settings}
    with platform(max_body=limit) as (server, counts):
        if "encryption_key" in settings:
            server.receive = encrypted(counts)  # type: ignore[method-assign]
        with delivery(server, **store) as made:
            for size in (300, 100, 900):
                made.submit("events", events(1000, size))
            assert made.flush(WATCHDOG)
            assert len(counts.refused_sizes) == 1
            assert ledger(made).delivered == 3000
        with delivery(server, **store) as following:
            following.submit("events", events(1000, 300))
            assert following.flush(WATCHDOG)
            assert len(counts.refused_sizes) == 1, "the next process has to learn nothing"
            assert ledger(following).delivered == 4000


def test_workers_that_run_learn_from_one_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = {"queue_url": f"sqlite://{tmp_path}/guard.db"}
    barred = threading.Event()
    may_try = BodyLimit.may_try

    def spied(limit: BodyLimit, size: int) -> bool:
        allowed = may_try(limit, size)
        if not allowed:
            barred.set()
        return allowed

    monkeypatch.setattr(BodyLimit, "may_try", spied)
    with platform(max_body=100_000) as (server, counts):

        def decide(body: bytes, document: Any) -> Answer:
            assert barred.wait(WATCHDOG), "the other worker did not look before it sent"
            return counts(body, document)

        server.decide = decide
        with delivery(server, **store) as one, delivery(server, **store) as other:
            for made, size in ((one, 300), (other, 320)):
                made.submit("events", events(800, size))
            # A flush of either ends while the other still has something of its own.
            eventually(lambda: ledger(one).delivered == 1600, WATCHDOG)
            assert len(counts.refused_sizes) == 1


def encrypted(counts: Platform) -> Any:
    def receive(path: str, headers: Any, raw: bytes) -> Any:
        return counts(raw, {"events": [], "metrics": []})

    counts.answer = {"events_processed": None, "metrics_processed": None}
    return receive


def test_a_limit_that_the_answer_names_is_gone_by() -> None:
    with guard_server() as server, delivery(server, compression="none") as made:
        server.answer(413, {"detail": "the body may have 30000 bytes at most"})
        made.submit("events", events(1000))
        assert made.flush(WATCHDOG)
        first, *others = [len(request.body) for request in server.requests]
        assert first > 50_000
        assert 29_000 < max(others) < 30_000


def test_rows_that_are_too_large_alone_draw_one_refusal_and_leave_the_bound_as_it_is(tmp_path: Path) -> None:
    store = {"queue_url": f"sqlite://{tmp_path}/guard.db"}
    with platform() as (server, counts), delivery(server, **store) as made:
        made.submit("events", events(1500, 300))
        assert made.flush(WATCHDOG)
        for _ in range(4):
            made.submit("events", events(1, 300_000))
            assert made.flush(WATCHDOG)
        made.submit("events", events(1500, 300))
        assert made.flush(WATCHDOG)
        assert len(counts.refused_sizes) == 1
        assert (ledger(made).delivered, ledger(made).dead_lettered) == (3000, 4)
        assert {letter.status for letter in made.queue.dead_letters()} == {413}
    assert max(size for size in counts.sizes[-3:]) > 200_000


def test_the_ledger_is_the_platforms_count_to_the_row(tmp_path: Path) -> None:
    chosen = random.Random(12)
    with platform(unavailable_every=20) as (server, counts):
        with delivery(server, queue_url=f"sqlite://{tmp_path}/guard.db", api_key=None) as waiting:
            for _ in range(60):
                rows = events(chosen.randrange(1, 200), chosen.randrange(10, 800))
                for row in rows:
                    if chosen.random() < 0.01:
                        row["timestamp"] = chosen.choice(["2001-02-03T04:05:06Z", "2101-02-03T04:05:06.5Z"])
                waiting.submit("events", rows)
            accepted = ledger(waiting).accepted
        with delivery(server, queue_url=f"sqlite://{tmp_path}/guard.db", backoff_factor=0.001) as made:
            assert any(made.flush(WATCHDOG) for _ in range(100))
            found = ledger(made)
            assert counts.dropped > 20
            assert found.delivered == sum(counts.kept.values()) == len(counts.kept) - 1
            assert found.dead_lettered + found.dropped.get(DROPPED_TIMESTAMP, 0) == counts.dropped
            assert accepted == found.delivered + counts.dropped
            odd = [row for letter in made.queue.dead_letters() for row in made._encoder.rows(letter.batch)]
            assert {row["timestamp"][:4] for row in odd} <= {"2001", "2101"}
            assert not counts.refused_sizes


@pytest.mark.parametrize("settings", [{}, {"compression": "none"}, {"signing_secret": "s"}])
def test_every_request_has_a_length_and_gzip_that_can_be_read_also_from_a_damaged_queue(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    store = {"queue_url": f"sqlite://{tmp_path}/guard.db", **settings}
    with platform() as (server, _):
        with delivery(server, **store, api_key=None) as waiting:
            for count in (1, 30, 300):
                waiting.submit("events", events(count))
        [file] = tmp_path.glob("*.db")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "UPDATE bodies SET body = substr(body, 1, 40) || zeroblob(length(body) - 40) "
                "WHERE length(body) = (SELECT max(length(body)) FROM bodies)"
            )
        with delivery(server, **store) as made:
            made.submit("metrics", metric_rows(5))
            assert made.flush(WATCHDOG)
            assert (ledger(made).delivered, ledger(made).dropped) == (31, {"corrupt": 300})
    # What lacks a length, or can't be decompressed, is a violation of the contract that ends the server's block.
    assert all(request.headers["content-length"].isdigit() for request in server.requests)
    assert {request.status for request in server.requests} == {200}


def test_what_the_platform_does_not_keep_is_told_with_its_cause(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "_said", {})
    with platform() as (server, _), delivery(server) as made:
        made.submit("events", [*events(8), *events(1, seconds=10 * 86_400.0), *events(1, seconds=-86_400.0)])
        assert made.flush(WATCHDOG)
        assert (ledger(made).delivered, ledger(made).dead_lettered, ledger(made).dropped) == (8, 2, {})
        [letter] = made.queue.dead_letters()
        assert "2 of 10 events were dropped for their timestamps" in letter.reason
        status = made.status()
        assert status.status == "degraded"
        assert any("does not keep all rows that it takes: 2 of 10 events" in error for error in status.errors)
        made.submit("events", events(3, seconds=10 * 86_400.0))
        assert made.flush(WATCHDOG)
        assert ledger(made).dead_lettered == 5
    assert len([record for record in caplog.records if "does not keep all events" in record.message]) == 1


def test_rows_that_were_not_processed_are_counted_and_not_sent_again() -> None:
    with platform(answer={"events_processed": 7}) as (server, counts), delivery(server) as made:
        made.submit("events", events(10))
        assert made.flush(WATCHDOG)
        assert (ledger(made).delivered, ledger(made).dropped) == (7, {DROPPED_REJECTED: 3})
        assert len(counts.sizes) == 1
        assert "3 of 10 events were not processed" in str(made.status().errors)


def test_a_repeated_batch_whose_rows_were_known_is_delivered() -> None:
    with guard_server() as server, delivery(server, backoff_factor=0.01) as made:
        server.answer(reset=True)
        server.answer(200, {"success": True, "events_received": 5, "events_processed": 0})
        made.submit("events", events(5))
        server.wait_for_requests(2)
        assert made.flush(WATCHDOG)
        assert (ledger(made).delivered, ledger(made).dropped) == (5, {})


@pytest.mark.parametrize("count", [True, -1, "3", None, 2.5, 10**6])
def test_odd_counts_lose_no_row_and_end_nothing(count: object) -> None:
    told = {"success": True, "events_dropped_invalid_timestamp": count, "events_processed": count}
    with guard_server() as server, delivery(server) as made:
        server.answer(200, told)
        made.submit("events", events(4))
        assert made.flush(WATCHDOG)
        assert ledger(made).balanced
        assert len(server.requests) == 1


def test_errors_that_explain_what_was_dropped_ask_for_no_other_try() -> None:
    told = {"errors": ["1 event dropped: invalid timestamp"]}
    with platform(answer=told) as (server, counts), delivery(server) as made:
        made.submit("events", [*events(3), *events(1, seconds=10 * 86_400.0)])
        assert made.flush(WATCHDOG)
        assert len(counts.sizes) == 1
        assert (ledger(made).delivered, ledger(made).dead_lettered) == (3, 1)


def test_a_wrong_clock_is_named_as_the_cause() -> None:
    told = {"success": True, "events_received": 3, "events_dropped_invalid_timestamp": 3, "events_processed": 0}
    with guard_server() as server, delivery(server) as made:
        server.answer(200, told, headers={"Date": formatdate(time.time() - 7200, usegmt=True)})
        made.submit("events", events(3))
        assert made.flush(WATCHDOG)
        assert "clock is 72" in str(made.status().errors)
        assert "seconds ahead of the backend's: set it" in str(made.status().errors)
