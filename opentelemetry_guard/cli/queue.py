"""``opentelemetry-guard queue``: look into a delivery queue, deal with its dead letters, empty it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .failure import fail
from .help import examples
from .output import one_line, plural, print_columns, print_json, time_text

if TYPE_CHECKING:
    from ..delivery.delivery import Delivery
    from ..queue.base import DeadLetter, DeliveryQueue, Kind, Ledger, WaitingBatch
    from .stores import OpenedStore

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The queue, for example sqlite:///var/lib/app/guard.db or redis://host:6379/0.",
        show_default="OTEL_EXPORTER_GUARD_QUEUE_URL, else the state directory",
    ),
]
Destination = Annotated[
    str | None, typer.Option("--destination", help="Which of several queues in that place: the hash in its name.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many to show.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="How many to pass over.")]
BatchIds = Annotated[list[str] | None, typer.Argument(help="The batch ids; or give --all.")]
Every = Annotated[bool, typer.Option("--all", help="All of them.")]

_PAGE = 200
_TURN_SECONDS = 0.5
_PAUSE_SECONDS = 0.1
_CLOSE_SECONDS = 2.0

queue_commands = typer.Typer(
    help="Look into a delivery queue, and empty it.",
    no_args_is_help=True,
    epilog=examples(
        "opentelemetry-guard queue stats",
        "opentelemetry-guard queue list --url sqlite:///var/lib/app/guard.db",
        "opentelemetry-guard queue dead-letters list",
    ),
)
letter_commands = typer.Typer(
    help="Batches that the backend refused for good.",
    no_args_is_help=True,
    epilog=examples(
        "opentelemetry-guard queue dead-letters list",
        "opentelemetry-guard queue dead-letters replay --all",
    ),
)
queue_commands.add_typer(letter_commands, name="dead-letters")


@contextmanager
def _opened(url: str | None, destination: str | None) -> Iterator[OpenedStore]:
    """Open a store, and turn what it can't do into one line."""
    # Here and below, since every other command would load the stores and the delivery too.
    from ..queue.base import QueueUnavailable
    from .stores import open_store

    store = open_store(url, destination)
    try:
        yield store
    except QueueUnavailable as error:
        _unusable(store, error)
    finally:
        store.queue.close()


def _unusable(store: OpenedStore, error: Exception) -> NoReturn:
    fail(f"The queue {store.label} can't be used now: {error}. Check its permissions, and try again.")


@queue_commands.command(
    short_help="Show where every row is.",
    epilog=examples(
        "opentelemetry-guard queue stats",
        "opentelemetry-guard queue stats --url sqlite:///var/lib/app/guard.db",
        "opentelemetry-guard queue stats --url redis://host:6379/0 --json",
    ),
)
def stats(url: Url = None, destination: Destination = None, as_json: AsJson = False) -> None:
    """Show the ledger: where every row is that the queue has ever accepted."""
    with _opened(url, destination) as store:
        reading = store.ask(lambda queue: queue.stats())
        fleet = store.fleet()
    if as_json:
        print_json(
            {
                "queue": store.label,
                "destination": store.destination,
                "depth": reading.depth,
                "bytes": reading.bytes,
                "oldest": reading.oldest,
                "ledger": {kind: asdict(ledger) for kind, ledger in reading.ledger.items()},
                "fleet": asdict(fleet) if fleet else None,
            }
        )
        return
    waiting = f"{plural(reading.depth, 'batch')}, {plural(reading.bytes, 'byte')}"
    typer.echo(f"queue    {store.label}")
    typer.echo(f"waiting  {waiting}, the oldest from {time_text(reading.oldest)}")
    if fleet is not None:
        copies = plural(sum(fleet.batches.values()), "batch")
        typer.echo(f"in Redis {copies} of the fleet, {plural(fleet.bytes, 'byte')}")
    typer.echo("")
    print_columns(_LEDGER_HEAD, [_ledger_line(kind, ledger) for kind, ledger in reading.ledger.items()])


_LEDGER_HEAD = ("rows", "accepted", "delivered", "queued", "in flight", "dead letters", "dropped")


