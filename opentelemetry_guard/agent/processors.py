"""The processors that the agent adds to a pipeline: the SDK's batch processors, which can begin again after an end.

A provider gives no processor back. Ours stays in the application's provider
when the agent stops, and works again when the agent starts again.

How much they hold, and when they hand it on, is as the environment says, else
as `AgentConfig` does. The SDK reads its variables itself, but a wrong one
would raise into the application that starts the agent.
"""

from __future__ import annotations

import logging
import math
import os
from typing import Generic, Literal, TypedDict, TypeVar

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from .. import semconv
from ..events.bearing import bears_nothing
from ..exporters import GuardLogExporter, GuardLogProcessor, GuardSpanExporter
from ..settings.agent import AgentConfig
from ..settings.once import log_once

_logger = logging.getLogger(__name__)

B = TypeVar("B", BatchLogRecordProcessor, BatchSpanProcessor)

QUEUE_SIZE = 2048
"""The SDK's default of how many records a batch processor holds."""


class Bounds(TypedDict):
    """Arguments of a batch processor: milliseconds until a batch goes out that is not full, and numbers of records."""

    schedule_delay_millis: float
    max_export_batch_size: int
    max_queue_size: int


def bounds_of(processor: Literal["BLRP", "BSP"], config: AgentConfig) -> Bounds:
    """Return the bounds of a log or span processor; ``OTEL_<processor>_*`` wins over `config`."""
    capacity = int(_positive(f"OTEL_{processor}_MAX_QUEUE_SIZE") or max(QUEUE_SIZE, 2 * config.buffer_size))
    batch_size = int(_positive(f"OTEL_{processor}_MAX_EXPORT_BATCH_SIZE") or config.buffer_size)
    return {
        "schedule_delay_millis": _positive(f"OTEL_{processor}_SCHEDULE_DELAY") or config.flush_interval * 1000,
        "max_export_batch_size": min(batch_size, capacity),
        "max_queue_size": capacity,
    }


def export_interval(config: AgentConfig) -> float:
    """Return the milliseconds between two exports of metrics; the environment wins over `config`."""
    return _positive(OTEL_METRIC_EXPORT_INTERVAL) or config.flush_interval * 1000


def _positive(variable: str) -> float | None:
    """Return the number that a variable holds, from 1 on; None where it holds none, which is said where it is wrong."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if 1 <= number < math.inf:
        return number
    log_once(
        _logger, logging.ERROR, f"{variable} is {text!r}, allowed is a number from 1; the agent goes by AgentConfig"
    )
    return None


class _Restartable(Generic[B]):
    """What both have in common: a batch processor of the SDK's while the agent runs, and none otherwise."""

    _batches: B | None = None

    @property
    def running(self) -> bool:
        """Whether it hands over batches."""
        return self._batches is not None

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write ahead what waits; it does not wait for the network."""
        batches = self._batches
        return batches is None or batches.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Deliver what can be delivered, and end; a second call does nothing."""
        batches, self._batches = self._batches, None
        if batches is not None:
            batches.shutdown()  # type: ignore[no-untyped-call]


class EventProcessor(_Restartable[BatchLogRecordProcessor], LogRecordProcessor):
    """Hands security events, and nothing else, to a `GuardLogExporter` in batches.

    Other log records of the application take no place in its buffer. After
    its end an event goes into the delivery's queue at once, for whoever sends
    from there next.
    """

    def __init__(self) -> None:
        self._at_once: SimpleLogRecordProcessor | None = None
        self._capacity = QUEUE_SIZE

    def begin(self, config: AgentConfig) -> None:
        """Begin to take events; `OTEL_BLRP_*` wins over `config`."""
        bounds = bounds_of("BLRP", config)
        self._capacity = bounds["max_queue_size"]
        exporter = GuardLogExporter()
        self._at_once = SimpleLogRecordProcessor(exporter)
        self._batches = GuardLogProcessor(exporter, **bounds)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Take a security event; every other record is left alone."""
        if log_record.log_record.event_name != semconv.SECURITY_EVENT:
            return
        taker = self._batches or self._at_once
        if taker is not None:
            taker.on_emit(log_record)

    def enabled(self, *, event_name: str | None = None, **_: object) -> bool:
        """Whether a record of that name is taken: for our sake an application need not make any other."""
        return event_name == semconv.SECURITY_EVENT

    def full(self) -> bool:
        """Whether the next event costs the oldest one that waits to be written ahead."""
        return self.waiting >= self._capacity

    @property
    def waiting(self) -> int:
        """How many events wait to be written ahead."""
        batches = self._batches
        # The SDK has no public reading of how many records a batch processor holds.
        return 0 if batches is None else len(batches._batch_processor._queue)


class SpanEventProcessor(_Restartable[BatchSpanProcessor], SpanProcessor):
    """Hands finished spans that have events to a `GuardSpanExporter`, which finds the security events in them."""

    def begin(self, config: AgentConfig) -> None:
        """Begin to take spans; `OTEL_BSP_*` wins over `config`."""
        self._batches = BatchSpanProcessor(GuardSpanExporter(), **bounds_of("BSP", config))

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is of interest when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span."""
        batches = self._batches
        if batches is not None and not bears_nothing(span):
            batches.on_end(span)
