"""What an event costs: its caller, the process until the backend has it, the event loop, and how old it gets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from threading import Thread

from .backend import Backend
from .backend import running as accepting
from .pipelines import PIPELINES, ROOM, Pipeline, fields
from .running import Contestant, Figure, Round, contestants, in_turn, values

BATCH = 500
"""Events of a round; as many as guard-agent's rate limit of 100 requests a minute leaves undisturbed."""
STALL_EVENTS = 5_000
TICK = 0.001


async def calls(pipeline: str, url: str, events: int = BATCH, model: bool = False) -> AsyncIterator[Round]:
    """Measure the CPU of the calling thread for an event: `call` until the call returns, `thread` until it is accepted.

    The calling thread is the one that serves requests. Whatever a contestant does on it later, within the
    application's event loop, is taken from requests like the call itself.
    """
    running: Pipeline = PIPELINES[pipeline](url)
    await running.start()
    emit = running.emit_model if model else running.emit
    while True:
        given = [fields(number) for number in range(events)]
        began = time.thread_time()
        for each in given:
            await emit(each)
        taken = time.thread_time() - began
        await running.accepted()
        yield {"call": taken / events, "thread": (time.thread_time() - began) / events}


async def bare(events: int = BATCH) -> AsyncIterator[Round]:
    """Measure the CPU of the calling thread for one log record of the SDK without attributes, which nobody exports."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter

    exporter = InMemoryLogRecordExporter()
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=ROOM))
    logger = logs.get_logger("benchmark")
    while True:
        began = time.thread_time()
        for _ in range(events):
            logger.emit(body="a record")
        taken = time.thread_time() - began
        logs.force_flush()
        exporter.clear()
        yield {"cpu": taken / events}


async def delivered(pipeline: str, url: str, events: int = BATCH, store: str = "") -> AsyncIterator[Round]:
    """Measure the CPU of the process from the emission of events until the backend has them, for one event."""
    running: Pipeline = PIPELINES[pipeline](url, store) if store else PIPELINES[pipeline](url)  # type: ignore[call-arg]
    await running.start()
    while True:
        given = [fields(number) for number in range(events)]
        began = time.process_time()
        for number, each in enumerate(given):
            await running.emit(each)
            await asyncio.sleep(0)  # as between requests
            if (number + 1) % running.at_once == 0:
                await running.persisted()
        await running.accepted()
        yield {"cpu": (time.process_time() - began) / events}


async def stalls(pipeline: str, url: str, events: int = STALL_EVENTS) -> AsyncIterator[Round]:
    """Measure by how much a timer is late at worst while many events are flushed at once."""
    running: Pipeline = PIPELINES[pipeline](url)
    await running.start()
    while True:
        for number in range(events):
            await running.emit(fields(number))
        await asyncio.sleep(0.05)
        worst = 0.0
        over = asyncio.create_task(running.accepted())
        while not over.done():
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            worst = max(worst, time.perf_counter() - due)
        await over
        yield {"stall": worst}


async def steady(pipeline: str, url: str, rate: float, seconds: float) -> AsyncIterator[Round]:
    """Emit at an even rate, each contestant with its own defaults; the backend notes how old events get."""
    room = {"room": 100} if pipeline == "peer" else {}
    running: Pipeline = PIPELINES[pipeline](url, **room)  # type: ignore[call-arg]
    if pipeline == "peer":
        running._config.high_watermark_ratio = 0.8  # type: ignore[attr-defined]
    await running.start()
    while True:
        began = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            await running.emit(fields(number))
        await running.accepted()
        yield {"emitted": float(int(rate * seconds))}


def measure(backend: Backend, stores: dict[str, str], rounds: int, *, quick: bool) -> list[Figure]:
    """Return the figures of events.

    Args:
        backend: that accepts them.
        stores: URLs of stores by the names ``redis`` (ours), ``peer_redis`` and ``sqlite``.
        rounds: that count.
        quick: whether a few seconds have to do.
    """
    everybody = ("ours", "peer", "otlp", "sentry")
    figures = []
    taken = in_turn({name: ("events:calls", _to(backend, name)) for name in everybody}, rounds, backend=backend)
    figures.append(Figure("caller's cost of an event, until accepted", "µs", values(taken, "thread", 1e6), aim="≤ 1.0"))
    figures.append(Figure("of it: the call alone", "µs", values(taken, "call", 1e6)))
    models = {name: ("events:calls", _to(backend, name, model=True)) for name in ("ours", "peer")}
    taken = in_turn(models, rounds, backend=backend)
    figures.append(Figure("the call alone, given the contestant's model", "µs", values(taken, "call", 1e6)))
    taken = in_turn({name: ("events:delivered", _to(backend, name)) for name in everybody}, rounds, backend=backend)
    figures.append(
        Figure("CPU from emission to accepted, nothing durable", "µs", values(taken, "cpu", 1e6), aim="≤ 0.8")
    )
    for title, store, aim in (("Redis", "redis", "≤ 0.25"), ("SQLite here, Redis there", "sqlite", "")):
        pair = {
            "ours": ("events:delivered", _to(backend, "ours", store=stores[store])),
            "peer": ("events:delivered", _to(backend, "peer", store=stores["peer_redis"])),
        }
        taken = in_turn(pair, rounds, backend=backend)
        figures.append(Figure(f"the same, durable: {title}", "µs", values(taken, "cpu", 1e6), aim=aim))
    taken = in_turn(
        {name: ("events:stalls", _to(backend, name)) for name in everybody}, max(rounds // 2, 3), backend=backend
    )
    figures.append(
        Figure(
            f"worst stall of the event loop, flush of {STALL_EVENTS:,} events",
            "ms",
            values(taken, "stall", 1e3),
            aim="≤ 0.1",
        )
    )
    return [*figures, *_ages(10.0 if quick else 30.0)]


def _to(backend: Backend, name: str, **more: object) -> dict[str, object]:
    return {"pipeline": name, "url": backend.url, **more}


def _ages(seconds: float, rate: float = 20.0) -> list[Figure]:
    """Measure how old events are when they are accepted; all contestants at once, since all of them mostly wait."""
    ages: dict[str, list[float]] = {}
    with ExitStack() as stack:
        backends = {name: stack.enter_context(accepting()) for name in PIPELINES}
        options = {
            name: ("events:steady", {"pipeline": name, "url": each.url, "rate": rate, "seconds": seconds})
            for name, each in backends.items()
        }
        begun: dict[str, Contestant] = stack.enter_context(contestants(options))
        threads = [Thread(target=each.round) for each in begun.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name, each in backends.items():
            ages[name] = sorted(each.counted().ages)
            if len(ages[name]) != int(rate * seconds):
                print(f"  {name}: {len(ages[name])} of {int(rate * seconds)} events arrived")
    figures = []
    for title, share in (("p50", 0.5), ("p99", 0.99)):
        found = {}
        for name, each in ages.items():
            with suppress(IndexError):
                found[name] = [each[int(len(each) * share)]]
        figures.append(Figure(f"emission to accepted, {title}, {rate:.0f} events/s, default settings", "s", found))
    return figures
