"""What guard-core makes of dynamic rules, and what has to be done besides so that they go when they are lifted.

What guard-core makes of the rules is guard-core's. It enforces bans, limits,
user agents, patterns, cloud providers, switches and the emergency mode, and
countries where the application has a `geo_ip_handler`. It bans for
`ip_ban_duration` seconds from the moment at which it takes rules over
(without Redis for an hour at most), never bans loopback and trusted proxies,
takes `ip_whitelist` for "lift the ban of", and knows neither
`emergency_whitelist_only` nor `message`.

It leaves in force what rules have banned, and before 4.4 what they have configured. It looks at countries only in
applications that had some to look for at first, and takes no rules whose version went back. Each is put right here.
"""

from __future__ import annotations

import ipaddress
import logging
import time
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from ...models import DynamicRules
from ...privacy import told
from ...settings.once import log_once
from ..patching import AnyFunction
from . import release as guard_release

_logger = logging.getLogger(__name__)

_BASE = "_opentelemetry_guard_base"
"""The attribute of guard-core's manager that holds the configuration of before the first rules."""

_CONFIGURED = (
    "blocked_countries",
    "whitelist_countries",
    "rate_limit",
    "rate_limit_window",
    "endpoint_rate_limits",
    "block_cloud_providers",
    "blocked_user_agents",
    "enable_penetration_detection",
    "enable_ip_banning",
    "enable_rate_limiting",
    "emergency_mode",
    "emergency_whitelist",
    "auto_ban_threshold",
    "auto_ban_duration",
    "enable_rate_limit_auto_ban",
)
"""The fields of `SecurityConfig` that rules change."""

_without_countries: weakref.WeakSet[Any] = weakref.WeakSet()
"""Middlewares that had no reason to look at countries when they were made."""


def without_effect(rules: DynamicRules, converted: Any, has_countries: bool) -> Iterator[str]:
    """Say which parts of rules fastapi-guard doesn't enforce.

    Args:
        rules: the backend's.
        converted: the same in guard-core's form, which leaves out what it doesn't take.
        has_countries: whether an application has a source of countries.
    """
    if rules.message:
        yield "message has no effect in fastapi-guard"
    if rules.emergency_whitelist_only and not rules.emergency_mode:
        yield "emergency_whitelist_only has no effect without emergency_mode, in which nobody else passes anyway"
    for name in ("blocked_countries", "whitelist_countries"):
        if getattr(rules, name) and not has_countries:
            yield f"{name} has no effect: give fastapi-guard's SecurityConfig a geo_ip_handler"
    for name, given in rules:
        taken = getattr(converted, name, None)
        if name == "ip_blacklist_sources":
            continue  # it says of bans where they are from, and asks for nothing
        if isinstance(given, list) and (left_out := [entry for entry in given if entry not in (taken or ())]):
            yield f"{name} has entries that fastapi-guard doesn't take: {', '.join(map(repr, left_out[:10]))[:200]}"


def for_guard_core(rules: DynamicRules) -> Any | None:
    """Return rules in the form of the installed guard-core; None where it refuses them, which is logged."""
    try:
        return guard_release.core("models").DynamicRules.model_validate(rules.model_dump())
    except Exception as error:  # noqa: BLE001  another release may want other fields
        log_once(
            _logger,
            logging.ERROR,
            f"the rules {rules.rule_id!r} version {rules.version} can't be given to fastapi-guard, "
            f"which keeps the ones before: {told(error)}",
            cause=f"rules that guard-core refuses: {rules.rule_id} {rules.version}",
        )
        return None


def share_base(manager: Any, others: Iterable[Any]) -> None:
    """Have a manager go back to the same configuration as those that other loops have for the same application.

    What another loop's rules have done to it is not what it was before them.
    """
    shared = next((vars(other).get(_BASE) for other in others if other.config is manager.config), None)
    vars(manager).setdefault(_BASE, {} if shared is None else shared)


def apply_from_base(original: AnyFunction) -> AnyFunction:
    """Wrap `DynamicRuleManager._apply_rules`: rules are applied to the configuration of before the first ones.

    guard-core does that itself from 4.4 on. Before, what a rule had configured stayed when it was lifted.
    """

    async def _apply_rules(self: Any, rules: Any) -> None:
        base = vars(self).setdefault(_BASE, {})
        present = _configured(self.config)
        if not base:
            # Rules of before a restart, which guard-core has kept, may be in force already.
            base.update(getattr(self, "_active_base_snapshot", None) or present)
        _configure(self.config, base)
        try:
            await original(self, rules)
        except Exception:
            _configure(self.config, present)
            raise

    return _apply_rules


def _configured(config: Any) -> dict[str, Any]:
    return {name: deepcopy(getattr(config, name)) for name in _CONFIGURED if hasattr(config, name)}


