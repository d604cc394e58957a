"""A receiver in a process of its own, and exporters that are shut down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from support.otlp_receiver import Receiver, otlp_receiver

from opentelemetry_guard.durable import DurableLogExporter, DurableMetricExporter, DurableSpanExporter
from opentelemetry_guard.durable.connection import DurableExporter

Make = Callable[..., DurableSpanExporter]

_CLASSES = {"traces": DurableSpanExporter, "logs": DurableLogExporter, "metrics": DurableMetricExporter}


@pytest.fixture(scope="session")
def _receiver() -> Iterator[Receiver]:
    with otlp_receiver() as running:
        yield running


@pytest.fixture
def receiver(_receiver: Receiver) -> Receiver:
    """A receiver that has seen nothing and takes everything."""
    _receiver.forget()
    return _receiver


@pytest.fixture
def queue_url(tmp_path: Path) -> str:
    """The URL of an empty store."""
    return f"sqlite://{tmp_path}/queue/otlp.db"


@pytest.fixture
def make(receiver: Receiver, queue_url: str) -> Iterator[Callable[..., Any]]:
    """Return what makes an exporter to the receiver: that of a signal, `traces` by default."""
    made: list[DurableExporter] = []

    def exporter(signal: str = "traces", **settings: object) -> DurableExporter:
        found = {
            "endpoint": f"{receiver.url}/v1/{signal}",
            "queue_url": queue_url,
            "fleet_size": 1,
            "backoff_factor": 0.05,
            "breaker_recovery": 0.1,
            "breaker_max_recovery": 0.2,
            **settings,
        }
        made.append(_CLASSES[signal](**found))
        return made[-1]

    yield exporter
    receiver.set_mode("ok")
    for each in made:
        each.shutdown(2000)


def spans(numbers: range, **attributes: Any) -> list[ReadableSpan]:
    """Return ended spans that are told apart by their number."""
    tracer = TracerProvider(resource=Resource({"service.name": "tests"})).get_tracer("tests")
    found = []
    for number in numbers:
        span = tracer.start_span(f"span {number}", attributes={"n": number, **attributes})
        span.end()
        assert isinstance(span, ReadableSpan)
        found.append(span)
    return found


def records(numbers: range) -> list[ReadableLogRecord]:
    """Return log records that are told apart by their number."""
    scope = InstrumentationScope("tests")
    return [
        ReadableLogRecord(LogRecord(timestamp=1, body="text", attributes={"n": number}), Resource({}), scope)
        for number in numbers
    ]
