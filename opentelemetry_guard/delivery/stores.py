"""The stores of a delivery: its own queue, those of before its settings were known, and memory while the queue fails.

Rows are written ahead to the first that takes them, and are in exactly one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..queue.base import Batch, DeliveryQueue, Lease, QueueOptions, QueueStats, QueueUnavailable
from ..queue.memory import MemoryQueue
from ..queue.sqlite.local import LocalQueue
from ..queue.sqlite.path import default_queue_file
from ..queue.sqlite.store import SqliteQueue
from ..queue.url import open_queue
from ..settings.delivery import DestinationSettings, GuardConfig
from ..settings.once import log_once
from .wire import GUARD, Wire

_logger = logging.getLogger(__name__)


FALLBACK_BYTES = 8 * 1024 * 1024
"""Bound in bytes of what waits in memory while the queue itself can't be written."""
RETURN_SECONDS = 0.05
"""Seconds of each of the sender's turns in which rows go back from memory to the store that can be written again."""


class Stores:
    """The queue that rows are written ahead to, the queues of before, and what is in memory while the queue fails.

    Any thread may call any method. `queue` and `earlier` are each replaced as
    a whole; `_lock` is held while that is done and while `is_writable`
    changes.
    """

    def __init__(self, config: DestinationSettings, users: DeliveryQueue | None, wire: Wire = GUARD) -> None:
        """Take the store of a user's own, or make the one that `config.queue_url` names; nothing is opened yet.

        Raises:
            ValueError: `config.queue_url` names no store that there is.
        """
        self._users = users
        self._wire = wire
        self.queue = users if users is not None else open_store(config, wire)
        self.earlier: tuple[DeliveryQueue, ...] = () if users is not None else tuple(earlier_stores(config, wire))
        # What the queue can't take for the moment waits here; a memory queue of the same make, so nothing else differs.
        self._fallback = MemoryQueue(QueueOptions(config.destination, max_bytes=FALLBACK_BYTES, kinds=wire.kinds))
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin anew, with a lock that nobody holds."""
        self._lock = threading.Lock()
        self.is_writable = True
        self._is_returning = False

    @property
    def all(self) -> tuple[DeliveryQueue, ...]:
        """Every queue that may hold rows, in the order in which they are emptied."""
        return (self.queue, *self.earlier, self._fallback)

    def reconfigure(self, before: DestinationSettings, config: DestinationSettings) -> None:
        """Write to the queue that other settings name; those of before stay.

        Raises:
            ValueError: `config.queue_url` names no store that there is; nothing has changed then.
        """
        if self._users is not None:
            return
        queue = self.queue if same_store(before, config, self._wire) else open_store(config, self._wire)
        former = (*(() if queue is self.queue else (self.queue,)), *self.earlier)
        with self._lock:
            self.earlier = (*former, *others(earlier_stores(config, self._wire), than=(queue, *former)))
            self.queue = queue

    def inherit(self, queues: Sequence[DeliveryQueue]) -> None:
        """Empty the queues of another delivery too."""
        with self._lock:
            self.earlier = (*self.earlier, *queues)

    def append(self, batches: Iterable[Batch]) -> None:
        """Write batches ahead; what a store that fails doesn't take waits in memory, bounded."""
        store = self.queue
        for batch in batches:
            try:
                store.append(batch)
            except Exception as error:  # noqa: BLE001  a user's own store may raise anything; the rows are kept all the same
                self._set_writable(False, error)
                # The other batches don't ask it again: each answer may take half a second, and export() has one.
                store = self._fallback
                store.append(batch)
            else:
                if store is not self._fallback and not self.is_writable:
                    self._set_writable(True)
                    # The sender moves what waits: whoever exports has only its own rows to wait for.
                    self._is_returning = True

    def _set_writable(self, writable: bool, error: Exception | None = None) -> None:
        with self._lock:
            changed, self.is_writable = self.is_writable is not writable, writable
        if changed and writable:
            _logger.info("the %s delivery queue can be written again", self._wire.name)
        elif changed:
            _logger.warning(
                "the %s delivery queue can't be written, batches wait in memory until it can: %s",
                self._wire.name,
                error,
            )

    def return_some(self) -> bool:
        """Move a part of what waits in memory back to the store; return whether there is more, for the next turn."""
        if self._is_returning:
            self._is_returning = self.move_back(RETURN_SECONDS)
        return self._is_returning

    def move_back(self, seconds: float) -> bool:
        """Move what waits in memory to the store for so long, as far as it takes it; return whether there is more.

        What is being sent right now stays.
        """
        leases: Sequence[Lease] = ()
        ends = time.monotonic() + seconds
        try:
            for kind in self._wire.kinds:
                while leases := self._fallback.lease(kind, math.inf):
                    for lease in leases:
                        self._put_back(lease)
                        self._fallback.forget(lease.batch.batch_id)
                    if time.monotonic() >= ends:
                        return True
        except Exception as error:  # noqa: BLE001  a user's own store may raise anything; the rows stay in memory
            _logger.debug("the %s delivery queue doesn't take back what waits in memory: %s", self._wire.name, error)
            for lease in leases:
                self._fallback.defer(lease.batch.batch_id, 0.0, lease.refusals)
        return False

    def _put_back(self, lease: Lease) -> None:
        if lease.attempts and isinstance(self.queue, LocalQueue):
            self.queue.adopt(lease.batch)
        else:
            self.queue.append(lease.batch)

    def volatile_batches(self) -> int:
        """Return the number of batches that end with this process."""
        return sum(queue.stats().depth for queue in self.all if isinstance(queue, MemoryQueue))

    def stats(self) -> tuple[list[QueueStats], str | None]:
        """Return a reading of each store, and why one of them can't be read, None where all can."""
        readings: list[QueueStats] = []
        unreadable: str | None = None
        for queue in distinct(self.all):
            try:
                if queue.exists():
                    readings.append(queue.stats())
            except Exception as error:  # noqa: BLE001  a user's own store may raise anything
                unreadable = f"{type(error).__name__}: {error}"
        return readings, unreadable

    def release(self) -> None:
        """Give up the lease on what is in the queue."""
        try:
            self.queue.release()
        except Exception as error:  # noqa: BLE001  a user's own store may raise anything
            # The lease runs out by itself; what is in the queue only waits a little longer.
            _logger.debug("the lease could not be given up: %s", error)

    def close(self) -> None:
        """Close every queue; what is in memory ends."""
        if waiting := self.volatile_batches():
            _logger.warning(
                "%d batches for the %s backend end with this process: they are in memory", waiting, self._wire.name
            )
        for queue in self.all:
            try:
                queue.close()
            except Exception as error:  # noqa: BLE001  a user's own store may raise anything; a shutdown goes on
                _logger.warning("the %s delivery queue could not be closed: %s", self._wire.name, error)