def _configure(config: Any, values: Mapping[str, Any]) -> None:
    put: Callable[[str, Any], None] = getattr(config, "_set_prevalidated", partial(setattr, config))
    for name, value in values.items():
        put(name, deepcopy(value))


def enforced_by(middleware: Any) -> None:
    """Note a middleware of fastapi-guard, which looks at countries only where its configuration had some at first.

    One that has looked for them from the beginning needs nothing.
    """
    if getattr(middleware, "geo_ip_handler", None) is None:
        _without_countries.add(middleware)


def _look_at_countries(config: Any, rules: Any | None) -> None:
    """Have an application's middlewares look at countries for as long as rules name some."""
    wanted = bool(getattr(rules, "blocked_countries", ()) or getattr(rules, "whitelist_countries", ()))
    handler = getattr(config, "geo_ip_handler", None)
    for middleware in list(_without_countries):
        if getattr(middleware, "config", None) is config:
            middleware.geo_ip_handler = handler if wanted else None


def make_acceptable(manager: Any, offered: Any | None) -> None:
    """Let a manager take rules whose version went back, which it would ignore.

    guard-core compares id and version only; the backend's word counts.
    """
    present = manager.current_rules
    if present is None or offered is None or offered.rule_id != present.rule_id or offered.version > present.version:
        return
    if offered.model_dump(exclude={"timestamp"}) != present.model_dump(exclude={"timestamp"}):
        manager.current_rules = present.model_copy(update={"version": offered.version - 1})


async def settle(manager: Any, built_in_patterns: Container[str], before: Any | None, after: Any | None) -> None:
    """Take back what the rules before had put in force and the rules after don't have; guard-core leaves it there."""
    if after is before:
        return
    _look_at_countries(manager.config, after)
    bans = guard_release.core("handlers.ipban_handler").ip_ban_manager
    for address in _gone(before, after, "ip_blacklist"):
        await _lift(bans, address)
    if after is not None:
        for address in after.ip_blacklist:
            if "/" in address:
                _ban_network(bans, address, after.ip_ban_duration)
        if after.enable_ip_banning is False:
            await _lift_automatic(bans, after.ip_blacklist)
    patterns = guard_release.core("handlers.suspatterns_handler").sus_patterns_handler
    for pattern in _gone(before, after, "suspicious_patterns"):
        if pattern not in built_in_patterns:
            await patterns.remove_pattern(pattern)


def _gone(before: Any | None, after: Any | None, name: str) -> list[str]:
    kept = set(getattr(after, name, ()))
    return [value for value in getattr(before, name, ()) if value not in kept]


async def _lift(bans: Any, address: str) -> None:
    network = _network(address)
    if network is None:
        return
    if "/" not in address:
        if await bans.is_ip_banned(address):
            await bans.unban_ip(address)
        return
    bans.banned_networks = [entry for entry in getattr(bans, "banned_networks", ()) if entry[0] != network]
    if bans.redis_handler is not None:
        await bans.redis_handler.delete("banned_networks", str(network))


async def _lift_automatic(bans: Any, banned_by_rules: Iterable[str]) -> None:
    """Lift the bans that guard-core has made by itself; those of the rules stay."""
    kept = {_network(address) for address in banned_by_rules}
    addresses = set(bans.banned_ips)
    if bans.redis_handler is not None:
        try:
            addresses.update(await _banned_in_redis(bans.redis_handler))
        except Exception as error:  # noqa: BLE001  what this process knows is lifted without Redis, too
            log_once(_logger, logging.WARNING, f"bans in fastapi-guard's Redis could not be lifted: {told(error)}")
    for address in addresses:
        if _network(address) not in kept:
            await bans.unban_ip(address)


async def _banned_in_redis(redis_handler: Any) -> list[str]:
    prefix = f"{redis_handler.config.redis_prefix}banned_ips:"
    async with redis_handler.get_connection() as connection:
        keys = await connection.keys(f"{prefix}*")
    return [(str(key, "utf-8", "replace") if isinstance(key, bytes) else key).removeprefix(prefix) for key in keys]


def _ban_network(bans: Any, text: str, duration: int) -> None:
    """Put a banned network where guard-core looks, once: with Redis it writes one where nobody reads it."""
    network = _network(text)
    if not hasattr(bans, "banned_networks"):
        log_once(
            _logger,
            logging.WARNING,
            "dynamic rules: this release of fastapi-guard bans no networks, so those in ip_blacklist have no effect; "
            "name single addresses, or use a newer one",
        )
        return
    refused: Callable[[str], object] = getattr(bans, "_self_dos_refusal_reason", _no_reason)
    if network is None or duration <= 0 or refused(text) is not None:
        return
    others: Iterable[tuple[Any, float]] = [entry for entry in bans.banned_networks if entry[0] != network]
    bans.banned_networks = [*others, (network, time.time() + duration)]


def _no_reason(address: str) -> None:
    """Refuse no ban."""


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
