"""Dynamic rules on their way into fastapi-guard: pushed the moment they change, and lifted when they go.

guard-core's `DynamicRuleManager` asks its agent for rules once a minute at
most, never takes back what a rule has banned, and is one for all applications
of a process. Here each application has a manager of its own, on the loop that
it runs on, and each is told to ask at once when the backend's rules change.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...decision.ban_sources import ListedBans
from ...decision.unenforced import Unenforced
from ...models import DynamicRules
from ...privacy import told
from ...settings.once import log_once
from ..http import following as request_following
from ..patching import AnyFunction
from . import release as guard_release
from .enforcement import for_guard_core, make_acceptable, settle, share_base, without_effect

_logger = logging.getLogger(__name__)

Unsubscribe = Callable[[], None]

_SWITCH = "enable_dynamic_rules"


@dataclass(slots=True)
class _Managed:
    """One of guard-core's managers, the loop that it works on, and what it shall not do twice at once."""

    manager: Any
    loop: asyncio.AbstractEventLoop
    built_in_patterns: frozenset[str]
    updating: asyncio.Lock = field(default_factory=asyncio.Lock)


class _State:
    """What is known of rules and of who enforces them.

    The lock guards every attribute, and nothing of guard-core's or of the
    rules client's is called while it is held.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.managed: list[_Managed] = []
        self.rules: Any = None  # guard-core's form
        self.listed: ListedBans | None = None  # replaced as a whole, and read without the lock
        self.unsubscribe: Unsubscribe | None = None
        self.unenforced: Unenforced | None = None  # held for as long as the rules are


_state = _State()


def current() -> Any | None:
    """Return the backend's rules as guard-core's `DynamicRules`; None where there are none, and none to take back."""
    rules = _state.rules
    if rules is None or not _is_nothing(rules):
        return rules
    return rules if any(managed.manager.current_rules is not None for managed in _state.managed) else None


def ban_list_of(address: str) -> str:
    """Return the list of others by which rules ban an address; "" where they don't, or where the operator does."""
    return "" if _state.listed is None else _state.listed.list_of(address)


def _is_nothing(rules: Any) -> bool:
    """Whether rules are what stands for none: the backend has given them neither an id nor a version."""
    return not rules.rule_id and not rules.version


def says(config: Any) -> bool:
    """Whether an application has said itself whether it wants dynamic rules.

    Args:
        config: fastapi-guard's `SecurityConfig`.
    """
    return _SWITCH in getattr(config, "model_fields_set", ())


def wants_rules(config: Any, interval: float | None) -> bool:
    """Whether an application enforces the backend's rules: unless it, or `interval` being 0, says otherwise.

    Args:
        config: fastapi-guard's `SecurityConfig`.
        interval: seconds between two polls, None where nobody has said.
    """
    return interval != 0 and hasattr(config, _SWITCH) and (config.enable_dynamic_rules or not says(config))


def turn_on(config: Any) -> None:
    """Have guard-core enforce rules for an application that has said nothing about it."""
    config.enable_dynamic_rules = True
    config.model_fields_set.discard(_SWITCH)  # it still has not


async def initialize(original: Callable[[Any], Awaitable[None]], initializer: Any, interval: float | None) -> None:
    """Initialize the rule manager of one application and keep it up to date.

    Args:
        original: guard-core's `HandlerInitializer.initialize_dynamic_rule_manager`.
        initializer: the application's `HandlerInitializer`.
        interval: seconds between two polls, None where nobody has said.
    """
    # The task that polls rules continues no request's trace.
    work = partial(request_following.detached, partial(original, initializer))
    if not wants_rules(initializer.config, interval) or not initializer.agent_handler:
        await work()
        return
    managed = _managed_for(initializer.config)
    await work()
    with _state.lock:
        if managed not in _state.managed:
            _state.managed.append(managed)
    try:
        _subscribe(interval)
    except Exception as error:  # noqa: BLE001  the application starts without rules, too
        log_once(_logger, logging.ERROR, f"dynamic rules are not polled: {told(error)}; please report this")
    _push(managed)


def update_around(original: AnyFunction) -> AnyFunction:
    """Wrap `DynamicRuleManager.update_rules`: one at a time, with what rules have put in force taken back."""

    async def update_rules(self: Any) -> None:
        managed = next((each for each in _state.managed if each.manager is self), None)
        if managed is None:
            await original(self)
            return
        async with managed.updating:
            before = self.current_rules
            make_acceptable(self, _state.rules)
            await original(self)
            await settle(self, managed.built_in_patterns, before, self.current_rules)

    return update_rules


def forget() -> None:
    """Hear of no more rules; those that are in force stay until they expire."""
    with _state.lock:
        unsubscribe, _state.unsubscribe = _state.unsubscribe, None
        _state.managed = []
        _state.rules = _state.unenforced = _state.listed = None
    if unsubscribe is not None:
        unsubscribe()


def _managed_for(config: Any) -> _Managed:
    """Return the manager for an application on the running loop, which guard-core takes for the only one."""
    kind = guard_release.core("handlers.dynamic_rule_handler").DynamicRuleManager
    patterns = guard_release.core("handlers.suspatterns_handler").sus_patterns_handler
    loop = asyncio.get_running_loop()
    with _state.lock:
        _state.managed = [each for each in _state.managed if not each.loop.is_closed()]
        known = [each for each in _state.managed if each.loop is loop and each.manager.config is config]
        built_in = frozenset(
            _state.managed[0].built_in_patterns if _state.managed else getattr(patterns, "patterns", ())
        )
    if known:
        kind._instance = known[0].manager
        return known[0]
    present = kind._instance
    if present is not None and (present.config is not config or present.update_task is not None):
        kind._instance = None
    manager = kind(config)
    share_base(manager, (each.manager for each in _state.managed))
    return _Managed(manager, loop, built_in)


def _subscribe(interval: float | None) -> None:
    from ... import rules

    with _state.lock:
        if _state.unsubscribe is not None:
            return
        _state.unsubscribe = _nothing
    unsubscribe = rules.subscribe(_changed, interval)
    with _state.lock:
        # `forget` may have been called meanwhile.
        wanted = _state.unsubscribe is not None
        if wanted:
            _state.unsubscribe = unsubscribe
    if not wanted:
        unsubscribe()


def _nothing() -> None:
    """Stand in for what a subscription under way will return."""


def _changed(old: DynamicRules | None, new: DynamicRules) -> None:
    """Take changed rules, on whatever thread, and have every manager ask for them."""
    converted = for_guard_core(new)
    if converted is None:
        return
    # Made here, on the client's thread: lists may be long.
    listed = ListedBans(new.ip_blacklist, new.ip_blacklist_sources)
    with _state.lock:
        _state.rules = converted
        _state.listed = listed
        managed = list(_state.managed)
    has_countries = any(getattr(each.manager.config, "geo_ip_handler", None) is not None for each in managed)
    _state.unenforced = Unenforced(_logger, without_effect(new, converted, has_countries))
    for each in managed:
        _push(each)


def _push(managed: _Managed) -> None:
    """Have a manager ask for rules now, on its own loop; a loop that has ended is passed over."""
    if managed.loop.is_closed() or _state.rules is None:
        return
    update = request_following.detached(managed.manager.force_update)
    try:
        asyncio.run_coroutine_threadsafe(update, managed.loop)
    except RuntimeError:  # it was closed since
        update.close()


def _after_fork_in_child() -> None:
    _state.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
