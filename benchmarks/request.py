"""What a benign request costs, and which part of this package takes how much of it: variants in turn, in one process.

Each variant is an application of its own with its own pipelines; what the instrumentation has changed in the process
is put in place for its turns and taken away after them. The requests go through the ASGI interface, so no server and no
network is measured. CPU is that of the thread, which also exports the turn's spans: the processors' own threads rest.
What is added is the median of pairs, of one turn and of that of the variant with which it is compared.

`python -m benchmarks.request --unseen` has a query and a path in each request that nobody has seen before.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from opentelemetry_guard import GuardMetricExporter, GuardSpanExporter
from opentelemetry_guard.events import http_metrics
from opentelemetry_guard.instrumentation import GuardInstrumentor
from opentelemetry_guard.instrumentation.http import measuring, patches  # noqa: F401  what is changed is seen from here on

from .browser import HEADERS
from .peer.dropping import DroppingMetrics, DroppingSpans

CALLS = 40
"""Requests of a turn: short ones, and many of them, so that on a shared machine some are left undisturbed."""
ROUNDS = 200
ROUTES = 30
NEVER = 3_600_000.0
"""Milliseconds after which a processor's thread exports, so that it is the turn that does."""

SETTINGS = {"endpoint": "http://127.0.0.1:9", "api_key": "key", "project_id": "bench", "queue_url": "memory://"}

ROOM = "opentelemetry_guard.instrumentation"


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """Drop the answer."""


async def item(number: int) -> dict[str, int]:
    """Answer a request."""
    return {"item": number}


class Client:
    """Asks an application, as 500 clients do in turn."""

    def __init__(self, *, unseen: bool, path: str = "/items/7") -> None:
        """Build one that asks for the same each time, or for something `unseen`."""
        self._unseen = unseen
        self._path = path
        self._clients = itertools.cycle(f"203.0.{number >> 8}.{number & 255}" for number in range(500))

    def scope(self) -> dict[str, Any]:
        """Return the next request."""
        path, query = self._path, b""
        if self._unseen:
            drawn = os.urandom(6)
            path = f"/items/{int.from_bytes(drawn[:4], 'big') % 10**7}"
            query = b"page=%d&sort=price&q=blue+shoes+%s" % (drawn[4], drawn[2:].hex().encode())
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": HEADERS,
            "client": (next(self._clients), 50_000),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
        }


class Wrapped:
    """The least that a layer around an application can be, which looks at each message of the answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Answer."""

        def noting(message: Any) -> Any:
            return send(message)

        return self._app(scope, receive, noting)


