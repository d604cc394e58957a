"""What ``import opentelemetry_guard`` adds to the SDK, requests and pydantic."""

from __future__ import annotations

import subprocess
import sys

BASE = (
    "import opentelemetry.sdk.trace.export, opentelemetry.sdk._logs.export, opentelemetry.sdk.metrics.export, "
    "requests, pydantic"
)
ROUNDS = 9


def _seconds(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print both import times and their difference."""
    base = min(_seconds(BASE) for _ in range(ROUNDS))
    print("import")
    print(f"  {'SDK, requests and pydantic':<44}{base * 1e3:>10.0f} ms")
    for what in ("import opentelemetry_guard", "from opentelemetry_guard import *"):
        whole = min(_seconds(f"{BASE}; {what}") for _ in range(ROUNDS))
        print(f"  and {what:<40}{whole * 1e3:>10.0f} ms{whole / base:>8.2f} x, added {(whole - base) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
