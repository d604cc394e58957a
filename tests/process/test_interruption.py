"""An emission in the midst of other work of its thread never waits for that work, and is made or counted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult
from opentelemetry.trace import get_current_span
from support.application import ROOT
from support.guard_server import guard_server
from support.pipeline import pipeline
from support.rows import row_of

from opentelemetry_guard import Emitter
from opentelemetry_guard.events.tally import REENTRANT, TALLY
from opentelemetry_guard.process import interruption
from opentelemetry_guard.process import signals as termination

BOUND = 60
INTERRUPTIONS = 60


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize(
    ("interrupted", "by", "processor"),
    [
        ("emit_event", "signal", "batch"),
        ("emit_event", "signal", "simple"),
        ("record_metric", "signal", "batch"),
        ("logger", "signal", "batch"),
        ("counter", "signal", "batch"),
        ("tally", "signal", "batch"),
        ("emit_event", "collection", "batch"),
        ("emit_event", "collection", "simple"),
        ("record_metric", "collection", "batch"),
        ("logger", "collection", "simple"),
        ("counter", "collection", "batch"),
        ("logging", "log", "batch"),
        ("logging", "log", "simple"),
    ],
)
def test_an_interrupting_emission_ends_and_is_accounted_for(
    interrupted: str, by: str, processor: str, tmp_path: Path
) -> None:
    script = [sys.executable, str(ROOT / "tests/support/interrupted.py"), interrupted, by, processor]
    with guard_server() as server:
        settings = {
            **os.environ,
            **server.environment,
            "XDG_STATE_HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        done = subprocess.run(script, env=settings, check=True, timeout=BOUND, capture_output=True, text=True)
        counts = json.loads(done.stdout)
        events = Counter(event["reason"] for event in server.events)
        values: Counter[str] = Counter()
        for row in server.metrics:
            values[row["endpoint"]] += row["value"]
    dropped = {kind: sum(reasons.values()) for kind, reasons in counts["dropped"].items()}
    assert counts["emitted"]["events"] == events.total() + dropped.get("events", 0)
    assert counts["emitted"]["metrics"] == values.total() + dropped.get("metrics", 0)
    assert set(counts["dropped"].get("events", {})) <= {REENTRANT}
    assert events["inner"] + dropped.get("events", 0) == INTERRUPTIONS
    if by == "signal":
        assert not dropped
    if interrupted == "emit_event":
        assert events["outer"] == counts["turns"]


class _Interrupting(LogRecordProcessor):
    """Emits in the midst of an emission, as often as it is told."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.act = lambda number: None
        self.tenants: list[object] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.tenants.append(baggage.get_baggage("tenant"))
        for number in range(self.times):
            self.act(number)

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def test_inner_emissions_follow_the_outer_one_in_order_with_their_own_time_trace_and_baggage() -> None:
    kept = InMemoryLogRecordExporter()
    inner = _Interrupting(3)
    with pipeline() as pipe:
        pipe.logs.add_log_record_processor(inner)
        pipe.logs.add_log_record_processor(_exporting(kept))
        metadata = {"key": "as it was"}

        def act(number: int) -> None:
            inner.times = 0
            token = attach(baggage.set_baggage("tenant", number))
            with pipe.tracer.start_as_current_span("within") as span:
                spans.append(span.get_span_context().span_id)
                pipe.emitter.emit_event({"event_type": "ip_blocked", "reason": f"inner{number}"}, metadata=metadata)
            detach(token)

        spans: list[int] = []
        inner.act = act  # type: ignore[assignment]
        pipe.emitter.emit_event(event_type="ip_blocked", reason="outer")
        records = [data.log_record for data in kept.get_finished_logs()]
    assert [row_of(record)["reason"] for record in records] == ["outer", "inner0", "inner1", "inner2"]
    assert [record.span_id for record in records[1:]] == spans
    assert inner.tenants == [None, 0, 1, 2]
    assert not get_current_span().get_span_context().is_valid


def test_emissions_that_interrupt_each_others_export_are_all_made() -> None:
    chain = 10
    kept = InMemoryLogRecordExporter()
    with pipeline() as pipe:

        class Interrupted(InMemoryLogRecordExporter):
            def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
                if len(kept.get_finished_logs()) < chain:
                    pipe.emitter.emit_event(event_type="ip_blocked", reason="inner")
                return kept.export(batch)

        pipe.logs.add_log_record_processor(_exporting(Interrupted()))
        pipe.emitter.emit_event(event_type="ip_blocked", reason="outer")
    assert len(kept.get_finished_logs()) == chain + 1


