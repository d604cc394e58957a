"""One reading of a delivery: the queue's ledger, the routes, and what this process counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..events.tally import TallyStats
from ..queue.base import Kind, Ledger, QueueStats
from .breaker import BreakerState
from .route import Route, RouteName


@dataclass(frozen=True, slots=True)
class RouteStats:
    """How a route is doing: its breaker, the limiter's requests per second, and what went wrong last.

    `held` says that the backend refuses key, project or address, or that something else answers in its place: nothing
    goes until a person has changed something, or the backend is back; `remedy` says what to do, if that is known.
    """

    breaker: BreakerState
    transitions: int
    rate: float
    last_error: str | None
    held: bool = False
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class EventLogStats:
    """Events that this process has written to its file, and those that it could not write."""

    written: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryStats:
    """One reading of a delivery.

    `ledger` counts the queue's rows, which outlive the process and are
    shared with the other processes of the queue; `process` counts what this
    process emitted and what it lost before the queue. `depth` counts batches,
    `bytes` their encoded bodies, `oldest` is in Unix seconds, `set_aside`
    counts damaged files. `unreadable` says why a store is not in the figures;
    None where all are. `event_log` is None where events go into no file.
    """

    ledger: Mapping[Kind, Ledger]
    depth: int
    bytes: int
    oldest: float | None
    routes: Mapping[RouteName, RouteStats]
    process: TallyStats
    set_aside: int = 0
    unreadable: str | None = None
    event_log: EventLogStats | None = None

    @property
    def drained(self) -> bool:
        """Whether nothing waits and nothing is under way, as far as every store could be read."""
        return self.unreadable is None and not any(row.queued or row.in_flight for row in self.ledger.values())


def sum_stats(
    queues: Iterable[QueueStats],
    routes: Mapping[RouteName, Route],
    process: TallyStats,
    unreadable: str | None,
    kinds: Sequence[Kind],
) -> DeliveryStats:
    """Add the readings of several queues up, for `kinds`, beside the routes' state and the process's counts."""
    queues = list(queues)
    return DeliveryStats(
        ledger={kind: _sum_ledgers(stats.ledger[kind] for stats in queues if kind in stats.ledger) for kind in kinds},
        depth=sum(stats.depth for stats in queues),
        bytes=sum(stats.bytes for stats in queues),
        oldest=min((stats.oldest for stats in queues if stats.oldest is not None), default=None),
        routes={kind: _of_route(route) for kind, route in routes.items()},
        process=process,
        set_aside=sum(stats.set_aside for stats in queues),
        unreadable=unreadable,
    )


def _of_route(route: Route) -> RouteStats:
    error = route.held_for or route.last_error or route.complaint
    held = route.held_for is not None
    return RouteStats(route.breaker.state, route.breaker.transitions, route.limiter.rate, error, held, route.remedy)


def _sum_ledgers(ledgers: Iterable[Ledger]) -> Ledger:
    total = Ledger()
    for ledger in ledgers:
        total.accepted += ledger.accepted
        total.delivered += ledger.delivered
        total.queued += ledger.queued
        total.in_flight += ledger.in_flight
        total.dead_lettered += ledger.dead_lettered
        for reason, rows in ledger.dropped.items():
            total.dropped[reason] = total.dropped.get(reason, 0) + rows
    return total
