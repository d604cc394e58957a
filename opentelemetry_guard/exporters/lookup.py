"""Which processors, readers and exporters a provider has.

The SDK tells nobody, so they are looked for in its attributes. Processors of
other makers that wrap one of the SDK's, or an exporter, are looked into as
well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeVar

from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk._shared_internal import BatchProcessor
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

T = TypeVar("T")

_PARTS = (
    LogRecordProcessor,
    LogRecordExporter,
    SpanProcessor,
    SpanExporter,
    MetricReader,
    MetricExporter,
    BatchProcessor,
)


def find(provider: object, kind: type[T]) -> T | None:
    """Return the first processor, reader or exporter of a `kind` in a provider's pipeline; None where there is none."""
    seen: set[int] = set()
    parts = chain(_parts(provider, seen), *([reader, *_parts(reader, seen)] for reader in _readers(provider)))
    return next((part for part in parts if isinstance(part, kind)), None)


def ways_to(provider: object, exporter: type[object]) -> list[Any]:
    """Return the log processors, or metric readers, of a provider that lead to an exporter of a kind.

    The others may wait long for a collector that is away, which is none of our business.
    """
    multi = getattr(provider, "_multi_log_record_processor", None)
    ways = (*getattr(multi, "_log_record_processors", ()), *_readers(provider))
    return [way for way in ways if find(way, exporter) is not None]


def _readers(provider: object) -> list[Any]:
    """Return a meter provider's readers, those that were added later too, which only its measurements know."""
    consumer = getattr(provider, "_measurement_consumer", None)
    return list(getattr(consumer, "_reader_storages", ()))


def _parts(owner: object, seen: set[int]) -> Iterator[object]:
    for value in getattr(owner, "__dict__", {}).values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, _PARTS) and id(part) not in seen:
                seen.add(id(part))
                yield part
                yield from _parts(part, seen)
