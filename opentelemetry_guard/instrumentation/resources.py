"""What the process uses: CPU, memory, threads, open files, garbage collection, and how late the event loop runs.

Switched on by ``OTEL_PYTHON_GUARD_RESOURCE_METRICS=true`` (keyword
`resource_metrics`), and off by nothing else than that being absent: the extra
brings psutil alone, and no instrumentation that ``opentelemetry-instrument``
would load by itself. One that is installed for the machine's metrics
(opentelemetry-instrumentation-system-metrics) stays as it is, and where it
measures this process too, the readings are left to it.

The Guard backend has no metric type for these: the metrics go to the other
exporters of the process, and the status report tells CPU, memory and lag
(`process.usage`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import weakref
from collections import deque

from opentelemetry.metrics import Histogram, MeterProvider, get_meter

from .. import semconv
from ..process import usage
from ..settings.instrumentation import GuardOptions
from ..settings.once import log_once
from ..version import __version__
from .readings import CpuShare, observe, this_process

_logger = logging.getLogger(__name__)

LAG_INTERVAL = 1.0
"""Seconds between two measurements of one event loop."""

_LAG_BOUNDARIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_RECENT = 60
"""Measurements of the loops' lag of which the status report tells the largest."""


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
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to measure the running loop, from within it; a loop that is measured already is left alone."""
        if loop not in self._loops:
            self._loops.add(loop)
            self._arm(loop)

    @property
    def worst(self) -> float | None:
        """The largest of the latest measurements in seconds; None before the first."""
        return max(self._recent.copy(), default=None)

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
        lag = max(loop.time() - due, 0.0)
        self._histogram.record(lag)
        self._recent.append(lag)
        self._arm(loop)


class _Watched:
    """This process as it is measured; a forked child is another one."""

    def __init__(self) -> None:
        """Begin to measure.

        Raises:
            ImportError: psutil is not there.
        """
        self.pid = os.getpid()
        self.process = this_process()
        self.cpu = CpuShare(self.process)


_lag: LoopLag | None = None
_watched: _Watched | None = None


def install(options: GuardOptions, meter_provider: MeterProvider | None = None) -> None:
    """Measure what the process uses, where the options say so; a second call changes nothing.

    Args:
        options: of which `resource_metrics` counts.
        meter_provider: makes the instruments; the global one by default.
    """
    global _lag, _watched
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
    try:
        _watched = _Watched()
    except ImportError as error:
        log_once(
            _logger,
            logging.ERROR,
            f"resource metrics are on, but CPU, memory, threads and open files can't be read ({error}): "
            "pip install 'opentelemetry-guard[resources]'",
        )
    else:
        observe(meter, lambda: _now_watched().process, lambda: _watched is not None)
    usage.measured_by(_usage)


def uninstall() -> None:
    """Undo `install`."""
    global _lag, _watched
    if _lag is not None:
        _lag.stop()
        usage.measured_by(None)
    _lag = _watched = None


def _now_watched() -> _Watched:
    global _watched
    if _watched is None or _watched.pid != os.getpid():
        _watched = _Watched()
    return _watched


def _usage() -> dict[str, float]:
    """Return what the status report tells: shares of one core, bytes and seconds."""
    found: dict[str, float] = {}
    lag = _lag
    if _watched is not None:
        watched = _now_watched()
        found["cpu"] = round(watched.cpu.read(), 4)
        found["memory"] = float(watched.process.memory_info().rss)
    if lag is not None and (worst := lag.worst) is not None:
        found["loop_lag"] = round(worst, 4)
    return found


def watch_loop() -> None:
    """Measure the lag of the running event loop from now on; without effect, and cheap, where it is measured already.

    To be called from within the loop. Nothing happens where resource metrics are off.
    """
    if _lag is not None:
        _lag.watch(asyncio.get_running_loop())
