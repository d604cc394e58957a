"""What a request's metrics cost: one application several times in one process, with and without them, in turn.

Two processes of the same code differ by more than what is measured here. So whoever ships metrics is measured within
one: a few dozen requests to the application without them, as many to the one with them, and so on. guard-agent is told
of each request when it has been answered, as guard-core's middleware does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from time import process_time
from typing import Any

from .backend import Backend
from .pipelines import KEY, Peer
from .requests import REQUESTS, Application, Flush, less, nothing
from .running import Figure, Round, in_turn, values

BLOCK = 50
"""Requests to one application before it is another's turn."""
_READERS: Mapping[str, Sequence[str]] = {
    "untold": [],
    "metered": ["other"],
    "told": ["guard"],
    "shared": ["guard", "other"],
}
"""Of each of our applications: who reads what OpenTelemetry measures."""


def _stay() -> None:
    """Change nothing."""


@dataclass
class _Variant:
    """An application, with what comes before its requests and after all of them."""

    application: Application
    flush: Flush = nothing
    enter: Callable[[], None] = _stay


async def _measured(variants: Mapping[str, _Variant], requests: int) -> Round:
    """Return the CPU of a request to each, in seconds, flush included."""
    spent = dict.fromkeys(variants, 0.0)
    order = list(variants.items())
    for _ in range(requests // BLOCK):
        random.shuffle(order)  # who comes after whom is felt
        for name, variant in order:
            variant.enter()
            began = process_time()
            for _ in range(BLOCK):
                await variant.application.request()
            spent[name] += process_time() - began
    for name, variant in order:
        began = process_time()
        await variant.flush()
        spent[name] += process_time() - began
    return {name: each / requests for name, each in spent.items()}


def _metered(exporters: Sequence[Any]) -> _Variant:
    """Return an application with OpenTelemetry's instrumentation, whose metrics some exporters read."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    application = Application()
    if not exporters:
        FastAPIInstrumentor.instrument_app(application.app, meter_provider=NoOpMeterProvider())
        return _Variant(application)
    meters = MeterProvider([PeriodicExportingMetricReader(each) for each in exporters], shutdown_on_exit=False)
    FastAPIInstrumentor.instrument_app(application.app, meter_provider=meters)

    async def flush() -> None:
        await asyncio.to_thread(meters.force_flush)

    return _Variant(application, flush)


def _trace() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))


async def ours(url: str, requests: int = REQUESTS) -> AsyncIterator[Round]:
    """Measure the CPU of one request whose metrics are read by nobody, by others, by us, and by both.

    This package's instrumentor is there for all of them.

    Args:
        url: the backend's.
        requests: to each application in a round.
    """
    from opentelemetry_guard import GuardMetricExporter
    from opentelemetry_guard.events import http_metrics
    from opentelemetry_guard.instrumentation import GuardInstrumentor

    from .dropping import DroppingMetrics

    _trace()
    GuardInstrumentor().instrument(http_events=False, behavior=False)
    variants = {}
    for name, readers in _READERS.items():
        http_metrics._listening = ()
        exporters = [
            GuardMetricExporter(endpoint=url, api_key=KEY, project_id="bench", queue_url="memory://")
            if reader == "guard"
            else DroppingMetrics()
            for reader in readers
        ]
        variants[name] = _metered(exporters)
        variants[name].enter = _heard_by(http_metrics, http_metrics._listening)
    while True:
        yield await _measured(variants, requests)


def _heard_by(http_metrics: Any, listening: object) -> Callable[[], None]:
    """Return what makes a process's only exporters of those of one of its applications."""

    def enter() -> None:
        http_metrics._listening = listening

    return enter


async def peer(url: str, requests: int = REQUESTS) -> AsyncIterator[Round]:
    """Measure the CPU of one request whose metrics others read, and of one of which guard-agent is told too."""
    from guard_agent.models import SecurityMetric

    from .dropping import DroppingMetrics

    _trace()
    pipeline = Peer(url)
    await pipeline.start()
    told = _metered([DroppingMetrics()])
    app = told.application.app

    async def telling(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        for kind, value, tags in (
            ("response_time", 0.0123, {"endpoint": "/items/{number}", "method": "GET", "status": "200"}),
            ("request_count", 1.0, {"endpoint": "/items/{number}", "method": "GET"}),
        ):
            await pipeline.agent.send_metric(
                SecurityMetric(timestamp=datetime.now(timezone.utc), metric_type=kind, value=value, tags=tags)
            )

    async def flush() -> None:
        await flush_others()
        await pipeline.agent.flush_buffer()

    told.application.asked, flush_others, told.flush = telling, told.flush, flush
    variants = {"metered": _metered([DroppingMetrics()]), "told": told}
    while True:
        yield await _measured(variants, requests)


def measure(backend: Backend, rounds: int) -> list[Figure]:
    """Return the figures of request metrics."""
    taken = in_turn(
        {name: (f"request_metrics:{name}", {"url": backend.url}) for name in ("ours", "peer")},
        rounds,
        backend=backend,
        starts=rounds,
    )
    cpu = {name: values(taken, name, 1e6) for name in (*_READERS,)}
    theirs = less(cpu["told"]["peer"], cpu["metered"]["peer"])

    def added(whole: str, part: str) -> dict[str, Sequence[float]]:
        return {"ours": less(cpu[whole]["ours"], cpu[part]["ours"]), "peer": theirs}

    wire = values(taken, "wire_bytes", 1 / REQUESTS)
    shipped = sum("guard" in readers for readers in _READERS.values())
    return [
        Figure("request metrics: CPU per request, until accepted", "µs", added("shared", "metered"), aim="≤ 0.15"),
        Figure("the same, where nobody else reads what OTel measures", "µs", added("told", "metered")),
        Figure("the same, with OTel's own measuring", "µs", added("told", "untold")),
        Figure(
            f"request metrics: bytes on the wire per request, a flush every {REQUESTS:,} requests",
            "B",
            {"ours": [each / shipped for each in wire["ours"]], "peer": wire["peer"]},
        ),
    ]
