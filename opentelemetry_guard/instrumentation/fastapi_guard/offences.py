"""Attacks that our signatures and the analysis of behaviour find, as offences toward fastapi-guard's automatic ban.

What guard-core detects, it counts by itself. What it does not detect, or is not asked to, it hears of here: at the
`auto_ban_threshold`-th such request of a client within an hour, its ban is asked to hold that client.
"""

from __future__ import annotations

import logging
from typing import Any, cast
from weakref import WeakKeyDictionary

from ...decision.addresses import subscriber
from ...events import incident
from ...events.client_address import Network, client_address
from ...rules.bans import Bans
from ...rules.offences import is_spared
from ...settings.instrumentation import GuardOptions
from ..http.following import Scope
from ..http.signatures import RULE
from ..patching import unexpected
from . import release as guard_release

_logger = logging.getLogger(__name__)

_offences: WeakKeyDictionary[Any, Bans] = WeakKeyDictionary()
"""The offences of each middleware's clients; it bans by guard-core's ban and not by this one."""


async def count(middleware: Any, scope: Scope, options: GuardOptions) -> None:
    """Count an offence where the answered request was one, and ban its client when it is time; never raises.

    Args:
        middleware: fastapi-guard's, through which the request went.
        scope: of the request.
        options: `trusted_proxies` and `ipv6_prefix` of it.
    """
    events = incident.of(scope)
    reason = incident.offence(events, by_rule=RULE) if events else None
    if reason is None:
        return
    try:
        config = middleware.config
        if not getattr(config, "enable_ip_banning", False):
            return
        trusted = (*options.trusted_proxies, *_proxies(config))
        address = client_address(scope, trusted)
        if not address or is_spared(address, trusted):
            return
        client = subscriber(address, options.ipv6_prefix)
        offences = _offences.setdefault(middleware, Bans())
        if offences.offend(client, config.auto_ban_threshold, config.auto_ban_duration):
            bans = guard_release.core("handlers.ipban_handler").ip_ban_manager
            banned = client if hasattr(bans, "banned_networks") else address
            await bans.ban_ip(banned, config.auto_ban_duration, reason)
    except Exception as error:  # noqa: BLE001  the client has its answer, and other releases have other parts
        unexpected(_logger, "an attack could not be counted toward fastapi-guard's ban", error)


def _proxies(config: Any) -> tuple[Network, ...]:
    given = tuple(getattr(config, "trusted_proxies", None) or ())
    return cast("tuple[Network, ...]", GuardOptions.read("trusted_proxies", given)) if given else ()
