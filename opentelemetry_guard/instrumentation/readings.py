"""The readings of this process that psutil gives, as OpenTelemetry names them (semantic conventions, "Process" and
"CPython" metrics)."""

from __future__ import annotations

import fnmatch
import gc
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol, cast

from opentelemetry.metrics import CallbackOptions, Meter, Observation

_logger = logging.getLogger(__name__)

EXCLUDED = "OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS"
"""Names of metrics that are not wanted, with commas, as opentelemetry-instrumentation-system-metrics reads it."""
_OTHERS = "opentelemetry.instrumentation.system_metrics"


class _CpuTimes(Protocol):
    user: float
    system: float


class _Memory(Protocol):
    rss: int
    vms: int


class _Switches(Protocol):
    voluntary: int
    involuntary: int


class _Disk(Protocol):
    read_bytes: int
    write_bytes: int


class Process(Protocol):
    """What is used of psutil's `Process`."""

    def cpu_times(self) -> _CpuTimes:
        """Return seconds of CPU time."""

    def memory_info(self) -> _Memory:
        """Return bytes of memory."""

    def num_threads(self) -> int:
        """Return the number of threads."""

    def num_fds(self) -> int:
        """Return the number of open files."""

    def num_ctx_switches(self) -> _Switches:
        """Return the numbers of context switches."""

    def io_counters(self) -> _Disk:
        """Return bytes read and written; there is none on macOS."""


def this_process() -> Process:
    """Return psutil's view of the process that asks.

    Raises:
        ImportError: psutil is not there.
    """
    found: Process = importlib.import_module("psutil").Process()
    return found


Readings = Iterable[tuple[float, dict[str, str]]]


class CpuShare:
    """The share of one core that was used between two readings, which are at least `SECONDS` apart."""

    SECONDS = 1.0

    def __init__(self, process: Process) -> None:
        """Begin to measure."""
        self._process = process
        self._share = 0.0
        self._before = (time.monotonic(), self._seconds())

    def read(self) -> float:
        """Return the share since the reading before; 1.0 is a whole core."""
        now, used = time.monotonic(), self._seconds()
        then, before = self._before
        if now - then >= self.SECONDS:
            self._share = max(0.0, used - before) / (now - then)
            self._before = (now, used)
        return self._share

    def _seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


class _Reading(NamedTuple):
    kind: Literal["counter", "up_down", "gauge"]
    unit: str
    description: str
    read: Callable[[Process], Readings]


def _cpu_time(process: Process) -> Readings:
    times = process.cpu_times()
    return (times.user, {"cpu.mode": "user"}), (times.system, {"cpu.mode": "system"})


def _switches(process: Process) -> Readings:
    found, name = process.num_ctx_switches(), "process.context_switch.type"
    return (found.voluntary, {name: "voluntary"}), (found.involuntary, {name: "involuntary"})


def _disk(process: Process) -> Readings:
    found = process.io_counters()
    return (found.read_bytes, {"disk.io.direction": "read"}), (found.write_bytes, {"disk.io.direction": "write"})


def _collector(field: str) -> Callable[[Process], Readings]:
    def read(process: Process) -> Readings:
        for number, stats in enumerate(gc.get_stats()):
            yield stats[field], {"cpython.gc.generation": str(number)}

    return read


_READINGS: dict[str, _Reading] = {
    "process.cpu.time": _Reading("counter", "s", "CPU time", _cpu_time),
    "process.memory.usage": _Reading("up_down", "By", "Physical memory", lambda p: ((p.memory_info().rss, {}),)),
    "process.memory.virtual": _Reading("up_down", "By", "Virtual memory", lambda p: ((p.memory_info().vms, {}),)),
    "process.thread.count": _Reading("up_down", "{thread}", "Threads", lambda p: ((p.num_threads(), {}),)),
    "process.open_file_descriptor.count": _Reading(
        "up_down", "{file_descriptor}", "Open files", lambda p: ((p.num_fds(), {}),)
    ),
    "process.context_switches": _Reading("counter", "{context_switch}", "Context switches", _switches),
    "process.disk.io": _Reading("counter", "By", "Bytes read from and written to disks", _disk),
    "cpython.gc.collections": _Reading("counter", "{collection}", "Garbage collections", _collector("collections")),
    "cpython.gc.collected_objects": _Reading("counter", "{object}", "Objects collected", _collector("collected")),
    "cpython.gc.uncollectable_objects": _Reading(
        "counter", "{object}", "Objects that could not be collected", _collector("uncollectable")
    ),
}


def observe(meter: Meter, process: Callable[[], Process], is_on: Callable[[], bool]) -> None:
    """Make the instruments of all readings that are not excluded.

    OpenTelemetry can't take an observable instrument back, so each asks `is_on`. Where
    opentelemetry-instrumentation-system-metrics measures in this process too, it is left to that, and told once.

    Args:
        meter: makes the instruments.
        process: returns what is read, of the process that collects.
        is_on: whether anything is wanted now.
    """
    patterns = [pattern.strip() for pattern in os.environ.get(EXCLUDED, "").split(",") if pattern.strip()]
    share = _Reading("gauge", "1", "Share of one core", _share())
    for name, reading in {**_READINGS, "process.cpu.utilization": share}.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        make = {
            "counter": meter.create_observable_counter,
            "up_down": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }[reading.kind]
        make(name, [_callback(reading.read, process, is_on)], reading.unit, reading.description)


def _share() -> Callable[[Process], Readings]:
    shares: dict[Process, CpuShare] = {}

    def read(process: Process) -> Readings:
        if process not in shares:
            shares.clear()  # a forked child has another process
            shares[process] = CpuShare(process)
        return ((shares[process].read(), {}),)

    return read


def _callback(
    read: Callable[[Process], Readings], process: Callable[[], Process], is_on: Callable[[], bool]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def callback(options: CallbackOptions) -> Iterator[Observation]:
        if not is_on() or _others_measure():
            return
        try:
            readings = list(read(process()))
        except Exception as error:  # noqa: BLE001  what a system does not have or allow is not told; psutil raises its own
            _logger.debug("a reading of the process failed: %r", error)
            return
        for value, attributes in readings:
            yield Observation(value, attributes)

    return callback


def _others_measure() -> bool:
    """Whether the system-metrics instrumentation runs in this process; it is not imported for the question."""
    module = sys.modules.get(_OTHERS)
    running = None if module is None else getattr(module.SystemMetricsInstrumentor, "_instance", None)
    return running is not None and cast("bool", running.is_instrumented_by_opentelemetry)
