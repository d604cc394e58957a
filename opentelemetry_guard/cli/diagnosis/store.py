"""Whether the queue can be reached and written, and what waits in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from ...queue.base import Batch, DeliveryQueue, QueueOptions, QueueStats, QueueUnavailable
from ...queue.memory import MemoryQueue
from ...queue.redis.client import connect
from ...queue.redis.entries import keys_of
from ...queue.redis.link import describe
from ...queue.redis.store import RedisQueue
from ...queue.redis.trouble import GRANTS, trouble_of
from ...queue.redis.url import parse_redis_url
from ...queue.sqlite.path import default_queue_file, destination_path, sqlite_path
from ...queue.sqlite.store import SqliteQueue
from ...queue.url import open_queue
from ...settings.delivery import DestinationSettings
from ...settings.urls import mask_url
from .finding import Finding, ok, problem, warning

_OLD_SECONDS = 3600.0
_LOWEST_REDIS = (6, 0)


def check_store(config: DestinationSettings) -> Iterator[Finding]:
    """Yield what there is to say about the queue that the settings name."""
    url, variable = (config.queue_url or "").lower(), _variable(config)
    if url.startswith("memory:"):
        yield warning(variable, "is memory: what waits ends with the process", f"unset {variable}, or name a store")
        return
    path = _local_path(config)
    if isinstance(path, Finding):
        yield path
        return
    written = _check_file(path, config)
    yield written
    if url.startswith("redis"):
        yield from _check_redis(config)
    if written.level == "ok":
        yield from _check_content(SqliteQueue(path, QueueOptions(config.destination)), variable)


def _variable(config: DestinationSettings) -> str:
    return f"{config.PREFIX}QUEUE_URL"


def _local_path(config: DestinationSettings) -> Path | Finding:
    """Return the SQLite file of this destination: the queue itself, or with Redis the store beside it."""
    variable = _variable(config)
    try:
        if config.queue_url is not None and config.queue_url.lower().startswith("sqlite:"):
            return destination_path(sqlite_path(config.queue_url), config.destination)
        if config.queue_url is not None:
            open_queue(config.queue_url, QueueOptions(config.destination))
        return default_queue_file(config.destination)
    except ValueError as error:
        return problem(variable, str(error), f"correct {variable}")
    except QueueUnavailable as error:
        return problem(variable, str(error), f"set {variable}, or HOME or XDG_STATE_HOME")


def _check_file(path: Path, config: DestinationSettings) -> Finding:
    """Write to a queue of its own in the same directory, and take it away again."""
    variable = _variable(config)
    destination = f"doctor-{uuid4().hex[:16]}"
    trial = path.with_name(f"{destination}.db")
    queue = SqliteQueue(trial, QueueOptions(destination))
    try:
        _round_trip(queue, destination)
    except (QueueUnavailable, OSError) as error:
        return problem(
            variable,
            f"the directory {path.parent} can't be written: {error}",
            f"make it writable for this user (mode 0700), or set {variable}=sqlite:///path/queue.db",
        )
    finally:
        queue.close()
        for leftover in path.parent.glob(f"{trial.stem}.*") if path.parent.is_dir() else ():
            leftover.unlink()
    free = shutil.disk_usage(path.parent).free
    if free < config.queue_max_bytes:
        return warning(
            variable,
            f"{path.parent} has {free} bytes left, the queue may take {config.queue_max_bytes}",
            f"free space, or lower {config.PREFIX}QUEUE_MAX_BYTES",
        )
    return ok(variable, f"{path.parent} can be written")


def _round_trip(queue: DeliveryQueue, name: str) -> None:
    queue.append(Batch(name, "events", 1, b"{}", created_at=time.time()))
    for lease in queue.lease("events", time.time()):
        queue.acknowledge(lease.batch.batch_id)


def _check_redis(config: DestinationSettings) -> Iterator[Finding]:
    variable = _variable(config)
    address = parse_redis_url(config.queue_url or "")
    destination = f"doctor-{uuid4().hex[:16]}"
    options = QueueOptions(destination)
    queue = RedisQueue(address, options, MemoryQueue(options), patience=3.0)
    client: Any = None  # the typed part of a client is what the queue's scripts need
    try:
        client = connect(address)
        client.ping()
        yield from _check_redis_server(client)
        _round_trip(queue, destination)
        if queue.fleet() is None or queue.link.last_error:
            yield problem(
                variable,
                f"Redis refuses what the queue does: {queue.link.last_error}",
                f"see that the user of the queue URL has {GRANTS}",
            )
        else:
            yield ok(variable, f"Redis at {address} takes batches")
            for key in keys_of(destination):
                client.delete(key)
    except Exception as error:  # noqa: BLE001  clients of the three topologies raise what they like
        remedy = f"check {variable} ({mask_url(config.queue_url or '')}), and that Redis runs and can be reached"
        trouble = trouble_of(error, address)
        what = f"{trouble.what or 'it is away'} ({describe(error, address.secrets)})"
        yield problem(variable, f"Redis at {address}: {what}", trouble.remedy or remedy)
    finally:
        queue.close()
        if client is not None:
            client.close()


def _check_redis_server(client: Any) -> Iterator[Finding]:
    try:
        found = str(client.info("server")["redis_version"])
        # Not CONFIG GET, which hosted Redis servers refuse
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except Exception as error:  # noqa: BLE001  a user without these permissions may use the queue all the same
        yield warning("Redis", f"tells neither its version nor its settings ({type(error).__name__})", "no need to act")
        return
    if tuple(int(part) for part in found.split(".")[:2]) < _LOWEST_REDIS:
        yield problem("Redis", f"is {found}, needed is 6.0", "upgrade Redis")
    else:
        yield ok("Redis", found)
    if policy != "noeviction":
        yield warning(
            "Redis",
            f"evicts keys when it is full (maxmemory-policy {policy}): copies of batches may go",
            "CONFIG SET maxmemory-policy noeviction",
        )


def _check_content(queue: SqliteQueue, variable: str) -> Iterator[Finding]:
    try:
        reading: QueueStats | None = queue.stats() if queue.exists() else None
    except QueueUnavailable as error:
        yield problem(variable, f"the queue {queue.path} can't be read: {error}", "see who has it locked")
        return
    finally:
        queue.close()
    if reading is None:
        return
    dead = sum(ledger.dead_lettered for ledger in reading.ledger.values())
    if dead:
        yield warning(
            "dead letters",
            f"{dead} rows were refused by the backend for good",
            "opentelemetry-guard queue dead-letters list shows them with the reason",
        )
    age = time.time() - reading.oldest if reading.oldest is not None else 0.0
    if age > _OLD_SECONDS:
        yield warning(
            "backlog",
            f"{reading.depth} batches wait, the oldest for {age / 3600:.1f} hours",
            "start the service that they are of, or opentelemetry-guard queue drain",
        )
    else:
        yield ok("backlog", f"{reading.depth} batches wait")
