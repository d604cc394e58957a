"""What a benign request costs: a FastAPI application in process, bare, observed, and guarded.

The requests go through the ASGI interface, so no server and no network is measured. CPU is that of the whole process
and a round ends with a flush: what background threads do for a request belongs to it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from time import process_time
from typing import Any

from fastapi import FastAPI

from ..browser import HEADERS
from .backend import Backend
from .pipelines import KEY
from .running import Figure, Round, in_turn, values

REQUESTS = 2_000
"""Requests of a round: metrics are exported once a minute, which few requests would have to pay for."""
ROUTES = 30

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Flush = Callable[[], Awaitable[None]]


class Application:
    """A small application with some routes, and a client that asks one of them."""

    def __init__(self) -> None:
        self.app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
        for number in range(ROUTES):
            self.app.get(f"/things{number}/{{number}}")(self._item)
        self.app.get("/items/{number}")(self._item)
        self.asked: ASGIApp = self.app
        """Who is asked: the application, or who stands before it."""
        self._clients = itertools.cycle(f"203.0.{number >> 8}.{number & 255}" for number in range(500))

    @staticmethod
    async def _item(number: int) -> dict[str, int]:
        return {"item": number}

    async def request(self, path: str = "/items/7") -> None:
        """Ask once, with a scope as uvicorn makes it."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 80),
            "client": (next(self._clients), 50_000),
            "scheme": "http",
            "root_path": "",
            "headers": HEADERS,
            "state": {},
        }
        scope |= {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await self.asked(scope, _receive, _send)


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """Drop the answer."""


async def nothing() -> None:
    """Flush nothing."""


def _observed(url: str, *, guarded: bool) -> Flush:
    """Set OpenTelemetry up, whose exporters drop everything or, `guarded`, are ours too, with our instrumentor."""
    from opentelemetry import trace
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.metrics import set_meter_provider
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
    tracers.add_span_processor(BatchSpanProcessor(DroppingSpans(), max_queue_size=8_192))
    logs = LoggerProvider(shutdown_on_exit=False)
    reader = PeriodicExportingMetricReader(GuardMetricExporter(**settings) if guarded else DroppingMetrics())
    meters = MeterProvider([reader], shutdown_on_exit=False)
    if guarded:
        tracers.add_span_processor(BatchSpanProcessor(GuardSpanExporter(**settings), max_queue_size=8_192))
        logs.add_log_record_processor(BatchLogRecordProcessor(GuardLogExporter(**settings)))
    trace.set_tracer_provider(tracers)
    set_logger_provider(logs)
    set_meter_provider(meters)
    if guarded:
        GuardInstrumentor().instrument()

    async def flush() -> None:
        for provider in (tracers, logs, meters):
            await asyncio.to_thread(provider.force_flush)

    return flush


def _instrumented(app: FastAPI) -> None:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(app)


async def served(kind: str, url: str, requests: int = REQUESTS) -> AsyncIterator[Round]:
    """Measure the CPU of one request.

    Args:
        kind: ``bare``; ``otel``, OpenTelemetry's FastAPI instrumentation with exporters that drop everything; ``ours``,
            with this package on top; ``guard``, fastapi-guard alone; ``peer``, with guard-agent.
        url: the backend's.
        requests: of a round.
    """
    logging.getLogger("guard_core").setLevel(logging.ERROR)
    logging.getLogger("fastapi_guard").setLevel(logging.ERROR)
    flush: Flush = nothing
    if kind in ("otel", "ours"):
        flush = _observed(url, guarded=kind == "ours")
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


def measure(backend: Backend, rounds: int) -> list[Figure]:
    """Return the figures of a benign request."""
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
        added.values[kind] = less(whole.values[kind], whole.values[without])
    added.values["bare"] = whole.values["bare"]
    with suppress(KeyError):
        added.values["otel"] = less(whole.values["otel"], whole.values["bare"])
    return [whole, added]


def less(whole: Sequence[float], part: Sequence[float]) -> list[float]:
    """Return what each of some rounds took more than another's."""
    return [one - other for one, other in zip(whole, part, strict=True)]