def options_of(config: DestinationSettings, wire: Wire = GUARD) -> QueueOptions:
    """Return what the store of a destination is built with."""
    return QueueOptions(
        destination=config.destination,
        max_bytes=config.queue_max_bytes,
        lease_seconds=max(20.0, 2 * config.timeout),
        overflow=config.queue_overflow,
        kinds=wire.kinds,
    )


def open_store(config: DestinationSettings, wire: Wire = GUARD) -> DeliveryQueue:
    """Make the store that the settings name; nothing is opened yet.

    Raises:
        ValueError: `config.queue_url` names no store that there is.
    """
    options = options_of(config, wire)
    if config.queue_url is not None:
        return open_queue(config.queue_url, options)
    try:
        path = default_queue_file(options.destination)
    except QueueUnavailable:
        log_once(
            _logger,
            logging.WARNING,
            f"there is no home directory for the {wire.name} delivery queue: batches wait in memory and end with the "
            f"process; set {wire.queue_variable}=sqlite:///path/queue.db",
        )
        return MemoryQueue(options)
    return SqliteQueue(path, options, private_directory=True)


def earlier_stores(config: DestinationSettings, wire: Wire) -> Iterator[DeliveryQueue]:
    """Yield the queue that was filled while there was neither key nor project, for the first key to send what is in it.

    Without a project the key tells destinations apart, so rows that waited for a key are in a queue of their own.
    """
    if not isinstance(config, GuardConfig) or config.project_id or not config.api_key:
        return
    waiting = open_store(replace(config, api_key=None), wire)
    if isinstance(waiting, SqliteQueue):
        yield waiting


def same_store(one: DestinationSettings, other: DestinationSettings, wire: Wire) -> bool:
    """Whether two settings name the same store, built in the same way."""
    return one.queue_url == other.queue_url and options_of(one, wire) == options_of(other, wire)


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