def _exporting(exporter: InMemoryLogRecordExporter) -> LogRecordProcessor:
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

    return SimpleLogRecordProcessor(exporter)


def test_emissions_that_bring_others_forth_for_ever_come_to_an_end_and_are_counted() -> None:
    endless = _Interrupting(2)
    before = TALLY.read().dropped.get("events", {}).get(REENTRANT, 0)
    with pipeline() as pipe:
        pipe.logs.add_log_record_processor(endless)
        endless.act = lambda number: pipe.emitter.emit_event(event_type="ip_blocked")  # type: ignore[assignment]
        pipe.emitter.emit_event(event_type="ip_blocked")
    made = interruption.MAX_INNER + 1
    assert TALLY.read().dropped["events"][REENTRANT] - before == 2 * made - interruption.MAX_INNER


def test_an_emission_in_the_midst_of_the_applications_own_measurement_is_made_when_that_has_ended() -> None:
    from opentelemetry.sdk.metrics import AlignedHistogramBucketExemplarReservoir, MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import View

    def in_the_midst(_: object) -> Callable[..., object]:
        # The SDK asks for it when it makes the instrument, and for each series while it holds the instrument's lock.
        asked.append(True)
        emitter.record_metric(metric_type="response_time", value=2.0)
        return AlignedHistogramBucketExemplarReservoir

    asked: list[bool] = []
    reader = InMemoryMetricReader()
    meters = MeterProvider(
        [reader], views=[View(instrument_name="*", exemplar_reservoir_factory=in_the_midst)], shutdown_on_exit=False
    )  # type: ignore[arg-type]
    emitter = Emitter(meter_provider=meters)
    own = emitter._current_meters().histograms["response_time"]
    working = threading.Thread(target=own.record, args=(1.0,), daemon=True)
    working.start()
    working.join(BOUND)
    assert not working.is_alive(), "it waits for itself"
    interruption.settle()
    data = reader.get_metrics_data()
    assert data is not None
    assert len(asked) == 2
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert [point.sum for point in points] == [1.0 + 2.0 * len(asked)]  # type: ignore[union-attr]
    meters.shutdown()


def test_a_signal_that_ends_the_process_waits_for_telemetrys_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    again = threading.Event()
    monkeypatch.setattr(termination, "_again", lambda signum: again.set())
    monkeypatch.setattr(termination.process_end, "end", lambda: pytest.fail("a lock may be held"))
    sdk = os.path.join("/site", "opentelemetry", "sdk", "metrics.py")
    eval(compile("terminate(15, None)", sdk, "eval"), {"terminate": termination._terminate})
    assert again.wait(BOUND)


class Holding:
    """A source file of the SDK's, as far as its name tells, with a function that calls another."""

    def __init__(self) -> None:
        names: dict[str, Any] = {}
        exec(compile("def call(work): return work()", f"{os.sep}opentelemetry{os.sep}sdk{os.sep}x.py", "exec"), names)
        self.call: Callable[[Callable[[], object]], bool] = names["call"]


async def asked(times: int = 3) -> list[bool]:
    """Ask a few times whether this code has interrupted what may hold a lock, with something else in between."""
    answers = []
    for _ in range(times):
        answers.append(interruption.interrupts())
        await asyncio.sleep(0)  # the loop goes round
    return answers


def in_a_loop() -> list[bool]:
    return asyncio.run(asked())


def test_what_has_called_an_event_loop_is_seen_from_within_it_whichever_loop_it_is() -> None:
    holding = Holding()
    # One after the other: neither loop's answer is the next one's.
    assert in_a_loop() == [False] * 3
    assert holding.call(in_a_loop) == [True] * 3
    assert in_a_loop() == [False] * 3
    assert holding.call(in_a_loop) == [True] * 3


def test_what_is_called_within_an_event_loop_is_seen_each_time() -> None:
    holding = Holding()

    async def within() -> list[bool]:
        answers = []
        for _ in range(3):
            answers += [interruption.interrupts(), holding.call(interruption.interrupts)]
            await asyncio.sleep(0)  # the loop goes round
        return answers

    assert asyncio.run(within()) == [False, True] * 3


def test_a_loop_that_runs_within_another_is_seen_with_all_below_it() -> None:
    holding = Holding()

    async def outer() -> list[list[bool]]:
        await asked()
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(None)  # as what allows nested loops does
        try:
            return [in_a_loop(), holding.call(in_a_loop), in_a_loop(), await_nothing()]
        finally:
            asyncio._set_running_loop(running)

    def await_nothing() -> list[bool]:
        return [interruption.interrupts()]

    assert asyncio.run(outer()) == [[False] * 3, [True] * 3, [False] * 3, [False]]
