"""The end of a process: everything within one deadline, and the rest stays stored."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from support.emitting_app import emitting_app
from support.guard_server import guard_server
from support.pipeline import pipeline

from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
from opentelemetry_guard.process.end import CLOCK, ShutdownClock

WATCHDOG = 60.0


def test_the_clock_runs_from_the_first_shutdown_on() -> None:
    clock = ShutdownClock()
    first = clock.remaining(5.0)
    assert clock.remaining(5.0) <= first <= 5.0
    clock.reset()
    assert clock.remaining(0.0) == 0.0
    assert clock.remaining(1000.0) == 0.0, "the deadline is the first one's"


def test_all_shutdowns_together_end_in_time_though_the_backend_hangs(tmp_path: Path) -> None:
    with guard_server() as server:
        server.answer(delay=3600.0, times=None)
        settings = {
            **server.settings,
            "queue_url": f"sqlite://{tmp_path}/q/guard.db",
            "timeout": 3600.0,
            "shutdown_timeout": 0.5,
        }
        logs = GuardLogExporter(**settings)
        spans, metrics = GuardSpanExporter(**settings), GuardMetricExporter(**settings)
        reader = PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)
        delivery = logs._connection.delivery
        assert delivery is not None
        with pipeline(logs=[logs], spans=[spans], readers=[reader]) as pipe:
            with pipe.tracer.start_as_current_span("request"):
                pipe.emitter.emit_event(event_type="ip_blocked")
            pipe.emitter.record_metric(metric_type="request_count", value=1.0)
            server.wait_for_requests(1)

            def shut_down() -> None:
                pipe.logs.shutdown()
                pipe.meters.shutdown()
                pipe.spans.shutdown()

            ending = threading.Thread(target=shut_down, daemon=True)
            ending.start()
            ending.join(WATCHDOG)
            assert not ending.is_alive(), "the requests would have taken an hour each"
        assert CLOCK.remaining(0.5) < 0.5, "the clock was started by the first shutdown and has not been reset"
        ledger = delivery.stats().ledger
        assert all(ledger[kind].queued + ledger[kind].in_flight == 1 for kind in ledger)
        assert all(ledger[kind].balanced for kind in ledger)
        assert delivery.closed


def test_an_export_after_the_shutdown_writes_ahead(tmp_path: Path) -> None:
    with guard_server() as server:
        settings = {**server.settings, "queue_url": f"sqlite://{tmp_path}/q/guard.db"}
        kept = InMemoryLogRecordExporter()
        with pipeline(logs=[kept]) as pipe:
            pipe.emitter.emit_event(event_type="ip_blocked", reason="late")
        exporter = GuardLogExporter(**settings)
        exporter.shutdown()
        exporter.shutdown()
        exporter.export(kept.get_finished_logs())
        assert not server.requests
        following = GuardLogExporter(**settings)
        assert server.wait_for_events(1)[0]["reason"] == "late"
        following.shutdown()


@pytest.mark.parametrize("store", ["memory://", ""])
def test_an_interpreter_that_ends_delivers_what_its_batches_hold(store: str) -> None:
    with guard_server() as server:
        with emitting_app({**server.environment, "OTEL_EXPORTER_GUARD_QUEUE_URL": store}) as app:
            assert app.tell("emit a 5") == "done"
            assert not server.requests
            assert app.end() == 0
        assert sorted(event["reason"] for event in server.events) == ["a0", "a1", "a2", "a3", "a4"]
        assert [row["value"] for row in server.metrics] == [5.0]


def test_a_polite_sigterm_delivers_and_ends_as_the_signal_demands() -> None:
    with guard_server() as server:
        with emitting_app(server.environment, "polite") as app:
            app.tell("emit a 5")
            assert app.end(signal.SIGTERM) == -signal.SIGTERM
        assert len(server.events) == 5
        assert [row["value"] for row in server.metrics] == [5.0]


def test_a_sigterm_while_the_backend_hangs_ends_the_process_and_keeps_the_rows() -> None:
    with guard_server() as server:
        server.answer(delay=3600.0)
        hurried = {**server.environment, "OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT": "0.5"}
        with emitting_app(hurried, "polite") as app:
            app.tell("emit a 5")
            assert app.end(signal.SIGTERM) == -signal.SIGTERM
        with emitting_app(server.environment) as app:
            server.wait_until(lambda: len({event["idempotency_key"] for event in server.events}) == 5, "5 events")
            assert app.end() == 0
