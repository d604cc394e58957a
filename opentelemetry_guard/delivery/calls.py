"""Who wants to know of every call to the backend, of all deliveries of this process and over their moves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ..queue.base import Batch
from .outcome import Outcome
from .route import RouteName

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has ended.

    Attributes:
        destination: the hash of endpoint and project (`GuardConfig.destination`) that it was made for.
        route: what it carried.
        outcome: how it ended; its reason holds no secret.
        seconds: how long it took.
        batch: what was sent, None where the call carries no rows.
    """

    destination: str
    route: RouteName
    outcome: Outcome
    seconds: float
    batch: Batch | None = None


_observers: list[Callable[[Call], None]] = []  # a change is one atomic step


def observe(callback: Callable[[Call], None]) -> Callable[[], None]:
    """Have `callback` told of every call from now on; return what ends that.

    It is called on the thread that made the call, after its rows were dealt
    with, and should return soon: the next call waits. One that raises is logged.
    """
    _observers.append(callback)

    def leave() -> None:
        if callback in _observers:
            _observers.remove(callback)

    return leave


def tell(call: Call) -> None:
    """Tell the observers of a call."""
    for observer in tuple(_observers):
        try:
            observer(call)
        except Exception:
            _logger.exception("an observer of calls to the Guard backend failed")
