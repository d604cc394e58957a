"""``opentelemetry-guard queue``: look into a delivery queue, deal with its dead letters, empty it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .output import AsJson, examples, fail, one_line, plural, print_columns, print_json, time_text

if TYPE_CHECKING:
    from ..queue.base import Batch, DeadLetter, Kind, Ledger, WaitingBatch
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
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many to show.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="How many to pass over.")]
BatchIds = Annotated[list[str] | None, typer.Argument(help="The batch ids; or give --all.")]
Every = Annotated[bool, typer.Option("--all", help="All of them.")]

_PAGE = 200

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
def opened(url: str | None, destination: str | None) -> Iterator[OpenedStore]:
    """Open a store for the block, and turn what it can't do into one line."""
    # Here and below, since every other command would load the stores and the delivery too.
    from ..queue.base import QueueUnavailable
    from .stores import open_store

    store = open_store(url, destination)
    try:
        yield store
    except QueueUnavailable as error:
        fail(f"The queue {store.label} can't be used now: {error}. Check its permissions, and try again.")
    finally:
        store.queue.close()


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
    with opened(url, destination) as store:
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
    with opened(url, destination) as store:
        found = store.ask(lambda queue: queue.waiting(limit, offset))
    rows = [[b.batch_id, b.kind, b.rows, b.size, time_text(b.created_at), b.attempts, _state(b)] for b in found]
    head = ("batch", "kind", "rows", "bytes", "since", "tries", "state")
    _print_page([asdict(b) for b in found], head, rows, as_json, f"Nothing waits{' beyond that' if offset else ''}")


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
    with opened(url, destination) as store:
        found = store.ask(lambda queue: queue.dead_letters(limit, offset))
    rows = [[x.batch.batch_id, x.batch.kind, x.batch.rows, time_text(x.time), x.status, x.reason] for x in found]
    head = ("batch", "kind", "rows", "since", "answer", "reason")
    none = "There are none beyond that" if offset else "There are no dead letters"
    _print_page([_letter(letter) for letter in found], head, rows, as_json, none)


def _print_page(
    objects: list[dict[str, object]], head: Sequence[str], rows: list[list[object]], as_json: bool, none: str
) -> None:
    if as_json:
        print_json(objects)
    elif rows:
        print_columns(head, rows)
    else:
        typer.echo(f"{none}.")


def _state(batch: WaitingBatch) -> str:
    if batch.elsewhere:
        return "on another machine"
    return "in flight" if batch.in_flight else "queued"


def _letters(store: OpenedStore) -> Iterator[DeadLetter]:
    """Yield every dead letter, with no more than a page of their bodies in memory."""
    offset = 0
    while page := _page(store, offset):
        yield from page
        offset += len(page)


def _page(store: OpenedStore, offset: int) -> list[DeadLetter]:
    return store.ask(lambda queue: queue.dead_letters(_PAGE, offset))


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
    with opened(url, destination) as store:
        letter = next((found for found in _letters(store) if found.batch.batch_id == batch_id), None)
    if letter is None:
        fail(f"There is no dead letter {batch_id!r}: opentelemetry-guard queue dead-letters list shows them.")
    try:
        rows = _content(store, letter.batch)
    except ValueError as error:
        fail(f"The rows of {batch_id} can't be read: {error}. Set OTEL_EXPORTER_GUARD_ENCRYPTION_KEY to their key.")
    if as_json:
        print_json({**_letter(letter), "content": rows})
        return
    typer.echo(f"{letter.batch.batch_id}: {letter.batch.rows} {letter.batch.kind}, refused at {time_text(letter.time)}")
    typer.echo(f"answer {letter.status}: {one_line(letter.reason)}")
    print_json(rows)


def _content(store: OpenedStore, batch: Batch) -> object:
    """Return a batch's rows as JSON has them; ValueError where they can't be read."""
    if store.is_otlp:
        from .otlp import content

        return content(batch)
    from ..delivery.encoder import Encoder
    from ..delivery.envelope import Envelope

    envelope = Envelope(store.config.encryption_key) if store.config.encryption_key else None
    return Encoder(store.config.project_id, store.config.compression, envelope).rows(batch)


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
    with opened(url, destination) as store:
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
    with opened(url, destination) as store:
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
