"""Settings that arrive after the exporters were built.

A distro builds the exporters before the application's first line runs; an
application that keeps its API key in a `SecurityConfig` or an `AgentConfig`
names it later. What it names is *offered* here::

    from opentelemetry_guard.settings import late

    late.offer("SecurityConfig", api_key=config.agent_api_key, project_id=config.agent_project_id)

Keyword arguments of an exporter and the environment win over an offer, an
offer wins over the default, and of two offers of one setting the first wins.
Exporters that exist already go by the new settings from then on, and what
waits in their queues goes where the new settings say.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .once import log_once
from .setting import set_late
from .table import BY_NAME

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A validated value, and who offered it."""

    origin: str
    value: object


_lock = threading.Lock()
# Guarded by _lock. Subscribers are called outside of it.
_offers: dict[str, _Offer] = {}
_subscribers: list[Callable[[], None]] = []


def offer(origin: str, **settings: object) -> None:
    """Offer settings by their names; None and blank text offer nothing.

    It never raises and waits for no network. A value that can't be used is
    logged as an error that names `origin`, the setting and the remedy, and is
    ignored. Another value for a setting that was offered before is ignored with one warning.

    Args:
        origin: who offers, for messages: ``SecurityConfig``.
        **settings: the values, validated like keyword arguments of an exporter.
    """
    valid: dict[str, object] = {}
    for name, given in settings.items():
        try:
            found = BY_NAME.get(name)
            if found is None or not found.group.LATE:
                raise ValueError(f"unknown setting {name!r}" if found is None else f"{name} can't be set that late")
            if found.is_unset(given):
                continue
            valid[name] = found.parse(given)
        except ValueError as error:
            log_once(_logger, logging.ERROR, f"{origin}: {error}. The setting is ignored")
    with _lock:
        refused = [name for name, value in valid.items() if name in _offers and _offers[name].value != value]
        fresh = {name: _Offer(origin, value) for name, value in valid.items() if name not in _offers}
        _offers.update(fresh)
        if fresh:
            set_late({name: accepted.value for name, accepted in _offers.items()})
        told = list(_subscribers) if fresh else []
        firsts = {name: _offers[name].origin for name in refused}
    for name, first in firsts.items():
        log_once(
            _logger, logging.WARNING, f"{origin} has another {name} for Guard export than {first}, which came first"
        )
    for subscriber in told:
        _tell(subscriber)


def subscribe(callback: Callable[[], None]) -> Callable[[], None]:
    """Have `callback` called, on the offering thread, after settings have arrived; return what ends that."""
    with _lock:
        _subscribers.append(callback)

    def unsubscribe() -> None:
        with _lock:
            if callback in _subscribers:
                _subscribers.remove(callback)

    return unsubscribe


def forget(*origins: str) -> None:
    """Forget the offers of `origins`, of everybody where none is named; exporters that exist keep their settings."""
    with _lock:
        for name in [name for name, accepted in _offers.items() if not origins or accepted.origin in origins]:
            del _offers[name]
        set_late({name: accepted.value for name, accepted in _offers.items()})


def _tell(subscriber: Callable[[], None]) -> None:
    try:
        subscriber()
    except Exception:
        # Whatever it was, the application that made the offer goes on.
        _logger.exception("Guard export could not take up settings that came late")


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
