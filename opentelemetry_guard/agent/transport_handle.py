"""What `agent.transport` is: the counts of the delivery's calls, or the user's own transport that makes them."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from ..delivery import calls, registry
from ..delivery.breaker import BreakerState
from ..delivery.delivery import Delivery
from ..events.codec import Row
from ..queue.base import Batch
from .call_watch import CallWatch
from .errors import ErrorReporter
from .loop import LoopThread
from .rows import rows_of
from .transports import CustomTransport

_logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""Seconds that the user's transport has for its `close`."""


class TransportHandle:
    """Keeps what the user has assigned, before the agent starts and over its restarts.

    `on_delivered` is told the idempotency keys of events that need not be
    sent again. `_lock` guards `_find`, `_custom` and `_unwatch`, so that a transport and
    the delivery that it belongs to are put together once, whichever comes first.
    """

    def __init__(self, errors: ErrorReporter) -> None:
        self._watch = CallWatch(self._destination, errors, self._settled)
        self._unwatch: Callable[[], None] | None = None
        self._loop = LoopThread("OtelGuardTransport")
        self._find: Callable[[], Delivery | None] = _nothing
        self._custom: CustomTransport | None = None
        self._assigned: object | None = None
        self.on_delivered: Callable[[Sequence[str]], None] | None = None
        self._reset_lock()
        _all.add(self)
        _watch_deliveries()

    def _reset_lock(self) -> None:
        self._lock = threading.RLock()

    @property
    def shown(self) -> object:
        """What `agent.transport` returns: the user's transport if there is one, else this object."""
        return self if self._assigned is None else self._assigned

    def use(self, transport: object) -> None:
        """Send through `transport` from now on; this object itself brings HTTP back.

        Raises:
            TypeError: it lacks a method of `TransportProtocol`.
        """
        with self._lock:
            if transport is self:
                self._take_back()
                self._assigned = self._custom = None
            else:
                self._custom = CustomTransport(transport, self._rows, self._loop, self._seconds)
                self._assigned = transport
                self.follow()

    def attach(self, find: Callable[[], Delivery | None]) -> None:
        """Take up a delivery; `find` tells which it is, also when late settings have led to another."""
        with self._lock:
            self._find = find
            if self._unwatch is None:
                self._unwatch = calls.observe(self._watch.note)
            self.follow()

    def follow(self) -> None:
        """Have the delivery there is now make its calls through the user's transport, if there is one."""
        with self._lock:
            delivery = self._find()
            if delivery is not None and self._custom is not None and delivery.transport is not self._custom:
                delivery.use_transport(self._custom)

    def _take_back(self) -> None:
        delivery = self._find()
        if delivery is not None and self._custom is not None and delivery.transport is self._custom:
            delivery.use_transport(None)

    def end(self) -> None:
        """Watch no more, give the delivery its own transport back, and close the user's."""
        with self._lock:
            custom, unwatch = self._custom, self._unwatch
            self._take_back()
            self._find, self._unwatch = _nothing, None
        if unwatch is not None:
            unwatch()
        if custom is not None:
            custom.end(CLOSE_SECONDS)
        self._loop.close(CLOSE_SECONDS)

    def get_stats(self) -> dict[str, Any]:
        """Return counts of the calls, and the ``circuit_breaker_state`` of events: CLOSED, OPEN or HALF_OPEN."""
        delivery = self._find()
        route = None if delivery is None else delivery.stats().routes["events"]
        state = BreakerState.CLOSED if route is None else route.breaker
        return {
            **self._watch.counts.read(),
            "circuit_breaker_state": state.value,
            "last_error": None if route is None else route.last_error,
        }

    def _settled(self, batch: Batch) -> None:
        told = self.on_delivered
        if told is not None and batch.kind == "events":
            try:
                told([str(row["idempotency_key"]) for row in self._rows(batch)])
            except ValueError as error:
                _logger.debug("the copies of a batch stay until they expire: %s", error)

    def _destination(self) -> str | None:
        delivery = self._find()
        return None if delivery is None else delivery.config.destination

    def _seconds(self) -> float:
        delivery = self._find()
        return math.inf if delivery is None else delivery.config.timeout

    def _rows(self, batch: Batch) -> list[Row]:
        delivery = self._find()
        return rows_of(batch, None if delivery is None else delivery.config)

    def __repr__(self) -> str:
        return "<the Guard backend over HTTP>"


def _nothing() -> None:
    return None


_all: weakref.WeakSet[TransportHandle] = weakref.WeakSet()


def _follow_all() -> None:
    for handle in list(_all):
        handle.follow()


@cache
def _watch_deliveries() -> None:
    registry.watch(_follow_all)


def _after_fork_in_child() -> None:
    for handle in _all:
        handle._reset_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
