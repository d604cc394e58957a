"""How fast a backlog is sent that another process has left in a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

from .backend import Backend
from .pipelines import Ours, Peer, Pipeline, fields
from .running import Figure, Round, in_turn

PATIENCE = 300.0
"""Seconds after which a drain is given up."""


def _made(pipeline: str, url: str, store: str, events: int) -> Pipeline:
    return Ours(url, store) if pipeline == "ours" else Peer(url, store, room=events + 1)


async def filled(pipeline: str, url: str, store: str, events: int) -> AsyncIterator[Round]:
    """Leave events in a store, since the backend refuses."""
    running = _made(pipeline, url, store, events)
    await running.start()
    for number in range(events):
        await running.emit(fields(number))
        if number % running.at_once == 0:
            await running.persisted()
    await running.persisted()
    try:
        yield {"filled": float(events)}
    finally:
        if pipeline == "ours":  # guard-agent's end would wait for the backend and delete what it can't hold
            await running.stop()


async def drained(pipeline: str, url: str, store: str, events: int) -> AsyncIterator[Round]:
    """Measure events per second, from the start of a process's pipeline until the backend has all."""
    backend = Backend(url)
    began = time.perf_counter()
    running = _made(pipeline, url, store, events)
    await running.start()
    await running.emit(fields(0))  # a pipeline may open its store at the first event only
    flushing = asyncio.create_task(running.accepted())
    arrived = 0
    while arrived <= events and time.perf_counter() - began < PATIENCE:
        await asyncio.sleep(0.02)
        arrived += (await asyncio.to_thread(backend.counted)).events
    seconds = time.perf_counter() - began
    flushing.cancel()
    yield {"rate": arrived / seconds, "events": arrived}


def measure(backend: Backend, stores: Mapping[str, str], events: int) -> list[Figure]:
    """Return the figures of a backlog of so many events."""
    found: dict[str, float] = {}
    for name, pipeline in (("redis", "ours"), ("sqlite", "ours"), ("peer_redis", "peer")):
        store = stores[name]
        options = {"pipeline": pipeline, "url": backend.url, "store": store, "events": events}
        with backend.refusing():
            in_turn({"": ("stored:filled", options)}, 1, backend=backend, warm=0)
        measured = in_turn({"": ("stored:drained", options)}, 1, backend=backend, warm=0)[""][0]
        if measured["events"] < events:
            print(f"  {name}: {measured['events']:.0f} of {events} stored events arrived")
        found[name] = measured["rate"]
    return [
        Figure(
            f"drain of {events:,} stored events: {title}",
            "events/s",
            {"ours": [found[name]], "peer": [found["peer_redis"]]},
            aim="≥ 20,000 events/s",
            more_is_better=True,
        )
        for title, name in (("Redis", "redis"), ("SQLite here, Redis there", "sqlite"))
    ]
