"""What the analysis of behaviour costs one request, and what its memory of the clients takes."""

from __future__ import annotations

import gc
import itertools
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence

from opentelemetry_guard.instrumentation.behavior.analyzer import BehaviorAnalyzer
from opentelemetry_guard.instrumentation.behavior.sharing import MAX_ROWS, Sharing
from opentelemetry_guard.instrumentation.http.findings import AnsweredRequest

from .timing import compare, show

STEP = 0.01
FULL = 610
"""Seconds after which the longest window, of 5 minutes, is full and has one before it."""
CALLS = 200
ROUNDS = 300
"""Short runs, many of them: on a shared machine some are left undisturbed."""
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


def _requests(
    clients: int, status_code: int = 200, path: str = "/items/1", *, users: bool = False, network: str = "10.{}.{}.{}"
) -> Sequence[AnsweredRequest]:
    return [
        AnsweredRequest(
            network.format(number >> 16, number >> 8 & 255, number & 255),
            f"user-{number}" if users else None,
            "POST" if path == "/login" else "GET",
            path,
            "/items/{number}" if status_code < 400 else None,
            status_code,
            0.01,
            AGENT,
        )
        for number in range(clients)
    ]


def _observing(requests: Sequence[AnsweredRequest], *, shared: bool = False) -> Callable[[], object]:
    """Return a call that observes the next request, 10 ms after the one before, when all windows are full."""
    analyzer = BehaviorAnalyzer()
    if shared:
        analyzer.touch = Sharing(analyzer, lambda: None, lambda _: None).touch
    coming = itertools.cycle(requests)
    clock = itertools.count()

    def observe() -> None:
        analyzer.observe(next(coming), next(clock) * STEP)

    for _ in range(max(len(requests), int(FULL / STEP))):
        observe()
    return observe


def main() -> None:
    """Print the cost of one observation and the memory of many clients."""
    figures = compare(
        {
            "a request, 100 clients": _observing(_requests(100)),
            "a request, shared with other processes": _observing(_requests(100), shared=True),
            "a request, 100,000 clients": _observing(_requests(100_000)),
            "a request of a known user": _observing(_requests(100, users=True)),
            "a request over IPv6": _observing(_requests(100, network="2001:db8:{:x}:{:x}::{:x}")),
            "a 404, path of 8 KB": _observing(_requests(100, 404, "/" + "x" * 8_000)),
            "a failed login": _observing(_requests(100, 401, "/login")),
            "a failed login of a known user": _observing(_requests(100, 401, "/login", users=True)),
        },
        rounds=ROUNDS,
        calls=CALLS,
    )
    show("behavior, one observe", figures)
    _step()
    _memory("100,000 addresses", _requests(100_000))
    _memory("100,000 addresses and users, all failing", _requests(100_000, 401, "/login", users=True))


def _step() -> None:
    """Print what the sharing thread does with the interpreter in a step of as many rows as there may be."""
    with tempfile.TemporaryDirectory() as directory:
        sharing = Sharing(BehaviorAnalyzer(), lambda: f"sqlite://{directory}/behavior.db", lambda _: None)
        sharing.step(0.0)
        failing = _requests(MAX_ROWS, 401, "/login")
        times = []
        for second in range(1, 12):
            for request in failing:
                sharing.analyzer.observe(request, second)
            began = time.process_time()
            sharing.step(second)
            times.append(time.process_time() - began)
        sharing.close()
    print(f"  {f'a step of {MAX_ROWS} rows, SQLite':<44}{statistics.median(times) * 1e3:>10.1f} ms")


def _memory(what: str, requests: Sequence[AnsweredRequest]) -> None:
    gc.collect()
    tracemalloc.start()
    analyzer = BehaviorAnalyzer()
    for number, request in enumerate(requests):
        analyzer.observe(request, number * 0.001)
    print(f"  {what:<44}{tracemalloc.get_traced_memory()[0] / 1e6:>10.1f} MB")
    tracemalloc.stop()


if __name__ == "__main__":
    main()
