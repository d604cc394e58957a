"""What a benign request costs: a FastAPI application in process, bare, observed, and guarded.

The requests go through the ASGI interface, so no server and no network is measured. CPU is that of the whole process
and a round ends with a flush: what background threads do for a request belongs to it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from time import process_time
from typing import Any

from fastapi import FastAPI

from ..browser import HEADERS
from .backend import Backend
from .pipelines import KEY, Peer
from .running import Figure, Round, in_turn, values

REQUESTS = 2_000
"""Requests of a round: metrics are exported once a minute, which few requests would have to pay for."""
ROUTES = 30

_METRICS_READ_BY: Mapping[str, Sequence[str]] = {
    "untold": [],
    "metered": ["other"],
    "told": ["guard"],
    "shared": ["guard", "other"],
}
"""Of the variants that differ in who reads what OpenTelemetry measures: who does."""

Flush = Callable[[], Any]


class Application:
    """A small application with some routes, and a client that asks one of them."""

    def __init__(self) -> None:
        self.app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
        for number in range(ROUTES):
            self.app.get(f"/things{number}/{{number}}")(self._item)
        self.app.get("/items/{number}")(self._item)
        self._clients = itertools.cycle(f"203.0.{number >> 8}.{number & 255}" for number in range(500))

    @staticmethod
    async def _item(number: int) -> dict[str, int]:
        return {"item": number}

    async def request(self, path: str = "/items/7") -> None:
        """Ask once."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": HEADERS,
            "client": (next(self._clients), 50_000),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
        }
        await self.app(scope, _receive, _send)


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """Drop the answer."""


async def _nothing() -> None:
    """Flush nothing."""


def _observed(url: str, *, exporters: bool, read_by: Sequence[str], spans: bool = True, **options: object) -> Flush:
    """Set OpenTelemetry up, with the Guard exporters and instrumentor or with exporters that drop everything.

    Metrics are read by ``guard``, our exporter, and by ``other``, one that drops everything.
    """
    from opentelemetry import trace
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.metrics import NoOpMeterProvider, set_meter_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
    from opentelemetry_guard.instrumentation import GuardInstrumentor

    from .dropping import DroppingMetrics, DroppingSpans

    settings = {"endpoint": url, "api_key": KEY, "project_id": "bench", "queue_url": "memory://"}
    tracers = TracerProvider(shutdown_on_exit=False)
    if spans:
        tracers.add_span_processor(BatchSpanProcessor(DroppingSpans(), max_queue_size=8_192))
    logs = LoggerProvider(shutdown_on_exit=False)
    meters = None
    if read_by:
        read = [GuardMetricExporter(**settings) if each == "guard" else DroppingMetrics() for each in read_by]
        meters = MeterProvider([PeriodicExportingMetricReader(each) for each in read], shutdown_on_exit=False)
    if exporters:
        if spans:
            tracers.add_span_processor(BatchSpanProcessor(GuardSpanExporter(**settings), max_queue_size=8_192))
        logs.add_log_record_processor(BatchLogRecordProcessor(GuardLogExporter(**settings)))
    trace.set_tracer_provider(tracers)
    set_logger_provider(logs)
    set_meter_provider(meters or NoOpMeterProvider())
    if exporters:
        GuardInstrumentor().instrument(**options)

    def flush() -> None:
        tracers.force_flush()
        logs.force_flush()
        if meters is not None:
            meters.force_flush()

    return flush


def _instrumented(app: FastAPI) -> None:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(app)


async def served(kind: str, url: str, requests: int = REQUESTS) -> AsyncIterator[Round]:
    """Measure the CPU of one request.

    Args:
        kind: ``bare``; ``otel``, OpenTelemetry's FastAPI instrumentation with exporters that drop everything; ``ours``,
            with this package on top; ``untold``, ``metered``, ``told`` and ``shared``, with this package, without
            exporters of spans and without events, where metrics are read by nobody, by an exporter that drops them, by
            `GuardMetricExporter`, and by both; ``guard``, fastapi-guard alone; ``peer``, with guard-agent.
        url: the backend's.
        requests: of a round.
    """
    logging.getLogger("guard_core").setLevel(logging.ERROR)
    logging.getLogger("fastapi_guard").setLevel(logging.ERROR)
    flush: Flush = _nothing
    if kind == "otel":
        flush = _threaded(_observed(url, exporters=False, read_by=["other"]))
    elif kind == "ours":
        flush = _threaded(_observed(url, exporters=True, read_by=["guard"]))
    elif kind in _METRICS_READ_BY:
        read_by = _METRICS_READ_BY[kind]
        flush = _threaded(
            _observed(url, exporters=True, read_by=read_by, spans=False, http_events=False, behavior=False)
        )
    application = Application()
    if kind in ("guard", "peer"):
        flush = _guarded(application.app, url, agent=kind == "peer")
    elif kind != "bare":
        _instrumented(application.app)
    await application.request()
    while True:
        began = process_time()
        for _ in range(requests):
            await application.request()
        await flush()
        yield {"cpu": (process_time() - began) / requests}


