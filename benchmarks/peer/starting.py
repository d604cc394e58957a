"""What a process pays before its first event: the time to import and set up, and memory."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from time import process_time

from .backend import Backend
from .pipelines import PIPELINES
from .running import Figure, Round, in_turn, values


async def begun(pipeline: str, url: str) -> AsyncIterator[Round]:
    """Measure once, beside an application that has imported FastAPI already."""
    importlib.import_module("fastapi")
    cpu, memory = process_time(), _resident()
    await PIPELINES[pipeline](url).start()
    yield {"cpu": process_time() - cpu, "memory": float(_resident() - memory)}


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def measure(backend: Backend, rounds: int) -> list[Figure]:
    """Return the figures of a start."""
    taken: dict[str, list[Round]] = {name: [] for name in PIPELINES}
    for number in range(rounds + 1):
        once = {name: ("starting:begun", {"pipeline": name, "url": backend.url}) for name in PIPELINES}
        measured = in_turn(once, 1, backend=backend, warm=0)
        if number:  # the first start of all may have to compile
            for name, start in measured.items():
                taken[name] += start
    return [
        Figure("start: CPU of import and set-up, beside FastAPI", "ms", values(taken, "cpu", 1e3)),
        Figure("start: memory, beside FastAPI", "MB", values(taken, "memory", 1e-6)),
    ]
