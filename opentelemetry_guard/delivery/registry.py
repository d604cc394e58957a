"""The deliveries of this process, one for each destination, shared by the exporters that point there."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter

from ..config import GuardConfig
from ..once import log_once
from ..queue.base import DeliveryQueue
from .delivery import Delivery
from .shutdown import CLOCK

_logger = logging.getLogger(__name__)

_lock = threading.Lock()
# Guarded by _lock: a delivery is here from its first user's `acquire` to its last user's `release`.
_deliveries: dict[str, Delivery] = {}
_users: dict[str, Counter[str]] = {}


def acquire(config: GuardConfig, user: str, queue: DeliveryQueue | None = None) -> Delivery:
    """Return the delivery to `config`'s destination, made and started at the first call.

    Where settings differ from those of the first user, the first's rule, with one warning.

    Args:
        config: the settings.
        user: the signal that the caller exports, for `had_user`.
        queue: a store of the user's own.

    Raises:
        ValueError: the queue's URL names no store that there is.
    """
    with _lock:
        delivery = _deliveries.get(config.destination)
        if delivery is None:
            delivery = Delivery(config, queue)
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
            f"the Guard exporters to {config.endpoint} share one delivery, whose settings are the first exporter's; "
            f"those of the {user} exporter are not used where they differ: {', '.join(different)}",
            cause=f"different settings for destination {config.destination}",
        )
    CLOCK.reset()
    delivery.start()
    return delivery


def had_user(delivery: Delivery, user: str) -> bool:
    """Whether an exporter of the signal `user` has ever shared the delivery."""
    with _lock:
        return user in _users.get(delivery.config.destination, Counter())


def release(delivery: Delivery, user: str, timeout: float) -> None:
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
    if last:
        delivery.close(left)
    else:
        # The last one needs time to close the stores.
        delivery.flush(max(0.0, left - delivery.closing_seconds), hurry=True)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
