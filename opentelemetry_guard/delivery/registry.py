"""The deliveries of this process, one for each destination, shared by the exporters that point there."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..process import end as process_end
from ..process.end import CLOCK
from ..queue.base import DeliveryQueue
from ..settings import in_use
from ..settings.delivery import DestinationSettings, GuardConfig
from ..settings.once import log_once
from .carrier import Carrier
from .delivery import Delivery
from .transport import Transport

_logger = logging.getLogger(__name__)

_Settings = TypeVar("_Settings", bound=DestinationSettings)
_Carrier = TypeVar("_Carrier", bound=Carrier[Any])

_lock = threading.Lock()
# Guarded by _lock: a delivery is here from its first user's `acquire` to its last user's `release`.
_deliveries: dict[str, Carrier[Any]] = {}
_users: dict[str, Counter[str]] = {}
_watchers: list[Callable[[], None]] = []
_problems: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()  # by exporter; under _lock


def acquire(config: GuardConfig, user: str, queue: DeliveryQueue | None = None) -> Delivery:
    """Return the delivery to a Guard backend, as `share` does."""
    return share(Delivery, config, user, queue)


def share(
    make: Callable[[_Settings, DeliveryQueue | None], _Carrier],
    config: _Settings,
    user: str,
    queue: DeliveryQueue | None = None,
) -> _Carrier:
    """Return the delivery to `config`'s destination, made and started at the first call.

    Where settings differ from those of the first user, the first's rule, with one warning.

    Args:
        make: makes a delivery.
        config: the settings.
        user: the signal that the caller exports, for `had_user`.
        queue: a store of the user's own.

    Raises:
        ValueError: the queue's URL names no store that there is.
    """
    with _lock:
        delivery = cast("_Carrier | None", _deliveries.get(config.destination))
        made = delivery is None
        if delivery is None:
            delivery = make(config, queue)
            _deliveries[config.destination] = delivery
            _users[config.destination] = Counter()
        different = delivery.config.differences(config)
        if queue is not None and delivery.queue is not queue:
            different.append("queue")
        _users[config.destination][user] += 1
    if different:
        log_once(
            _logger,
            logging.WARNING,
            f"the {delivery.wire.name} exporters to {config.endpoint} share one delivery, whose settings are the first "
            f"exporter's; those of the {user} exporter are not used where they differ: {', '.join(different)}",
            cause=f"different settings for destination {config.destination}",
        )
    process_end.goes_on()
    if made:
        # Before the start: who makes the calls in the delivery's place makes the first one, too.
        _tell()
    delivery.start()
    return delivery


def move(delivery: Delivery, config: GuardConfig) -> Delivery:
    """Make a delivery go by other settings; return the one that its users share from now on.

    That is another one where the settings lead to a destination that has a
    delivery already: it takes over the users and what is in the queues.

    Raises:
        ValueError: the queue's URL names no store that there is; nothing has changed then.
    """
    with _lock:
        old, new = delivery.config.destination, config.destination
        occupant = cast("Delivery | None", _deliveries.get(new))
        if occupant is None or occupant is delivery:
            delivery.reconfigure(config)
            _deliveries[new] = _deliveries.pop(old)
            _users[new] = _users.pop(old)
        else:
            _users[new].update(_users.pop(old))
            del _deliveries[old]
    if occupant is not None and occupant is not delivery:
        delivery.hand_over(occupant)
        delivery = occupant
    _tell()
    return delivery


def use_transport(delivery: Delivery, transport: Transport | None) -> None:
    """Make all calls of a delivery through `transport` from now on; None is HTTP again."""
    delivery.use_transport(transport)
    _tell()


def leave(delivery: Delivery, user: str) -> None:
    """Give a delivery back that others go on using, or that keeps what it holds for the next start; without a flush.

    For an exporter whose settings lead elsewhere by now, while those it shared the delivery with stay.
    """
    with _lock:
        _users[delivery.config.destination][user] -= 1


def find(destination: str) -> Delivery | None:
    """Return the delivery to a Guard backend of a destination (a hash), None where no exporter has one."""
    with _lock:
        found = _deliveries.get(destination)
        return found if isinstance(found, Delivery) else None


def everyone() -> list[Delivery]:
    """Return the deliveries to Guard backends that are in use."""
    return [delivery for delivery in _all() if isinstance(delivery, Delivery)]


def _all() -> list[Carrier[Any]]:
    with _lock:
        return list(_deliveries.values())


def watch(callback: Callable[[], None]) -> None:
    """Have `callback` called, for the rest of the process, when a delivery is new, or has other settings or another
    transport.
    """
    _watchers.append(callback)


def _tell() -> None:
    for watcher in _watchers:
        watcher()


def switched_off(exporter: object, problem: str | None) -> None:
    """Note why an exporter has no delivery, for as long as it is in use; None when it is no more."""
    with _lock:
        if problem is None:
            _problems.pop(exporter, None)
        else:
            _problems[exporter] = problem


def problems() -> list[str]:
    """Return why Guard export is switched off, each reason once; nothing where no exporter in use is."""
    with _lock:
        return list(dict.fromkeys(_problems.values()))


def had_user(delivery: Delivery, user: str) -> bool:
    """Whether an exporter of the signal `user` has ever shared the delivery."""
    with _lock:
        return user in _users.get(delivery.config.destination, Counter())


def _settings_of_events() -> list[GuardConfig]:
    """Return the settings of the deliveries that exporters of events have ever shared."""
    with _lock:
        return [
            delivery.config
            for destination, delivery in _deliveries.items()
            if isinstance(delivery, Delivery) and _users[destination].keys() & {"logs", "traces"}
        ]


in_use.tell(_settings_of_events)


def release(delivery: Carrier[Any], user: str, timeout: float) -> None:
    """Give a delivery back: flush it, and close it when this was its last user.

    All releases of a process together take `shutdown_timeout` seconds at most.

    Args:
        delivery: what `acquire` returned.
        user: the signal that it was acquired for.
        timeout: seconds that the caller has for this one.
    """
    left = min(max(timeout, 0.0), CLOCK.remaining(delivery.config.shutdown_timeout))
    with _lock:
        destination = delivery.config.destination
        users = _users.get(destination, Counter())
        users[user] -= 1
        last = users.total() <= 0
        if last and _deliveries.get(destination) is delivery:
            del _deliveries[destination], _users[destination]
    if delivery.closed:
        return
    if last:
        delivery.close(left)
    else:
        # The last one needs time to close the stores.
        delivery.flush(max(0.0, left - delivery.closing_seconds), hurry=True)


def flush(timeout: float) -> bool:
    """Send what can be sent now, for at most `timeout` seconds in all; return whether nothing is left to send."""
    deadline = time.monotonic() + timeout
    results = [delivery.flush(max(0.0, deadline - time.monotonic())) for delivery in _all()]
    return all(results)


def close() -> None:
    """Close what is still open at the end of the process: somebody has an exporter that nobody shuts down."""
    with _lock:
        left = list(_deliveries.values())
        _deliveries.clear()
        _users.clear()
    for delivery in left:
        delivery.close(CLOCK.remaining(delivery.config.shutdown_timeout))


process_end.on_flush(flush)
process_end.on_end(close, process_end.Stage.DELIVERY)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