@dataclass
class Variant:
    """An application, what is flushed after a turn, and what the instrumentation has changed for it."""

    name: str
    app: Any
    flush: Callable[[], object] = lambda: None
    changed: dict[tuple[Any, str], object] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the process as this variant has it."""
        before = {(owner, name): getattr(owner, name) for owner, name in self.changed}
        for (owner, name), value in self.changed.items():
            setattr(owner, name, value)
        try:
            yield
        finally:
            for (owner, name), value in before.items():
                setattr(owner, name, value)


def _application(routes: int = ROUTES) -> FastAPI:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    for number in range(routes):
        app.get(f"/things{number}/{{number}}")(item)
    app.get("/items/{number}")(item)
    return app


def _state() -> dict[tuple[Any, str], object]:
    """Return what the instrumentation changes in this process: globals of its modules, and a class."""
    found: dict[tuple[Any, str], object] = {
        (OpenTelemetryMiddleware, "__call__"): OpenTelemetryMiddleware.__call__,
        (http_metrics, "_listening"): http_metrics._listening,
    }
    for module in [each for name, each in sys.modules.items() if name.startswith(ROOM)]:
        found.update({(module, name): value for name, value in vars(module).items() if not name.startswith("__")})
    return found


def observed(
    name: str, *, guarded: bool = True, spans: bool = True, wrap: bool = False, mask: bool = True, **options: object
) -> Variant:
    """Build an application with OpenTelemetry's instrumentation, and with ours where it is `guarded`.

    Args:
        name: of the variant.
        guarded: whether `GuardInstrumentor` is at work, and the Guard exporters.
        spans: whether the exporter of spans is one of these.
        wrap: whether `Wrapped` is in the place where ours would be.
        mask: whether secrets are masked in spans.
        options: of `GuardInstrumentor.instrument`.
    """
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(_batches(DroppingSpans()))
    if guarded and spans:
        tracers.add_span_processor(_batches(GuardSpanExporter(**SETTINGS)))  # type: ignore[arg-type]
    before = _state()
    exporter = GuardMetricExporter(**SETTINGS) if guarded else DroppingMetrics()  # type: ignore[arg-type]
    meters = MeterProvider([PeriodicExportingMetricReader(exporter, NEVER)], shutdown_on_exit=False)
    logs = LoggerProvider(shutdown_on_exit=False)
    app = _application()
    if not guarded:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=tracers, meter_provider=meters)
        served: Any = app
        if wrap:
            app.middleware_stack = app.build_middleware_stack()
            app.middleware_stack.app = Wrapped(app.middleware_stack.app)  # type: ignore[attr-defined]
        return Variant(name, served, tracers.force_flush)
    GuardInstrumentor().instrument(tracer_provider=tracers, meter_provider=meters, logger_provider=logs, **options)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=tracers, meter_provider=meters)
    client = Client(unseen=False)
    for _ in range(2):
        asyncio.run(app(client.scope(), _receive, _send))
        meters.force_flush()
    after = _state()
    changed = {place: value for place, value in after.items() if place in before and before[place] is not value}
    processors = tracers._active_span_processor._span_processors
    changed.update({(processor, "on_end"): processor.on_end for processor in processors})
    changed.update({(processor, "active"): mask for processor in processors if hasattr(processor, "active")})
    GuardInstrumentor().uninstrument()
    http_metrics._listening = ()  # of this variant alone
    return Variant(name, app, tracers.force_flush, changed)


def _batches(exporter: Any) -> BatchSpanProcessor:
    return BatchSpanProcessor(exporter, max_queue_size=8_192, schedule_delay_millis=NEVER)


def variants() -> list[Variant]:
    """Build all of them."""
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    set_logger_provider(LoggerProvider(shutdown_on_exit=False))
    set_meter_provider(MeterProvider(shutdown_on_exit=False))
    return [
        Variant("bare", _application()),
        observed("OTel", guarded=False),
        observed("OTel, an empty layer", guarded=False, wrap=True),
        observed("all"),
        observed("all, once more"),
        observed("all but masking of spans", mask=False),
        observed("all but the exporter of spans", spans=False),
        observed("all but behaviour", behavior=False),
        observed("all but derived events", http_events=False),
        observed("neither events nor behaviour", http_events=False, behavior=False),
        observed("measuring alone", http_events=False, behavior=False, spans=False, mask=False),
    ]


def _turn(variant: Variant, loop: asyncio.AbstractEventLoop, client: Client) -> float:
    async def asking(scopes: list[dict[str, Any]]) -> None:
        for scope in scopes:
            await variant.app(scope, _receive, _send)

    with variant.in_place():
        scopes = [client.scope() for _ in range(CALLS)]
        began = time.thread_time()
        loop.run_until_complete(asking(scopes))
        variant.flush()
        return (time.thread_time() - began) / CALLS


def measure(rounds: int, *, unseen: bool, path: str = "/items/7") -> list[Variant]:
    """Return the variants with the seconds of each of their turns."""
    loop = asyncio.new_event_loop()
    client = Client(unseen=unseen, path=path)
    all_variants = variants()
    order = random.Random(1)  # whoever comes after one that is much like it finds its code in the caches
    for number in range(rounds + 3):
        for variant in order.sample(all_variants, len(all_variants)):
            seconds = _turn(variant, loop, client)
            if number >= 3:
                variant.seconds.append(seconds)
    loop.close()
    return all_variants


def added(variant: Variant, other: Variant) -> float:
    """Return what a variant takes more than another one: the median of the pairs."""
    return statistics.median(one - two for one, two in zip(variant.seconds, other.seconds, strict=True))


def main(arguments: list[str] | None = None) -> None:
    """Print what each variant takes, and which share of a bare request it adds to OpenTelemetry's instrumentation."""
    parser = argparse.ArgumentParser(prog="benchmarks.request", description=__doc__)
    parser.add_argument("--unseen", action="store_true", help="no request has been seen before")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each variant")
    parser.add_argument("--path", default="/items/7", help="what is asked for")
    given = parser.parse_args(arguments)
    measured = measure(given.rounds, unseen=given.unseen, path=given.path)
    bare, otel, *_ = measured
    whole = next(variant for variant in measured if variant.name == "all")
    print("one benign request, in process" + (", each unseen" if given.unseen else ""))
    for variant in measured:
        seconds, more = statistics.median(variant.seconds), added(variant, otel)
        share = statistics.median(
            (one - two) / three for one, two, three in zip(variant.seconds, otel.seconds, bare.seconds, strict=True)
        )
        print(
            f"  {variant.name:<32}{seconds * 1e6:>9.1f} us{more * 1e6:>+9.1f} us to OTel{share:>+7.2f} of bare"
            f"{-added(variant, whole) * 1e6:>+9.1f} us to all"
        )


if __name__ == "__main__":
    main()