def _ledger_line(kind: Kind, ledger: Ledger) -> list[object]:
    dropped = ", ".join(f"{rows} {reason}" for reason, rows in ledger.dropped.items()) or "0"
    return [kind, ledger.accepted, ledger.delivered, ledger.queued, ledger.in_flight, ledger.dead_lettered, dropped]


@queue_commands.command(
    "list",
    epilog=examples(
        "opentelemetry-guard queue list --limit 10", "opentelemetry-guard queue list --limit 1000 --offset 1000 --json"
    ),
)
def list_batches(
    url: Url = None, destination: Destination = None, limit: Limit = 100, offset: Offset = 0, as_json: AsJson = False
) -> None:
    """List the batches that wait, the last stored first."""
    with _opened(url, destination) as store:
        found = store.ask(lambda queue: queue.waiting(limit, offset))
    if as_json:
        print_json([asdict(batch) for batch in found])
    elif not found:
        typer.echo("Nothing waits." if not offset else "Nothing waits beyond that.")
    else:
        print_columns(
            ("batch", "kind", "rows", "bytes", "since", "tries", "state"),
            [[b.batch_id, b.kind, b.rows, b.size, time_text(b.created_at), b.attempts, _state(b)] for b in found],
        )


def _state(batch: WaitingBatch) -> str:
    if batch.elsewhere:
        return "on another machine"
    return "in flight" if batch.in_flight else "queued"


@letter_commands.command(
    "list",
    epilog=examples(
        "opentelemetry-guard queue dead-letters list", "opentelemetry-guard queue dead-letters list --limit 10 --json"
    ),
)
def list_letters(
    url: Url = None, destination: Destination = None, limit: Limit = 100, offset: Offset = 0, as_json: AsJson = False
) -> None:
    """List dead letters, the newest first."""
    with _opened(url, destination) as store:
        letters = store.ask(lambda queue: queue.dead_letters(limit, offset))
    if as_json:
        print_json([_letter(letter) for letter in letters])
    elif not letters:
        typer.echo("There are no dead letters." if not offset else "There are none beyond that.")
    else:
        print_columns(
            ("batch", "kind", "rows", "since", "answer", "reason"),
            [[x.batch.batch_id, x.batch.kind, x.batch.rows, time_text(x.time), x.status, x.reason] for x in letters],
        )


def _letters(store: OpenedStore) -> Iterator[DeadLetter]:
    """Yield every dead letter, with no more than a page of their bodies in memory."""
    offset = 0
    while page := store.ask(partial(_page, offset=offset)):
        yield from page
        offset += len(page)


def _page(queue: DeliveryQueue, offset: int) -> list[DeadLetter]:
    return queue.dead_letters(_PAGE, offset)


def _letter(letter: DeadLetter) -> dict[str, object]:
    batch = letter.batch
    return {
        "batch_id": batch.batch_id,
        "kind": batch.kind,
        "rows": batch.rows,
        "size": len(batch.body),
        "created_at": batch.created_at,
        "status": letter.status,
        "reason": letter.reason,
        "time": letter.time,
    }


