"""Where this process's rules come from: the delivery's transport where there is a delivery, else one of their own."""

from __future__ import annotations

import logging

from ..delivery import registry
from ..delivery.calls import Call, tell
from ..delivery.carrier import breaker_policy
from ..delivery.identity import state_directory
from ..delivery.outcome import Outcome
from ..delivery.route import Route, RouteName
from ..delivery.transport import HTTPTransport, Transport
from ..queue.base import Batch
from ..settings.delivery import GuardConfig
from ..settings.once import log_once
from ..settings.setting import SettingError
from .link import Link, Trust

__all__ = ["link", "state_directory"]

_logger = logging.getLogger(__name__)

_own: tuple[GuardConfig, Link] | None = None  # of the last settings; replaced as a whole


def link() -> Link | None:
    """Return what the settings of this moment lead to; None while there is no API key, or a setting is wrong.

    An exporter that was given its settings in code lends them where the
    environment has no key and there is no doubt which one.
    """
    try:
        config = GuardConfig.resolve()
    except SettingError as error:
        log_once(_logger, logging.ERROR, f"dynamic rules are switched off: {error}")
        return None
    delivery = registry.find(config.destination)
    if delivery is None and not config.api_key:
        deliveries = registry.everyone()
        delivery = deliveries[0] if len(deliveries) == 1 else None
    if delivery is not None and delivery.can_call:
        return _joined(delivery.config, delivery.transport, delivery.route("rules"))
    return _link_of(config) if config.api_key else None


def _link_of(config: GuardConfig) -> Link:
    global _own
    if _own is None or _own[0] != config:
        if _own is not None:
            _own[1].transport.close()
        transport, destination = HTTPTransport(config), config.destination

        def observe(route: RouteName, seconds: float, outcome: Outcome, batch: Batch | None) -> None:
            tell(Call(destination, route, outcome, seconds, batch))

        _own = config, _joined(config, transport, Route("rules", breaker_policy(config), observe))
    return _own[1]


def _joined(config: GuardConfig, transport: Transport, route: Route) -> Link:
    if not isinstance(transport, HTTPTransport):
        # The user's own: what it brings is as good as the user's code.
        return Link(config.destination, transport, route)
    trust = Trust(config.signing_secret, config.signed_rules_only)
    return Link(config.destination, transport, route, trust, transport if config.rules_stream else None)
