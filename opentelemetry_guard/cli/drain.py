"""``opentelemetry-guard queue drain``: deliver what a service that is gone has left behind."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .output import AsJson, fail, plural, print_json
from .queue import Destination, Url, opened

if TYPE_CHECKING:
    from ..delivery.carrier import Carrier
    from .stores import OpenedStore

_TURN_SECONDS = 0.5
_PAUSE_SECONDS = 0.1
_CLOSE_SECONDS = 2.0


def drain(
    url: Url = None,
    destination: Destination = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds after which to give up.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Deliver what a service that is gone has left behind, to the backend of the environment's settings.

    What a dead process was sending is taken over once its lease has run out, 20 seconds after its end. What a running
    process holds is left to it.
    """
    with opened(url, destination) as store:
        delivery = _delivery_of(store)
        begun = store.ask(lambda _: _waiting(store))
        delivered, dead = _rows(store)
        delivery.start()
        try:
            left = _drain(delivery, store, begun, time.monotonic() + timeout)
            why = _what_is_wrong(delivery)
        finally:
            delivery.close(_CLOSE_SECONDS)
        now_delivered, now_dead = _rows(store)
        delivered, refused = now_delivered - delivered, max(0, now_dead - dead)
    if as_json:
        result = {
            "delivered_rows": delivered,
            "left": left,
            "dead_lettered_rows": refused,
            "error": why if left else None,
        }
        print_json(result)
    else:
        typer.echo(f"{plural(delivered, 'row')} delivered, {plural(refused, 'row')} became dead letters")
    if left:
        why = why or "a running process holds what is left, or the backend needs a longer --timeout"
        remedy = "Nothing is lost: see opentelemetry-guard doctor, and drain again."
        fail(f"{plural(left, 'batch')} still waiting: {why.rstrip('.')}. {remedy}")
    if refused:
        rows = plural(refused, "row")
        fail(f"The backend refused {rows} for good: opentelemetry-guard queue dead-letters list says why.")


def _delivery_of(store: OpenedStore) -> Carrier[Any]:
    """Return what delivers a queue; fail where the environment's settings don't."""
    if store.is_otlp:
        from .otlp import delivery_of

        return delivery_of(store.queue, store.destination)
    from ..delivery.delivery import Delivery

    if not store.config.api_key:
        fail("There is no API key to deliver with: set OTEL_EXPORTER_GUARD_API_KEY.")
    return Delivery(replace(store.config, status_interval=0.0), store.queue)


def _rows(store: OpenedStore) -> tuple[int, int]:
    """Return how many rows this store has ever delivered, and how many are dead letters."""
    ledgers = store.ask(lambda queue: queue.stats()).ledger.values()
    return sum(ledger.delivered for ledger in ledgers), sum(ledger.dead_lettered for ledger in ledgers)


def _drain(delivery: Carrier[Any], store: OpenedStore, begun: int, ends: float) -> int:
    """Send until nothing waits, the time is up or the backend refuses us; return how many batches are left."""
    from ..queue.base import QueueUnavailable

    left = begun
    pause = threading.Event()
    columns = (TextColumn("draining"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("draining", total=begun)
        while left and time.monotonic() < ends:
            delivery.flush(min(_TURN_SECONDS, max(0.0, ends - time.monotonic())))
            with suppress(QueueUnavailable):  # it is busy, or Redis is away: what is left is as it was
                left = _waiting(store)
            progress.update(task, completed=max(0, begun - left))
            if _is_refused(delivery):
                break
            if left:
                pause.wait(_PAUSE_SECONDS)  # a flush returns at once where nothing can be sent for the moment
    return left


def _waiting(store: OpenedStore) -> int:
    """Return how many batches wait, with Redis on the whole fleet; QueueUnavailable where that can't be told now."""
    here = store.queue.stats().depth
    if fleet := store.fleet():
        return max(here, sum(fleet.batches.values()))
    return here


def _is_refused(delivery: Carrier[Any]) -> bool:
    return any(route.held for route in delivery.stats().routes.values())


def _what_is_wrong(delivery: Carrier[Any]) -> str | None:
    return next((route.last_error for route in delivery.stats().routes.values() if route.last_error), None)
