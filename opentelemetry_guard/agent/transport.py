"""What `agent.transport` is: the counts of the delivery's calls, or the user's own transport that makes them."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

from ..delivery import calls, registry
from ..delivery.breaker import BreakerState
from ..delivery.calls import Call
from ..delivery.delivery import Delivery
from ..delivery.outcome import Verdict
from ..settings.delivery import GuardConfig
from .custom_transport import CustomTransport
from .errors import RULES, SEND, STATUS, DeliveryError, ErrorReporter
from .loop import LoopThread

CLOSE_SECONDS = 2.0
"""Seconds that the user's transport has for its `close`."""


class TransportHandle:
    """Keeps what the user has assigned over the agent's restarts, and takes note of the calls to its destination.

    `_lock` guards `_find`, `_custom` and `_unwatch`, so that a transport and
    the delivery that it belongs to are put together once, whichever comes
    first. `_counting` guards the counts.
    """

    def __init__(self, errors: ErrorReporter) -> None:
        self._errors = errors
        self._unwatch: Callable[[], None] | None = None
        self._find: Callable[[], Delivery | None] = _nothing
        self._loop = LoopThread("OtelGuardTransport")
        self._custom: CustomTransport | None = None
        self.reset()
        _all.add(self)
        _watch_deliveries()

    def reset(self) -> None:
        """Count anew, in the child of a fork: the locks may have been held by threads that do not exist here."""
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._counts = {"requests_sent": 0, "requests_failed": 0, "bytes_sent": 0, "rules_fetched": 0}
        self._last_success: float | None = None
        self._loop.reset()
        if self._custom is not None:
            self._custom.reset()

    @property
    def shown(self) -> object:
        """What `agent.transport` returns: the user's transport if there is one, else this object."""
        return self if self._custom is None else self._custom.theirs

    def use(self, transport: object) -> None:
        """Send through `transport` from now on; this object itself brings HTTP back.

        Raises:
            TypeError: it lacks a method of `TransportProtocol`.
        """
        with self._lock:
            if transport is self:
                # First: whoever is told of the change looks here.
                custom, self._custom = self._custom, None
                _give_back(self._find(), custom)
            else:
                self._custom = CustomTransport(transport, self._loop, self._config)
                self.follow()

    def attach(self, find: Callable[[], Delivery | None]) -> None:
        """Take up a delivery; `find` tells which it is, also when late settings have led to another."""
        with self._lock:
            self._find = find
            if self._unwatch is None:
                self._unwatch = calls.observe(self._note)
            self.follow()

    def follow(self) -> None:
        """Have the delivery there is now make its calls through the user's transport, if there is one."""
        with self._lock:
            delivery = self._find()
            if delivery is not None and self._custom is not None and delivery.transport is not self._custom:
                registry.use_transport(delivery, self._custom)

    def end(self) -> None:
        """Watch no more, give the delivery its own transport back, and close the user's."""
        with self._lock:
            custom, unwatch, delivery = self._custom, self._unwatch, self._find()
            self._find, self._unwatch = _nothing, None
            _give_back(delivery, custom)
        if unwatch is not None:
            unwatch()
        if custom is not None:
            custom.end(CLOSE_SECONDS)
        self._loop.close(CLOSE_SECONDS)

    def get_stats(self) -> dict[str, Any]:
        """Return counts of the calls, and the ``circuit_breaker_state`` of events: CLOSED, OPEN or HALF_OPEN.

        `last_success` is in Unix seconds.
        """
        delivery = self._find()
        route = None if delivery is None else delivery.stats().routes["events"]
        with self._counting:
            return {
                **self._counts,
                "last_success": self._last_success,
                "circuit_breaker_state": (BreakerState.CLOSED if route is None else route.breaker).value,
                "last_error": None if route is None else route.last_error,
            }

    def _note(self, call: Call) -> None:
        """Take note of a call that has ended, whoever made it: the delivery, its reports, or the rules."""
        config, outcome, batch = self._config(), call.outcome, call.batch
        if config is None or call.destination != config.destination:
            return
        accepted = outcome.verdict is Verdict.ACCEPTED
        with self._counting:
            self._counts["requests_sent" if accepted else "requests_failed"] += 1
            self._counts["bytes_sent"] += len(batch.body) if batch else 0
            self._counts["rules_fetched"] += accepted and call.route == "rules"
            if accepted:
                self._last_success = time.time()
        if accepted:
            return
        about = {"kind": batch.kind, "batch_id": batch.batch_id, "batch_size": batch.rows} if batch else {}
        self._errors.report(
            {"status": STATUS, "rules": RULES}.get(call.route, SEND),
            DeliveryError(outcome.reason or f"the backend answered with status {outcome.status}"),
            **about,
            status_code=outcome.status,
            verdict=outcome.verdict.value,
        )

    def _config(self) -> GuardConfig | None:
        delivery = self._find()
        return None if delivery is None else delivery.config

    def __repr__(self) -> str:
        return "<the Guard backend over HTTP>"


def _nothing() -> None:
    return None


def _give_back(delivery: Delivery | None, custom: CustomTransport | None) -> None:
    """Give a delivery its own transport back, where it has a user's."""
    if delivery is not None and custom is not None and delivery.transport is custom:
        registry.use_transport(delivery, None)


_all: weakref.WeakSet[TransportHandle] = weakref.WeakSet()


def _follow_all() -> None:
    for handle in list(_all):
        handle.follow()


@cache
def _watch_deliveries() -> None:
    registry.watch(_follow_all)
