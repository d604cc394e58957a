"""Offences of clients toward an automatic ban, as dynamic rules have it: which count, who is spared, what is told."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..decision.addresses import is_private
from ..events.client_address import Network, is_trusted
from ..models import DynamicRules
from ..settings.once import log_once
from .bans import Bans

_logger = logging.getLogger(__name__)


class Offences:
    """Counts the offences of one middleware's clients.

    Attributes:
        bans: that offences have led to.
    """

    def __init__(self, trusted: tuple[Network, ...], emit: Callable[..., None]) -> None:
        """Begin with no offence.

        Args:
            trusted: addresses of proxies.
            emit: takes the fields of an event.
        """
        self.bans = Bans()
        self._trusted = trusted
        self._emit = emit

    def count(self, rules: DynamicRules, address: str, client: str, path: str, reason: str) -> None:
        """Count an offence of a client, and ban it where that is the one of `ban_threshold`.

        Args:
            rules: which are in force.
            address: of the client.
            client: the name by which it is counted and banned.
            path: of the request.
            reason: why it is an offence, in words.
        """
        threshold = ban_threshold(rules)
        if not threshold or not address:
            return
        duration = rules.auto_ban_duration or rules.ip_ban_duration
        if duration > 0 and not is_spared(address, self._trusted) and self.bans.offend(client, threshold, duration):
            self._emit(
                event_type="ip_banned",
                ip_address=address,
                action_taken="banned",
                reason=f"{threshold} offences, the last one: {reason}",
                endpoint=path,
                rule_type="auto_ban_threshold",
                metadata={**identity(rules), "rule": "auto_ban_threshold", "duration": duration},
            )


def is_spared(address: str, trusted: tuple[Network, ...]) -> bool:
    """Whether a client is never banned automatically, because everybody else may have its address; it is said once.

    Args:
        address: of the client.
        trusted: addresses of proxies.
    """
    if not (is_private(address) or is_trusted(address, trusted)):
        return False
    log_once(
        _logger,
        logging.WARNING,
        f"{address} would be banned for its offences, and is not: loopback, private and trusted addresses are never "
        "banned automatically. If it is a proxy, set OTEL_PYTHON_GUARD_TRUSTED_PROXIES, so that the client behind it "
        "is known",
        cause="an offender that is not banned",
    )
    return True


def ban_threshold(rules: DynamicRules) -> int:
    """Return at which offence rules ban a client, 0 for never; emergency mode halves it, as in fastapi-guard."""
    if rules.enable_ip_banning is False or not rules.auto_ban_threshold:
        return 0
    return max(1, rules.auto_ban_threshold // 2) if rules.emergency_mode else rules.auto_ban_threshold


def identity(rules: DynamicRules) -> dict[str, object]:
    """Return what says in an event which rules were in force."""
    return {"rule_id": rules.rule_id, "rule_version": rules.version}
