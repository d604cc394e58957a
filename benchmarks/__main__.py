"""Run the benchmarks: ``python -m benchmarks``.

`benchmarks.dashboard` fills a large database first, `benchmarks.drain` runs a backend, Redis and processes that drain
a queue, `benchmarks.shares` takes our own steps' time; each is run by itself.
"""

from __future__ import annotations

from . import (
    behavior,
    decision,
    durable,
    emission,
    encoding,
    importing,
    ingestion,
    latency,
    privacy,
    request,
)

for benchmark in (
    importing,
    emission,
    encoding,
    privacy,
    request,
    behavior,
    decision,
    latency,
    ingestion,
    durable,
):
    benchmark.main()
    print()
