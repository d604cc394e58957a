"""Where the CPU of an event goes, from its emission until the backend has it: one process, a clock for each thread.

What is done for each event on the caller's thread is measured by leaving off the later steps; what is done for a batch,
on whichever thread, by a clock around each step that leaves out the steps within it.
"""

from __future__ import annotations

import functools
import gzip
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk._shared_internal import BatchProcessor
from opentelemetry.sdk.metrics import MeterProvider

from opentelemetry_guard import Emitter, GuardLogExporter, GuardLogProcessor
from opentelemetry_guard.delivery import delivery, dispatch, encoder, http, sender, source, stores, transport
from opentelemetry_guard.events import codec, enrichment
from opentelemetry_guard.exporters import log
from opentelemetry_guard.privacy import Privacy

from .accepting import accepting
from .emission import Dropping
from .peer.pipelines import KEY, fields

EVENTS, ROUNDS, WARM = 500, 25, 5

_STEPS: tuple[tuple[str, Any, str], ...] = (
    ("batch processor of the SDK", BatchProcessor, "_export"),
    ("exporter: rows of records", log, "rows_of_records"),
    ("exporter: the rest", log.GuardLogExporter, "export"),
    ("delivery: events seen before", delivery.Delivery, "_unseen"),
    ("delivery: rows to bodies", encoder.Encoder, "encode"),
    ("gzip", gzip, "compress"),
    ("queue: written ahead", stores.Stores, "append"),
    ("queue: leased", source.Source, "lease"),
    ("queue: acknowledged", source.Source, "acknowledge"),
    ("sender: a turn", sender.Sender, "_turn"),
    ("sender: what is to be sent", dispatch.Dispatch, "_requests"),
    ("sender: what the answer means", dispatch.Dispatch, "_settle"),
    ("sender: hand-over between threads", http.HTTP, "request"),
    ("HTTP: request and answer", http.HTTP, "_answer"),
    ("HTTP: what the answer says", transport.HTTPTransport, "_judged"),
    ("flush: the delivery's state", delivery.Delivery, "stats"),
)


class _Taking(LogRecordProcessor):
    """Takes records, and does nothing with them."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        """Do nothing."""


class _Clock:
    """CPU of steps by name, each without the steps within it; a stack for each thread."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._local = threading.local()

    def around(self, title: str, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def timed(*args: Any, **kwargs: Any) -> Any:
            within: list[float] = self._local.__dict__.setdefault("within", [])
            within.append(0.0)
            began = time.thread_time()
            try:
                return step(*args, **kwargs)
            finally:
                taken = time.thread_time() - began
                self.seconds[title] += taken - within.pop()
                if within:
                    within[-1] += taken

        return timed


def _caller() -> dict[str, float]:
    """Return microseconds of the calling thread for an event, by step."""
    dropped = LoggerProvider(shutdown_on_exit=False)
    dropped.add_log_record_processor(BatchLogRecordProcessor(Dropping(), max_queue_size=EVENTS * (ROUNDS + 1)))
    meters = MeterProvider(shutdown_on_exit=False)
    untaken = LoggerProvider(shutdown_on_exit=False)
    untaken.add_log_record_processor(_Taking())
    emitter, unheard = Emitter(dropped, None, meters), Emitter(untaken, None, meters)
    logger, clean = dropped.get_logger("benchmark"), Privacy()

    def whole(given: dict[str, Any]) -> tuple[dict[str, object], int | None]:
        found = codec.whole(None, given)
        assert found is not None
        return found

    def row(given: dict[str, Any]) -> codec.Row:
        made = codec.as_row(*whole(given))[0]
        enrichment.enrich(made)
        return made

    def judged(given: dict[str, Any]) -> None:
        clean.judge(whole(given)[0], dated=True)

    steps: dict[str, Callable[[dict[str, Any]], object]] = {
        "all fields, a key and a time": whole,
        "whether anything may be a secret": judged,
        "the row": row,
        "the row as JSON": lambda given: codec.encoded(row(given), is_whole=True),
        "a call, without a batch processor": lambda given: unheard.emit_event(**given),
        "a call": lambda given: emitter.emit_event(**given),
        "the SDK's bare log record": lambda given: logger.emit(body="a record"),
    }
    taken: dict[str, list[float]] = {title: [] for title in steps}
    for _ in range(ROUNDS):
        for title, step in steps.items():
            given = [fields(number) for number in range(EVENTS)]
            began = time.thread_time()
            for each in given:
                step(each)
            taken[title].append((time.thread_time() - began) / EVENTS * 1e6)
    dropped.shutdown()
    return {title: statistics.median(each) for title, each in taken.items()}


def _background(url: str, store: str) -> tuple[float, float, dict[str, float]]:
    """Return microseconds for an event: of the calls, of the whole process, and of what follows a call by step."""
    clock = _Clock()
    for title, owner, name in _STEPS:
        setattr(owner, name, clock.around(title, getattr(owner, name)))
    exporter = GuardLogExporter(endpoint=url, api_key=KEY, project_id="bench", queue_url=store)
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(GuardLogProcessor(exporter, max_queue_size=8_192))
    emitter = Emitter(logs, None, MeterProvider(shutdown_on_exit=False))
    calls = whole = 0.0
    for number in range(WARM + ROUNDS):
        given = [fields(number) for number in range(EVENTS)]
        if number == WARM:
            clock.seconds.clear()
            calls = whole = 0.0
        began, own = time.process_time(), time.thread_time()
        for each in given:
            emitter.emit_event(**each)
        calls += time.thread_time() - own
        logs.force_flush()
        exporter.force_flush()
        whole += time.process_time() - began
    logs.shutdown()
    scale = 1e6 / EVENTS / ROUNDS
    return calls * scale, whole * scale, {title: seconds * scale for title, seconds in clock.seconds.items()}


def main() -> None:
    """Print the shares; an argument names the store."""
    store = sys.argv[1] if len(sys.argv) > 1 and "://" in sys.argv[1] else "memory://"
    print(f"CPU of an event on the caller's thread, {EVENTS} events a round")
    for title, microseconds in _caller().items():
        print(f"  {title:<44}{microseconds:>8.2f} us")
    with accepting() as backend:
        calls, whole, steps = _background(backend.url, store)
    print(f"CPU of the process from emission to accepted, {store.partition('://')[0]}, {EVENTS} events a flush")
    print(f"  {'the call':<44}{calls:>8.2f} us")
    for title, microseconds in sorted(steps.items(), key=lambda step: -step[1]):
        print(f"  {title:<44}{microseconds:>8.2f} us")
    print(f"  {'not told apart':<44}{whole - calls - sum(steps.values()):>8.2f} us")
    print(f"  {'all of it':<44}{whole:>8.2f} us")


if __name__ == "__main__":
    main()
