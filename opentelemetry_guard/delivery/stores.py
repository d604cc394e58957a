"""Which stores a delivery has: its own queue, those of before its settings were known, and which of them are one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ..queue.base import DeliveryQueue, QueueOptions, QueueUnavailable
from ..queue.memory import MemoryQueue
from ..queue.sqlite.store import SqliteQueue
from ..queue.url import default_queue_file, open_queue
from ..settings.delivery import GuardConfig
from ..settings.once import log_once

_logger = logging.getLogger(__name__)


def options_of(config: GuardConfig) -> QueueOptions:
    """Return what the store of a destination is built with."""
    return QueueOptions(
        destination=config.destination,
        max_bytes=config.queue_max_bytes,
        lease_seconds=max(20.0, 2 * config.timeout),
        overflow=config.queue_overflow,
    )


def open_store(config: GuardConfig) -> DeliveryQueue:
    """Make the store that the settings name; nothing is opened yet.

    Raises:
        ValueError: `config.queue_url` names no store that there is.
    """
    options = options_of(config)
    if config.queue_url is not None:
        return open_queue(config.queue_url, options)
    try:
        path = default_queue_file(options.destination)
    except QueueUnavailable:
        log_once(
            _logger,
            logging.WARNING,
            "there is no home directory for the Guard delivery queue: batches wait in memory and end with the process; "
            "set OTEL_EXPORTER_GUARD_QUEUE_URL=sqlite:///path/queue.db",
        )
        return MemoryQueue(options)
    return SqliteQueue(path, options, private_directory=True)


def earlier_stores(config: GuardConfig) -> Iterator[DeliveryQueue]:
    """Yield the queue that was filled while there was neither key nor project, for the first key to send what is in it.

    Without a project the key tells destinations apart, so rows that waited for a key are in a queue of their own.
    """
    if config.project_id or not config.api_key:
        return
    waiting = open_store(replace(config, api_key=None))
    if isinstance(waiting, SqliteQueue):
        yield waiting


def same_store(one: GuardConfig, other: GuardConfig) -> bool:
    """Whether two settings name the same store, built in the same way."""
    return one.queue_url == other.queue_url and options_of(one) == options_of(other)


def distinct(queues: Iterable[DeliveryQueue]) -> Iterator[DeliveryQueue]:
    """Yield one queue of each store: two objects may be owners of one file, and each reads the ledger of the whole."""
    seen: set[object] = set()
    for queue in queues:
        if (store := _store(queue)) not in seen:
            seen.add(store)
            yield queue


def others(queues: Iterable[DeliveryQueue], than: Iterable[DeliveryQueue]) -> Iterator[DeliveryQueue]:
    """Yield those of `queues` whose store is none of those of `than`."""
    known = {_store(queue) for queue in than}
    return (queue for queue in queues if _store(queue) not in known)


def file_beside(queue: DeliveryQueue, name: str) -> Path | None:
    """Return the path of a small file that goes with a queue; None where the queue has no file itself."""
    local = _local(queue)
    return local.path.with_name(f"{local.path.name}.{name}") if isinstance(local, SqliteQueue) else None


def _local(queue: DeliveryQueue) -> object:
    # Redis's store has one on this machine; named so, since importing it is left to who uses it.
    return getattr(queue, "local", queue)


def _store(queue: DeliveryQueue) -> object:
    """Return what two queues of one store have in common: the file, else the object itself."""
    local = _local(queue)
    return local.path if isinstance(local, SqliteQueue) else id(local)
