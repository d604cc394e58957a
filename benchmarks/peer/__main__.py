"""Measure this package beside guard-agent: ``make bench``, in whose environment ``python -m benchmarks.peer`` runs."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from support.redis import redis_server

from . import backend, events, report, request_metrics, requests, starting, stored
from .running import Table

_COLUMNS = {
    "ours": "opentelemetry-guard",
    "peer": "guard-agent",
    "otlp": "OTLP log exporter",
    "sentry": "sentry-sdk",
}
_REQUEST_COLUMNS = {
    "bare": "FastAPI alone",
    "otel": "with OTel's instrumentation",
    "ours": "and opentelemetry-guard",
    "guard": "fastapi-guard alone",
    "peer": "and guard-agent",
}
_EVENT_TEXT = """\
*Caller's cost* is all CPU of the thread that emits, per event, from the first emission until the backend has the last.
In an asynchronous application that thread serves the requests. guard-agent encodes, sends and reads answers on it, in
tasks of the application's event loop, and requests wait meanwhile; the other three do that on threads of their own,
whose CPU is in the process's figure below, not in this one. *The call alone* is what passes until the emitting call
returns; guard-agent only validates the event there and appends it to its buffer.

This package's request metrics are those that OTel's HTTP instrumentation measures, and guard-agent is given two
measurements of each request once it is answered, as guard-core's middleware does. The figure is what each adds to a
request to the same FastAPI application with OTel's instrumentation, whose metrics are read and dropped: requests with
and without it take turns in one process, fifty at a time. Export is included: both are flushed every 2,000 requests,
which pay for that, as below; OTel exports once a minute, and guard-agent's buffer is given room for as many. (What else
this package's instrumentor does for a request, such as masking secrets in its spans, is in the table below.) Where
`GuardMetricExporter` is the only reader, this package spares OTel's instruments, so that the next figure may be
negative. The one below it is less a request without metrics, so it has OTel's own measuring in it. A drain is better
the more events it sends a second."""
_REQUEST_TEXT = """\
OTel's instrumentation has batch processors and a reader whose exporters drop everything; with this package, its
instrumentor and its three exporters come on top. fastapi-guard is measured without its detection of penetration, which
takes many times as long as all of the rest. All is flushed every 2,000 requests, which pay for that. *Added* is each to
the column before it, and the ratio is what this package adds to what FastAPI takes alone."""


def main() -> None:
    """Run all measurements, print them, and write the document."""
    parser = argparse.ArgumentParser(prog="benchmarks.peer", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run, which spreads more")
    parser.add_argument("--backlog", type=int, default=0, help="events that are stored and drained; 100,000 by default")
    parser.add_argument("--output", type=Path, default=report.DOCUMENT, help="where the document goes")
    asked = parser.parse_args()
    rounds, backlog = (5, 5_000) if asked.quick else (11, 100_000)
    backlog = asked.backlog or backlog
    compared = Table("Events and request metrics", _COLUMNS, text=_EVENT_TEXT)
    requested = Table("A benign request", _REQUEST_COLUMNS, text=_REQUEST_TEXT)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guard-bench-")))
        servers = {name: stack.enter_context(redis_server()).url for name in ("redis", "peer_redis")}
        stores = {**servers, "sqlite": f"sqlite://{directory / 'guard.db'}"}
        accepting = stack.enter_context(backend.running())
        requested.figures += requests.measure(accepting, rounds)
        metrics = request_metrics.measure(accepting, rounds)
        report.show([*requested.figures, *metrics])
        compared.figures += events.measure(accepting, stores, rounds, quick=asked.quick)
        compared.figures += metrics
        compared.figures += stored.measure(accepting, {**stores, "sqlite": stores["sqlite"] + "-backlog"}, backlog)
        compared.figures += starting.measure(accepting, 3 if asked.quick else 7)
        report.show(compared.figures)
    asked.output.write_text(report.document([compared, requested], quick=asked.quick))
    print(f"written: {asked.output}")


if __name__ == "__main__":
    main()
