"""What the process uses: CPU, memory, threads, open files, garbage collection, and how late the event loop runs.

Switched on by ``OTEL_PYTHON_GUARD_RESOURCE_METRICS=true`` (keyword
`resource_metrics`). The readings of the process come from
opentelemetry-instrumentation-system-metrics, restricted to its ``process.*``
and ``cpython.*`` metrics: those of the whole machine are a host agent's
business. Its ``OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS`` applies. The lag
of the event loop is measured here, since no instrumentation does.

The Guard backend has no metric type for these, so they go to the other metric
exporters of the process only.
"""

from __future__ import annotations

import asyncio
import contextvars
import fnmatch
import logging
import os
import weakref
from typing import Protocol

from opentelemetry.metrics import Histogram, MeterProvider, get_meter

from .. import semconv
from ..settings.instrumentation import GuardOptions
from ..settings.once import log_once
from ..version import __version__

_logger = logging.getLogger(__name__)

LAG_INTERVAL = 1.0
"""Seconds between two measurements of one event loop."""

_LAG_BOUNDARIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_READINGS: dict[str, list[str] | None] = {
    "process.cpu.time": ["user", "system"],
    "process.cpu.utilization": None,
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.thread.count": None,
    "process.open_file_descriptor.count": None,
    "process.context_switches": ["involuntary", "voluntary"],
    "process.disk.io": ["read", "write"],
    "cpython.gc.collections": None,
    "cpython.gc.collected_objects": None,
    "cpython.gc.uncollectable_objects": None,
}
"""What the system-metrics instrumentation reads, as its own configuration names it."""

_EXCLUDED = "OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS"


class _Instrumentor(Protocol):
    def instrument(self, *, meter_provider: MeterProvider | None) -> object: ...

    def uninstrument(self) -> object: ...


class LoopLag:
    """Measures how late event loops run: a timer in each loop that was seen, which notes by how much it was late.

    A loop is known by a weak reference only, and its timer goes when the loop is closed. The timers of different
    loops run in different threads and share nothing but the histogram and the set of the loops.
    """

    def __init__(self, histogram: Histogram, interval: float = LAG_INTERVAL) -> None:
        """Build a measurement that records seconds in `histogram` every `interval` seconds."""
        self._histogram = histogram
        self._interval = interval
        self._stopped = False
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to measure the running loop, from within it; a loop that is measured already is left alone."""
        if loop not in self._loops:
            self._loops.add(loop)
            self._arm(loop)

    def stop(self) -> None:
        """Measure nothing more; timers that wait already end without a measurement. Any thread may call it."""
        self._stopped = True

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._interval
        # A context of its own: the timer must keep no request's context alive, and measure in no request's trace.
        loop.call_at(due, self._measure, weakref.ref(loop), due, context=contextvars.Context())

    def _measure(self, loop_reference: weakref.ref[asyncio.AbstractEventLoop], due: float) -> None:
        loop = loop_reference()
        if loop is None or self._stopped:
            return
        self._histogram.record(max(loop.time() - due, 0.0))
        self._arm(loop)


_lag: LoopLag | None = None
_instrumentor: _Instrumentor | None = None


def install(options: GuardOptions, meter_provider: MeterProvider | None = None) -> None:
    """Measure what the process uses, where the options say so; a second call changes nothing.

    Args:
        options: of which `resource_metrics` counts.
        meter_provider: makes the instruments; the global one by default.
    """
    global _lag, _instrumentor
    if not options.resource_metrics or _lag is not None:
        return
    meter = get_meter(semconv.SCOPE_NAME, __version__, meter_provider)
    _lag = LoopLag(
        meter.create_histogram(
            semconv.ASYNCIO_EVENTLOOP_LAG,
            unit="s",
            description="How late a timer of the event loop ran.",
            explicit_bucket_boundaries_advisory=_LAG_BOUNDARIES,
        )
    )
    _instrumentor = _read_process(meter_provider)


def uninstall() -> None:
    """Undo `install`.

    Event loops are measured no more. OpenTelemetry can't take an observable instrument back, so the readings of the
    process go on until its meter provider is shut down.
    """
    global _lag, _instrumentor
    if _lag is not None:
        _lag.stop()
    if _instrumentor is not None:
        _instrumentor.uninstrument()
    _lag = _instrumentor = None


def watch_loop() -> None:
    """Measure the lag of the running event loop from now on; without effect, and cheap, where it is measured already.

    To be called from within the loop. Nothing happens where resource metrics are off.
    """
    if _lag is not None:
        _lag.watch(asyncio.get_running_loop())


def _read_process(meter_provider: MeterProvider | None) -> _Instrumentor | None:
    """Start the system-metrics instrumentation with our readings, and return it where it wasn't running already."""
    try:
        from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
    except ImportError as error:
        log_once(
            _logger,
            logging.ERROR,
            f"resource metrics are on, but CPU, memory, threads and open files can't be read ({error}): "
            "pip install 'opentelemetry-guard[resources]'",
        )
        return None
    # There is one instrumentor in a process, and constructing it gives a running one another configuration.
    running = SystemMetricsInstrumentor._instance
    if running is not None and running.is_instrumented_by_opentelemetry:
        return None
    instrumentor: _Instrumentor = SystemMetricsInstrumentor(config=_wanted(os.environ.get(_EXCLUDED, "")))
    instrumentor.instrument(meter_provider=meter_provider)
    return instrumentor


def _wanted(excluded: str) -> dict[str, list[str] | None]:
    patterns = [pattern.strip() for pattern in excluded.split(",") if pattern.strip()]
    return {
        name: states
        for name, states in _READINGS.items()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }
