"""The delivery: everything between an exporter and the backend, one per process and destination.

Exporters hand over rows; the delivery writes them ahead to its queue and
returns. Its sender delivers them from there.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..codec import Row
from ..config import GuardConfig
from ..once import log_once
from ..queue.base import KINDS, DeliveryQueue, Kind, Lease, QueueOptions, QueueStats, QueueUnavailable
from ..queue.local import LocalQueue
from ..queue.memory import MemoryQueue
from ..queue.sqlite import SqliteQueue
from ..queue.url import default_queue_path, open_queue
from ..tally import TALLY
from .breaker import BreakerPolicy
from .encoder import Encoder
from .envelope import Envelope
from .identity import install_id
from .metrics import DeliveryMetrics
from .route import Route
from .sender import Sender
from .source import MERGE_BATCHES
from .stats import DeliveryStats, sum_stats
from .transport import HTTPTransport

_logger = logging.getLogger(__name__)

CLOSING_SHARE = 1 / 6
"""Share of the shutdown timeout that is kept for closing the stores, which may not answer: 0.8 of 5 seconds."""
FALLBACK_BYTES = 8 * 1024 * 1024
"""Bound in bytes of what waits in memory while the queue itself can't be written."""
REMEMBERED_KEYS = 8192
"""Idempotency keys that are remembered, so that an event that arrives through two signals is delivered once."""


class Delivery:
    """Delivers rows to one destination.

    `_lock` guards `_recent` and `_degraded` and is held for dictionary
    operations only. The queue, the sender and the encoder have locks of their own.
    """

    def __init__(self, config: GuardConfig, queue: DeliveryQueue | None = None) -> None:
        """Make a delivery; nothing is opened and no thread is started yet.

        Args:
            config: the settings.
            queue: a store of the user's own, in the place of the one that `config.queue_url` names.

        Raises:
            ValueError: `config.queue_url` names no store that there is.
        """
        self.config = config
        options = QueueOptions(
            destination=config.destination,
            max_bytes=config.queue_max_bytes,
            lease_seconds=max(20.0, 2 * config.timeout),
            overflow=config.queue_overflow,
        )
        self._queue = queue if queue is not None else _open(config, options)
        # What the queue can't take for the moment waits here; a memory queue of the same make, so nothing else differs.
        self._fallback = MemoryQueue(QueueOptions(config.destination, max_bytes=FALLBACK_BYTES))
        observed = weakref.WeakMethod(self._observed_stats)
        self._metrics = DeliveryMetrics(
            config.endpoint, config.destination, lambda: read() if (read := observed()) else None
        )
        envelope = Envelope(config.encryption_key) if config.encryption_key else None
        self._encoder = Encoder(config.project_id, config.compression, envelope)
        policy = BreakerPolicy(
            failures=config.breaker_failures,
            failure_rate=config.breaker_failure_rate,
            recovery=config.breaker_recovery,
            max_recovery=config.breaker_max_recovery,
        )
        self._routes: dict[Kind, Route] = {kind: Route(kind, policy, self._metrics.observe) for kind in KINDS}
        self._queues = (self._queue, *_keyless_queue(config, options, queue), self._fallback)
        self._sender = Sender(
            "OtelGuardSender",
            self._queues,
            HTTPTransport(config, lambda: config.install_id or install_id(_state_directory())),
            self._encoder,
            self._routes,
            options.lease_seconds,
        )
        self._reset()
        _deliveries.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._degraded = False
        self.closed = False

    def start(self) -> None:
        """Start the sender, which sends at once what an earlier process has left in the queue."""
        self._sender.start()

    def submit(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Write rows ahead to the queue, and return; they are accepted now, and delivered soon.

        Events whose `idempotency_key` was submitted before are left out. It
        never raises for a store that fails: rows then wait in memory, bounded.
        """
        if kind == "events":
            rows = self._unseen(rows)
        store = self._queue
        for batch in self._encoder.encode(kind, rows):
            try:
                store.append(batch)
            except Exception as error:  # noqa: BLE001  a user's own store may raise anything; the rows are kept all the same
                self._degrade(error)
                # The other batches don't ask it again: each answer may take half a second, and export() has one.
                store = self._fallback
                store.append(batch)
            else:
                if store is self._queue:
                    self._recover()
        if self.closed:
            # Nobody sends any more in this process: leave the rows to the next one at once.
            self._release()
        elif rows:
            self._sender.wake()

    def flush(self, timeout: float, hurry: bool = False) -> bool:
        """Send what can be sent now, for at most `timeout` seconds; return whether nothing is left to send.

        An open circuit breaker stays open; with `hurry`, which is for a
        shutdown, one try is made all the same.
        """
        deadline = time.monotonic() + timeout
        self._sender.flush(timeout, hurry)
        if time.monotonic() >= deadline:
            return False
        return self.stats().drained

    def close(self, timeout: float) -> None:
        """Flush for at most `timeout` seconds, end the sender and give up the lease on what is left in the queue.

        A later `submit` still writes ahead.
        """
        # What the stores may take to be closed, and to say that they can't, comes off the time for sending.
        left = max(0.0, timeout - self.closing_seconds)
        deadline = time.monotonic() + left
        self._sender.flush(left, hurry=True, content=lambda: not self._volatile_batches())
        self.closed = True
        self._sender.stop(deadline - time.monotonic())
        self._move_back()
        if waiting := self._volatile_batches():
            _logger.warning("%d batches for the Guard backend end with this process: they are in memory", waiting)
        for queue in self._queues:
            try:
                queue.close()
            except Exception as error:  # noqa: BLE001  a user's own store may raise anything; a shutdown goes on
                _logger.warning("the Guard delivery queue could not be closed: %s", error)

    @property
    def closing_seconds(self) -> float:
        """Seconds of a shutdown that are not for sending."""
        return self.config.shutdown_timeout * CLOSING_SHARE

    def stats(self) -> DeliveryStats:
        """Return one reading of the ledger, the depth, the routes and this process's counts.

        A store that can't be read now is left out, and `unreadable` says why.
        """
        readings: list[QueueStats] = []
        unreadable: str | None = None
        for queue in self._queues:
            try:
                if queue.exists():
                    readings.append(queue.stats())
            except Exception as error:  # noqa: BLE001  a user's own store may raise anything
                unreadable = f"{type(error).__name__}: {error}"
        return sum_stats(readings, self._routes, TALLY.read(), unreadable)

    def _observed_stats(self) -> DeliveryStats | None:
        return None if self.closed else self.stats()

    @property
    def queue(self) -> DeliveryQueue:
        """The store, with its dead letters."""
        return self._queue

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: its own locks, thread and connections, and none of the parent's rows."""
        self._reset()
        self._sender.after_fork_in_child()

    def _unseen(self, rows: Sequence[Row]) -> list[Row]:
        unseen: list[Row] = []
        with self._lock:
            for row in rows:
                key = str(row["idempotency_key"])
                if key not in self._recent:
                    self._recent[key] = None
                    unseen.append(row)
            while len(self._recent) > REMEMBERED_KEYS:
                self._recent.popitem(last=False)
        return unseen

    def _degrade(self, error: Exception) -> None:
        with self._lock:
            first, self._degraded = not self._degraded, True
        if first:
            _logger.warning("the Guard delivery queue can't be written, batches wait in memory until it can: %s", error)

    def _recover(self) -> None:
        if self._degraded:
            with self._lock:
                self._degraded = False
            _logger.info("the Guard delivery queue can be written again")
            self._move_back()

    def _move_back(self) -> None:
        """Move what waits in memory to the store, as far as the store takes it; what is being sent right now stays."""
        leases: Sequence[Lease] = ()
        try:
            for kind in KINDS:
                while leases := self._fallback.lease(kind, math.inf, MERGE_BATCHES):
                    for lease in leases:
                        self._put_back(lease)
                        self._fallback.forget(lease.batch.batch_id)
        except Exception as error:  # noqa: BLE001  a user's own store may raise anything; the rows stay in memory
            _logger.debug("the Guard delivery queue doesn't take back what waits in memory: %s", error)
            for lease in leases:
                self._fallback.defer(lease.batch.batch_id, 0.0, lease.refusals)

    def _put_back(self, lease: Lease) -> None:
        if lease.attempts and isinstance(self._queue, LocalQueue):
            self._queue.adopt(lease.batch)
        else:
            self._queue.append(lease.batch)

    def _volatile_batches(self) -> int:
        """Return the number of batches that end with this process."""
        return sum(queue.stats().depth for queue in (self._queue, self._fallback) if isinstance(queue, MemoryQueue))

    def _release(self) -> None:
        try:
            self._queue.release()
        except Exception as error:  # noqa: BLE001  a user's own store may raise anything
            # The lease runs out by itself; what is in the queue only waits a little longer.
            _logger.debug("the lease could not be given up: %s", error)


_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for delivery in _deliveries:
        delivery.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    # At import, so before any batch processor's own hook restarts its worker, which may call export() at once.
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _state_directory() -> Path | None:
    try:
        return default_queue_path()
    except QueueUnavailable:
        return None


def _keyless_queue(config: GuardConfig, options: QueueOptions, queue: DeliveryQueue | None) -> Iterator[DeliveryQueue]:
    """Yield the queue that was filled while there was neither key nor project, for the first key to send what is in it.

    Without a project the key tells destinations apart, so rows that waited for a key are in a queue of their own.
    """
    if queue is not None or config.project_id or not config.api_key:
        return
    keyless = replace(config, api_key=None)
    waiting = _open(keyless, replace(options, destination=keyless.destination))
    if isinstance(waiting, SqliteQueue):
        yield waiting


def _open(config: GuardConfig, options: QueueOptions) -> DeliveryQueue:
    if config.queue_url is not None:
        return open_queue(config.queue_url, options)
    directory = _state_directory()
    if directory is None:
        log_once(
            _logger,
            logging.WARNING,
            "there is no home directory for the Guard delivery queue: batches wait in memory and end with the process; "
            "set OTEL_EXPORTER_GUARD_QUEUE_URL=sqlite:///path/queue.db",
        )
        return MemoryQueue(options)
    return SqliteQueue(directory / f"queue-{options.destination}.db", options, private_directory=True)
