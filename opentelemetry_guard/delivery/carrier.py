"""What every delivery does, whatever it carries and to whom: write ahead, send, account for it, and come to an end.

Exporters hand over batches; they are written ahead to the queue, and the sender delivers them from there.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from ..events.tally import TALLY
from ..queue.base import Batch, DeliveryQueue
from ..settings.delivery import DestinationSettings
from .backoff import RetryPolicy
from .body_limit import BodyLimit
from .breaker import BreakerPolicy
from .dispatch import Equipment
from .metrics import DeliveryMetrics
from .outage import Outage
from .outcome import Outcome
from .route import Route, RouteName
from .sender import Sender
from .stats import DeliveryStats, sum_stats
from .stores import Stores, file_beside, options_of
from .telling import Telling
from .wire import Cargo, Sending, Wire

Settings = TypeVar("Settings", bound=DestinationSettings)

CLOSING_SHARE = 1 / 6
"""Share of the shutdown timeout that is kept for closing the stores, which may not answer: 0.8 of 5 seconds."""


class Carrier(Generic[Settings]):
    """Delivers what is in the queue of one destination.

    Stores and sender have locks of their own. `config`, `_encoder` and the
    other parts that depend on settings are each replaced as a whole.
    """

    wire: Wire
    """What is particular to what is carried."""

    def __init__(self, config: Settings, queue: DeliveryQueue | None = None) -> None:
        """Make a delivery; nothing is opened and no thread is started yet.

        Args:
            config: the settings.
            queue: a store of the user's own, in the place of the one that `config.queue_url` names.

        Raises:
            ValueError: `config.queue_url` names no store that there is.
        """
        self.config = config
        self._stores = Stores(config, queue, self.wire)
        observed = weakref.WeakMethod(self._observed_stats)
        self._metrics = DeliveryMetrics(
            config.endpoint, config.destination, lambda: read() if (read := observed()) else None
        )
        self._sending: Sending = self._new_sending()
        self._encoder: Cargo = self._new_encoder(self._new_limit())
        self._lease_seconds = options_of(config, self.wire).lease_seconds
        self._telling = Telling(self.wire.name)
        self._routes = self._new_routes()
        self._sender = Sender("OtelGuardSender", self._equipment())
        self.closed = False
        _carriers.add(self)

    def _new_sending(self) -> Sending:
        """Return what makes the requests of these settings."""
        raise NotImplementedError

    def _new_encoder(self, limit: BodyLimit) -> Cargo:
        """Return what knows the batches of these settings."""
        raise NotImplementedError

    def _new_limit(self) -> BodyLimit:
        return BodyLimit(self.config.max_body_bytes, file_beside(self.queue, "body-limit"))

    def _new_routes(self) -> dict[RouteName, Route]:
        policy = breaker_policy(self.config)
        outage = Outage(self.config.fleet_size)
        return {
            name: Route(
                name,
                policy,
                self._observe,
                outage,
                whose=self.wire.name,
                telling=self._telling if name in self.wire.kinds else None,
            )
            for name in self.wire.routes
        }

    def _equipment(self) -> Equipment:
        return Equipment(
            self._stores.all,
            self._sending,
            self._encoder,
            {kind: self._routes[kind] for kind in self.wire.kinds},
            self._lease_seconds,
            RetryPolicy(self.config.retry_attempts, self.config.backoff_factor),
            self._ask_whether_known,
            self._stores.return_some,
            self.config.requests_in_flight,
            self.wire.name,
        )

    def _ask_whether_known(self) -> bool:
        """Return whether it is the backend itself that answers, whose refusals of rows count."""
        return True

    def start(self) -> None:
        """Start the sender, which sends at once what an earlier process has left in the queue."""
        self._sender.start()

    def route(self, name: RouteName) -> Route:
        """Return a route, for who makes its requests."""
        return self._routes[name]

    def write_ahead(self, batches: Sequence[Batch]) -> None:
        """Write batches ahead to the queue, and return; they are accepted now, and delivered soon.

        It never raises for a store that fails: batches then wait in memory, bounded.
        """
        self._stores.append(batches)
        if self.closed:
            # Nobody sends any more in this process: leave the rows to the next one at once.
            self._stores.release()
        elif batches:
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

        A later `write_ahead` still writes ahead.
        """
        # What the stores may take to be closed, and to say that they can't, comes off the time for sending.
        left = max(0.0, timeout - self.closing_seconds)
        deadline = time.monotonic() + left
        self._sender.flush(left, hurry=True, content=lambda: not self._stores.volatile_batches())
        self.closed = True
        self._sender.stop(deadline - time.monotonic())
        self._stores.move_back(self.closing_seconds)
        self._close_others(deadline)
        # Again: the last report has left a thread for the next one, which doesn't come.
        self._sending.close()
        self._stores.close()

    def _close_others(self, deadline: float) -> None:
        """End what else makes calls, before the stores are closed and by a monotonic time."""

    @property
    def closing_seconds(self) -> float:
        """Seconds of a shutdown that are not for sending."""
        return self.config.shutdown_timeout * CLOSING_SHARE

    def stats(self) -> DeliveryStats:
        """Return one reading of the ledger, the depth, the routes and this process's counts.

        A store that can't be read now is left out, and `unreadable` says why.
        """
        readings, unreadable = self._stores.stats()
        return sum_stats(readings, self._routes, TALLY.read(), unreadable, self.wire.kinds)

    def _observe(self, route: RouteName, seconds: float, outcome: Outcome, batch: Batch | None) -> None:
        """Note one request."""
        self._metrics.observe(route, seconds, outcome)

    def _observed_stats(self) -> DeliveryStats | None:
        return None if self.closed else self.stats()

    @property
    def queue(self) -> DeliveryQueue:
        """The store, with its dead letters."""
        return self._stores.queue

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: its own locks, thread and connections, and none of the parent's rows."""
        self.closed = False
        self._stores.after_fork_in_child()
        self._sender.after_fork_in_child()


_carriers: weakref.WeakSet[Carrier[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for carrier in _carriers:
        carrier.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    # At import, so before any batch processor's own hook restarts its worker, which may call export() at once.
    os.register_at_fork(after_in_child=_after_fork_in_child)


def breaker_policy(config: DestinationSettings) -> BreakerPolicy:
    """Return when the circuit breakers of a destination open."""
    return BreakerPolicy(
        failures=config.breaker_failures,
        failure_rate=config.breaker_failure_rate,
        recovery=config.breaker_recovery,
        max_recovery=config.breaker_max_recovery,
        backoff=config.backoff_factor,
    )