def _threaded(flush: Flush) -> Flush:
    async def flushing() -> None:
        await asyncio.to_thread(flush)

    return flushing


def _guarded(app: FastAPI, url: str, *, agent: bool) -> Flush:
    from guard import SecurityConfig, SecurityMiddleware

    config = SecurityConfig(
        enable_redis=False,
        enable_penetration_detection=False,  # it takes milliseconds, in which the agent's share would be lost
        rate_limit=10**9,
        enable_agent=agent,
        agent_api_key=KEY,
        agent_endpoint=url,
        agent_project_id="bench",
        agent_buffer_size=8_192,
    )
    app.add_middleware(SecurityMiddleware, config=config)

    async def flush() -> None:
        if agent:
            from guard_agent.client import GuardAgentHandler

            await GuardAgentHandler._instance.flush_buffer()

    return flush


async def metrics(url: str, requests: int = REQUESTS) -> AsyncIterator[Round]:
    """Measure the CPU of what guard-agent is told of a request: guard-core's two metrics, until they are accepted."""
    from guard_agent.models import SecurityMetric

    peer = Peer(url)
    await peer.start()
    while True:
        began = process_time()
        for number in range(requests):
            route = f"/items/{number % 30}"
            for kind, value, tags in (
                ("response_time", 0.0123, {"endpoint": route, "method": "GET", "status": "200"}),
                ("request_count", 1.0, {"endpoint": route, "method": "GET"}),
            ):
                await peer.agent.send_metric(
                    SecurityMetric(timestamp=datetime.now(timezone.utc), metric_type=kind, value=value, tags=tags)
                )
        await peer.agent.flush_buffer()
        yield {"cpu": (process_time() - began) / requests}


def measure(backend: Backend, rounds: int) -> tuple[list[Figure], list[Figure]]:
    """Return the figures of a benign request, and those of request metrics."""
    kinds = ("bare", "otel", "ours", "guard", "peer")
    taken = in_turn(
        {kind: ("requests:served", {"kind": kind, "url": backend.url}) for kind in kinds},
        rounds,
        warm=2,
        backend=backend,
    )
    whole = Figure("a benign request", "µs", values(taken, "cpu", 1e6))
    added = Figure("added", "µs", {}, against="bare", aim="≤ 0.2")
    for kind, without in (("ours", "otel"), ("peer", "guard")):
        added.values[kind] = _less(whole.values[kind], whole.values[without])
    added.values["bare"] = whole.values["bare"]
    with suppress(KeyError):
        added.values["otel"] = _less(whole.values["otel"], whole.values["bare"])
    told = in_turn(
        {
            "peer": ("requests:metrics", {"url": backend.url}),
            "untold": ("requests:served", {"kind": "untold", "url": backend.url}),
            "metered": ("requests:served", {"kind": "metered", "url": backend.url}),
            "told": ("requests:served", {"kind": "told", "url": backend.url}),
            "shared": ("requests:served", {"kind": "shared", "url": backend.url}),
        },
        rounds,
        warm=2,
        backend=backend,
    )
    cpu = values(told, "cpu", 1e6)
    request_metrics = Figure(
        "request metrics: CPU per request, until accepted",
        "µs",
        {"ours": _less(cpu["shared"], cpu["metered"]), "peer": cpu["peer"]},
        aim="≤ 0.15",
    )
    alone = Figure(
        "the same, where nobody else reads what OTel measures",
        "µs",
        {"ours": _less(cpu["told"], cpu["metered"]), "peer": cpu["peer"]},
    )
    measuring = Figure(
        "the same, with OTel's own measuring",
        "µs",
        {"ours": _less(cpu["told"], cpu["untold"]), "peer": cpu["peer"]},
    )
    wire = values(told, "wire_bytes", 1 / REQUESTS)
    sizes = Figure(
        f"request metrics: bytes on the wire per request, a flush every {REQUESTS:,} requests",
        "B",
        {"ours": wire["told"], "peer": wire["peer"]},
    )
    return [whole, added], [request_metrics, alone, measuring, sizes]


def _less(whole: Sequence[float], part: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(whole, part, strict=True)]
