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
        """Ban a client at its `auto_ban_threshold`-th offence; emergency mode halves that, as in fastapi-guard.

        Args:
            rules: which are in force.
            address: of the client.
            client: the name by which it is counted and banned.
            path: of the request.
            reason: why it is an offence, in words.
        """
        if not bans_automatically(rules) or not rules.auto_ban_threshold or not address:
            return
        threshold = max(1, rules.auto_ban_threshold // 2) if rules.emergency_mode else rules.auto_ban_threshold
        duration = rules.auto_ban_duration or rules.ip_ban_duration
        if duration > 0 and not self._is_spared(address) and self.bans.offend(client, threshold, duration):
            self._emit(
                event_type="ip_banned",
                ip_address=address,
                action_taken="banned",
                reason=f"{threshold} offences, the last one: {reason}",
                endpoint=path,
                rule_type="auto_ban_threshold",
                metadata={**identity(rules), "rule": "auto_ban_threshold", "duration": duration},
            )

    def _is_spared(self, address: str) -> bool:
        """Whether a client is never banned automatically, because everybody else may have its address."""
        if not (is_private(address) or is_trusted(address, self._trusted)):
            return False
        log_once(
            _logger,
            logging.WARNING,
            f"{address} offends against dynamic rules, and is not banned: loopback, private and trusted "
            "addresses are never banned automatically. If it is a proxy, set OTEL_PYTHON_GUARD_TRUSTED_PROXIES, so "
            "that the client behind it is known",
            cause="an offender that is not banned",
        )
        return True


def bans_automatically(rules: DynamicRules) -> bool:
    """Whether rules ban whoever offends often enough."""
    return rules.enable_ip_banning is not False and bool(rules.auto_ban_threshold)


def identity(rules: DynamicRules) -> dict[str, object]:
    """Return what says in an event which rules were in force."""
    return {"rule_id": rules.rule_id, "rule_version": rules.version}
