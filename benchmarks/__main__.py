"""Run all benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

from . import emission, encoding, importing

for benchmark in (importing, emission, encoding):
    benchmark.main()
    print()
