"""One contestant's process: ``python -m benchmarks.peer.contestant TASK OPTIONS``.

Every line that comes in is a round, and is answered with a line of its figures.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

Task = Callable[..., AsyncIterator[dict[str, float]]]


async def _measure(task: Task, options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    rounds = task(**options)
    try:
        # Waiting for a line must not keep the loop from its other tasks.
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await anext(rounds)), flush=True)
    finally:
        await rounds.aclose()  # type: ignore[attr-defined]  # they are generators


def main() -> None:
    """Run the task ``module:function`` of this package."""
    module, _, function = sys.argv[1].partition(":")
    task = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    asyncio.run(_measure(task, json.loads(sys.argv[2])))


if __name__ == "__main__":
    main()
