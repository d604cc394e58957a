"""How many events a second the backend takes: ``python -m benchmarks.ingestion [--batches 1000] [--rows 100 250]``.

A real server process, and its real database with every batch on the disk before it is acknowledged: an SQLite file,
and a PostgreSQL server of its own. Batches come over HTTP from eight connections, packed with gzip, of 100 events and
of 250, as an exporter makes them when there is much to send; each batch is of 20 clients, each of which goes on with an
incident, and the keys of events are in the order of their time, as those of this package are. The bodies are made
before the clock runs. The sender shares the machine with the server, and so may others: what an event costs is told as
CPU time as well, of the sender, the backend and the database. Beside it stands what the database alone takes: the same
rows into one table without any index, a transaction for each batch.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.postgresql import running_postgresql

from opentelemetry_guard.events.correlation import correlation_key
from opentelemetry_guard.events.enrichment import CORRELATION_KEY, SERVICE_NAME, THREAT_SCORE
from opentelemetry_guard.models import new_idempotency_key

from .meter import cpu_of, postmaster

BATCHES = 1_000
WARM = 50
ROWS = (100, 250)
SENDERS = 8
CLIENTS = 20
WANTED_EVENTS_PER_SECOND = 10_000
PROJECT = "bench"

_CPU = "CPU us for an event: sender, backend, database"
_KINDS = ("rate_limited", "penetration_attempt", "ip_blocked")


@dataclass(frozen=True, slots=True)
class Figures:
    """Events a second, and microseconds of CPU time for an event."""

    rate: float
    sender: float
    backend: float
    database: float


def events(rows: int) -> list[dict[str, object]]:
    """Return a batch of `rows` events that are as large as an application's."""
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    return [
        {
            "idempotency_key": new_idempotency_key(),
            "timestamp": now,
            "event_type": (kind := _KINDS[number % CLIENTS % len(_KINDS)]),
            "ip_address": (address := f"203.0.113.{number % CLIENTS}"),
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "action_taken": "request_blocked",
            "reason": "120 requests in 60 s, 100 are allowed",
            "endpoint": f"/items/{number % 10}",
            "method": "GET",
            "status_code": 429,
            "response_time": 0.0123,
            "metadata": {
                **{"trace_id": uuid4().hex, "span_id": uuid4().hex[:16], SERVICE_NAME: "shop", THREAT_SCORE: 60},
                CORRELATION_KEY: correlation_key(address, kind),
            },
        }
        for number in range(rows)
    ]


def body(rows: int) -> bytes:
    """Return one packed batch of `rows` events."""
    batch = {"project_id": PROJECT, "batch_id": str(uuid4()), "events": events(rows)}
    return gzip.compress(json.dumps(batch).encode())


def send(backend: RunningBackend, bodies: Sequence[bytes]) -> None:
    """Send `bodies` one after the other over one connection."""
    headers = {"X-API-Key": backend.api_key, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    with closing(HTTPConnection(urlsplit(backend.url).netloc, timeout=120)) as connection:
        for one in bodies:
            connection.request("POST", "/api/v1/events", one, headers)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 200, told


def measure(database: Path | URL, server: int | None, batches: int, rows: int, arguments: Sequence[str]) -> Figures:
    """Measure a backend on `database`; `server` is the number of the process of its server."""
    shares = [[body(rows) for _ in range(batches // SENDERS)] for _ in range(SENDERS)]
    with running_backend(db=database, project=PROJECT, rate_limit="0", arguments=arguments) as backend:
        send(backend, [body(rows) for _ in range(WARM)])
        senders = [threading.Thread(target=send, args=(backend, share)) for share in shares]
        of_database = [server] if server else []
        used = (time.process_time(), cpu_of([backend.pid]), cpu_of(of_database))
        began = time.perf_counter()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        seconds = time.perf_counter() - began
        after = (time.process_time(), cpu_of([backend.pid]), cpu_of(of_database))
    amount = sum(map(len, shares)) * rows
    sender_cpu, backend_cpu, database_cpu = (
        (last - first) / amount * 1e6 for first, last in zip(used, after, strict=True)
    )
    return Figures(amount / seconds, sender_cpu, backend_cpu, database_cpu)


def alone(store: Callable[[list[tuple[str, str]]], object], batches: int, rows: int) -> float:
    """Return how many events a second go into a table, each with its key, by `store`, which takes a batch of them."""
    some = [(str(event["idempotency_key"]), json.dumps(event)) for event in events(rows)]
    began = time.perf_counter()
    for _ in range(batches):
        store(some)
    return batches * rows / (time.perf_counter() - began)


@contextmanager
def sqlite_alone(path: Path) -> Iterator[Callable[[list[tuple[str, str]]], object]]:
    """Give a function that stores a batch in a file, as safely as the backend does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (key TEXT, row TEXT)")

        def store(rows: list[tuple[str, str]]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO rows VALUES (?, ?)", rows)
            connection.execute("COMMIT")

        yield store


@contextmanager
def postgresql_alone(url: URL) -> Iterator[Callable[[list[tuple[str, str]]], object]]:
    """Give a function that stores a batch in a PostgreSQL database, by COPY."""
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        connection.execute("CREATE TABLE rows (key TEXT, row TEXT)")
        connection.commit()

        def store(rows: list[tuple[str, str]]) -> None:
            with connection.cursor() as cursor, cursor.copy("COPY rows FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            connection.commit()

        yield store


def told(name: str, figures: Figures, of_database: float) -> str:
    """Return a line of the table."""
    cpu = (figures.sender, figures.backend, figures.database)
    return f"{name:<28}{figures.rate:>10,.0f}{''.join(f'{part:>11.1f}' for part in cpu)}{of_database:>16,.0f}"


def main() -> None:
    """Measure with batches of each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--workers", type=int, default=2, help="of the backend on PostgreSQL")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="events of a batch")
    arguments = parser.parse_args()
    for rows in arguments.rows:
        compare(arguments.batches, rows, arguments.workers)
    print(f"wanted: {WANTED_EVENTS_PER_SECOND:,} events/s")


def compare(batches: int, rows: int, most_workers: int) -> None:
    """Measure both kinds of databases with batches of `rows` events, and print the figures."""
    print(f"{f'batches of {rows} events':<28}{'events/s':>10}{_CPU:>33}{'database alone':>16}", flush=True)
    with tempfile.TemporaryDirectory(prefix="guard-ingestion-") as directory:
        figures = measure(Path(directory, "backend.db"), None, batches, rows, ())
        with sqlite_alone(Path(directory, "alone.db")) as store:
            print(told("SQLite", figures, alone(store, batches, rows)), flush=True)
    with running_postgresql("fsync=on", "shared_buffers=512MB", "max_wal_size=4GB") as server:
        for workers in sorted({1, most_workers}):
            with server.database() as url:
                more = ("--workers", str(workers)) if workers > 1 else ()
                figures = measure(url, postmaster(server.directory), batches, rows, more)
                with postgresql_alone(url) as store:
                    name = f"PostgreSQL, {workers} process{'es' if workers > 1 else ''}"
                    print(told(name, figures, alone(store, batches, rows)), flush=True)


if __name__ == "__main__":
    main()
