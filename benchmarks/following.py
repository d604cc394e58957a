"""What following and judging adds to one benign request: the same FastAPI application, with and without, in turn.

Both have opentelemetry-instrumentation-fastapi around them with a recording
span, as under ``opentelemetry-instrument``, and a Guard exporter hears what
it measures. The requests go through the ASGI
interface, so no server and no network is measured.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from opentelemetry.instrumentation import asgi
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from opentelemetry_guard import Emitter
from opentelemetry_guard.events.http_metrics import HttpMetrics
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.instrumentation.http import following as request_following
from opentelemetry_guard.instrumentation.http import measuring
from opentelemetry_guard.instrumentation.http import patches as application_patches
from opentelemetry_guard.settings.instrumentation import GuardOptions

from .browser import HEADERS
from .timing import compare, show

CALLS = 10
ROUNDS = 300
"""Short runs, many of them: on a shared machine some are left undisturbed."""
ROUTES = 30


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """Drop the answer."""


def _application(tracers: TracerProvider, meters: MeterProvider) -> FastAPI:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=tracers, meter_provider=meters, exclude_spans=["send", "receive"]
    )

    async def item(number: int) -> dict[str, int]:
        return {"item": number}

    for number in range(ROUTES):
        app.get(f"/things{number}/{{number}}")(item)
    app.get("/items/{number}")(item)
    return app


def _requests(app: FastAPI, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    clients = itertools.cycle(f"203.0.{number >> 8}.{number & 255}" for number in range(500))

    async def one() -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/items/7",
            "raw_path": b"/items/7",
            "query_string": b"",
            "headers": HEADERS,
            "client": (next(clients), 50000),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
        }
        await app(scope, _receive, _send)

    def several() -> None:
        for _ in range(CALLS):
            loop.run_until_complete(one())

    return several


def main() -> None:
    """Print the cost of a request without us, with derived events, and with the analysis of behaviour too."""
    loop = asyncio.new_event_loop()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([InMemoryMetricReader()])
    emitter = Emitter(LoggerProvider(shutdown_on_exit=False), tracers, meters)
    exporter = HttpMetrics()
    judged = {}
    for name, options in (
        ("and derived events", GuardOptions(behavior=False)),
        ("and the analysis of behaviour", GuardOptions()),
    ):
        fastapi_apps.install(options, emitter)
        request = _requests(_application(tracers, meters), loop)
        request()
        judged[name] = _judged(request, application_patches._judge)
        fastapi_apps.uninstall()
    plain = _requests(_application(tracers, meters), loop)
    candidates = {"FastAPI and its instrumentation": plain, **judged}
    seconds = {name: each / CALLS for name, each in compare(candidates, rounds=ROUNDS).items()}
    show("one benign request, in process", seconds)
    first, *others = seconds.values()
    print("  added: " + ", ".join(f"{(other - first) * 1e6:.1f} us" for other in others))
    assert exporter.read() is not None
    meters.shutdown()
    loop.close()


def _judged(request: Callable[[], None], judge: Any) -> Callable[[], None]:
    """Switch following, judging and measuring on for the time of some requests."""

    def switched() -> None:
        application_patches._judge = judge
        request_following._observers = (judge,)
        measuring.apply(asgi)
        try:
            request()
        finally:
            application_patches._judge = None
            request_following._observers = ()
            measuring.remove()

    return switched


if __name__ == "__main__":
    main()
