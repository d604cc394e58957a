"""Run all benchmarks: ``python -m benchmarks``. `benchmarks.dashboard`, which fills a large database, runs by itself."""

from __future__ import annotations

from . import (
    behavior,
    decision,
    emission,
    encoding,
    following,
    importing,
    ingestion,
    latency,
    privacy,
)

for benchmark in (
    importing,
    emission,
    encoding,
    privacy,
    following,
    behavior,
    decision,
    latency,
    ingestion,
):
    benchmark.main()
    print()
