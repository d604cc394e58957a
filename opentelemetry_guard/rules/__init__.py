"""Dynamic rules: what the backend wants to be blocked, kept up to date in every process that enforces it.

::

    from opentelemetry_guard import rules

    def on_rules(old, new):
        print(new.ip_blacklist)

    unsubscribe = rules.subscribe(on_rules)

The functions here share one client a process, which asks the backend that the
exporters deliver to. It polls while there are subscribers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import DynamicRules
    from .client import Callback, RulesClient

__all__ = ["current", "refresh", "subscribe"]

_lock = threading.Lock()
_client: RulesClient | None = None  # set once, under _lock


def subscribe(callback: Callback, interval: float | None = None) -> Callable[[], None]:
    """Have `callback` told of the rules in force, soon, and then of every change; return what ends that.

    The first subscriber makes the client poll: at once, and then every
    `interval` seconds. Without an API key it waits for one (`late.offer`).

    Args:
        callback: takes the old rules (None at first) and the new ones, on the client's thread. It should return soon.
        interval: seconds between two polls at most, at least 1. Default: what other subscribers ask for, or the
            backend's `ttl`; 30 where it sends none.
    """
    return _shared().subscribe(callback, interval)


def current() -> DynamicRules | None:
    """Return the rules that are in force, None where there are none. It costs next to nothing."""
    return None if _client is None else _client.current()


def refresh(timeout: float = 10.0) -> DynamicRules | None:
    """Ask the backend now, for at most `timeout` seconds, and return the rules that are in force then."""
    return _shared().refresh(timeout)


def _shared() -> RulesClient:
    global _client
    with _lock:
        if _client is None:
            # Imported here: who only reads `current` in a process without rules pays for no HTTP client.
            from ..delivery import registry
            from ..delivery.control import RULES_STREAM
            from ..settings import late
            from .backend import link, state_directory
            from .client import RulesClient

            _client = RulesClient(link, state_directory, stream_control=RULES_STREAM)
            late.subscribe(_client.settings_changed)
            registry.watch(_client.settings_changed)
        return _client


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