@letter_commands.command("show", epilog=examples("opentelemetry-guard queue dead-letters show 1795306053620-ac1f84cb"))
def show_letter(
    batch_id: Annotated[str, typer.Argument(help="The batch id.")],
    url: Url = None,
    destination: Destination = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its rows."""
    with _opened(url, destination) as store:
        letter = next((found for found in _letters(store) if found.batch.batch_id == batch_id), None)
    if letter is None:
        fail(f"There is no dead letter {batch_id!r}: opentelemetry-guard queue dead-letters list shows them.")
    from ..delivery.encoder import Encoder
    from ..delivery.envelope import Envelope

    envelope = Envelope(store.config.encryption_key) if store.config.encryption_key else None
    try:
        rows = Encoder(store.config.project_id, store.config.compression, envelope).rows(letter.batch)
    except ValueError as error:
        fail(f"The rows of {batch_id} can't be read: {error}. Set OTEL_EXPORTER_GUARD_ENCRYPTION_KEY to their key.")
    if as_json:
        print_json({**_letter(letter), "content": rows})
        return
    typer.echo(f"{letter.batch.batch_id}: {letter.batch.rows} {letter.batch.kind}, refused at {time_text(letter.time)}")
    typer.echo(f"answer {letter.status}: {one_line(letter.reason)}")
    print_json(rows)


@letter_commands.command(
    epilog=examples(
        "opentelemetry-guard queue dead-letters replay 1795306053620-ac1f84cb",
        "opentelemetry-guard queue dead-letters replay --all",
    )
)
def replay(
    batch_ids: BatchIds = None,
    every: Every = False,
    url: Url = None,
    destination: Destination = None,
    as_json: AsJson = False,
) -> None:
    """Queue dead letters again; the next sender delivers them."""
    chosen = _chosen(batch_ids, every)
    with _opened(url, destination) as store:
        _check_known(store, chosen)
        moved = store.ask(lambda queue: queue.replay(chosen))
        left = 0 if chosen is None else len(chosen) - moved
    _say_moved(as_json, "replayed", moved)
    if left > 0:
        fail(f"{left} did not fit within the queue's bound: deliver what waits first (queue drain).")


@letter_commands.command(
    short_help="Drop dead letters for good.",
    epilog=examples(
        "opentelemetry-guard queue dead-letters purge 1795306053620-ac1f84cb",
        "opentelemetry-guard queue dead-letters purge --all --yes",
    ),
)
def purge(
    batch_ids: BatchIds = None,
    every: Every = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    url: Url = None,
    destination: Destination = None,
    as_json: AsJson = False,
) -> None:
    """Drop dead letters for good; the ledger counts them as purged."""
    chosen = _chosen(batch_ids, every)
    with _opened(url, destination) as store:
        _check_known(store, chosen)
        if not yes:
            which = "all dead letters" if chosen is None else plural(len(chosen), "dead letter")
            _ask(f"Drop {which} of {store.label} for good?")
        dropped = store.ask(lambda queue: queue.purge(chosen))
    _say_moved(as_json, "purged", dropped)


def _ask(question: str) -> None:
    """Return when the answer is yes; where nobody answers that is a no."""
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo("", err=True)
        agreed = False
    if not agreed:
        fail("Nothing was dropped: answer y, or give --yes.")


def _chosen(batch_ids: list[str] | None, every: bool) -> list[str] | None:
    """Return the batch ids, None for all."""
    if bool(batch_ids) == every:
        fail("Name the dead letters by their batch ids, or give --all, and not both.")
    return batch_ids or None


def _check_known(store: OpenedStore, chosen: list[str] | None) -> None:
    known = {letter.batch.batch_id for letter in _letters(store)} if chosen else set()
    for batch_id in chosen or ():
        if batch_id not in known:
            fail(f"There is no dead letter {batch_id!r}: opentelemetry-guard queue dead-letters list shows them.")


def _say_moved(as_json: bool, verb: str, batches: int) -> None:
    if as_json:
        print_json({verb: batches})
    else:
        typer.echo(f"{verb} {plural(batches, 'batch')}")


@queue_commands.command(
    short_help="Deliver what a service that is gone has left behind.",
    epilog=examples(
        "opentelemetry-guard queue drain", "opentelemetry-guard queue drain --url redis://host:6379/0 --timeout 60"
    ),
)
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
    from ..delivery.delivery import Delivery

    with _opened(url, destination) as store:
        if not store.config.api_key:
            fail("There is no API key to deliver with: set OTEL_EXPORTER_GUARD_API_KEY.")
        begun = store.ask(lambda _: _waiting(store))
        delivered, dead = _rows(store)
        delivery = Delivery(replace(store.config, status_interval=0.0), store.queue)
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


def _rows(store: OpenedStore) -> tuple[int, int]:
    """Return how many rows this store has ever delivered, and how many are dead letters."""
    ledgers = store.ask(lambda queue: queue.stats()).ledger.values()
    return sum(ledger.delivered for ledger in ledgers), sum(ledger.dead_lettered for ledger in ledgers)


def _drain(delivery: Delivery, store: OpenedStore, begun: int, ends: float) -> int:
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


def _is_refused(delivery: Delivery) -> bool:
    return any(route.held for route in delivery.stats().routes.values())


def _what_is_wrong(delivery: Delivery) -> str | None:
    return next((route.last_error for route in delivery.stats().routes.values() if route.last_error), None)
