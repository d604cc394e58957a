"""What the contract's types of events mean: how severe each is, and which behaviour of a client it shows.

The one table of severities: log records, threat scores and every mapping into
other people's words are derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

ATTACK = "attack"
"""A request that carries an attack, or looks like one."""
LOGON = "logon"
"""Somebody fails to show who he is."""
FLOODING = "flooding"
"""More requests than are allowed."""
REFUSED = "refused"
"""A client that is turned away for where it comes from, what it is, or what was decided about it."""
MISUSE = "misuse"
"""A request against a rule of the application."""
PATTERN = "pattern"
"""What several requests of a client show together."""
OPERATION = "operation"
"""No client's behaviour: the guard itself."""


class Meaning(NamedTuple):
    """What a type of events means: `severity` from 0 to 10, as CEF counts, and the `behavior` that it shows."""

    severity: int
    behavior: str


KNOWN: Mapping[str, Meaning] = {
    "penetration_attempt": Meaning(8, ATTACK),
    "pattern_detected": Meaning(6, ATTACK),
    "suspicious_request": Meaning(6, ATTACK),
    "content_filtered": Meaning(5, ATTACK),
    "decoding_error": Meaning(3, ATTACK),
    "authentication_failed": Meaning(5, LOGON),
    "rate_limited": Meaning(4, FLOODING),
    "ip_banned": Meaning(6, REFUSED),
    "ip_blocked": Meaning(5, REFUSED),
    "country_blocked": Meaning(5, REFUSED),
    "cloud_blocked": Meaning(5, REFUSED),
    "user_agent_blocked": Meaning(5, REFUSED),
    "emergency_mode_block": Meaning(5, REFUSED),
    "access_denied": Meaning(5, MISUSE),
    "dynamic_rule_violation": Meaning(5, MISUSE),
    "decorator_violation": Meaning(5, MISUSE),
    "custom_request_check": Meaning(4, MISUSE),
    "csp_violation": Meaning(4, MISUSE),
    "https_enforced": Meaning(2, MISUSE),
    "behavioral_violation": Meaning(6, PATTERN),
    "security_bypass": Meaning(7, OPERATION),
    "emergency_mode_activated": Meaning(8, OPERATION),
    "ip_ban_failed": Meaning(7, OPERATION),
    "redis_error": Meaning(7, OPERATION),
    "detection_engine_callback_error": Meaning(7, OPERATION),
    "geo_lookup_failed": Meaning(3, OPERATION),
    "pattern_anomaly_slow_execution": Meaning(3, OPERATION),
    "pattern_anomaly_timeout": Meaning(3, OPERATION),
    "pattern_anomaly_statistical_anomaly": Meaning(3, OPERATION),
    "ip_unbanned": Meaning(1, OPERATION),
    "redis_connection": Meaning(1, OPERATION),
    "rate_limit_script_reloaded": Meaning(1, OPERATION),
    "dynamic_rule_applied": Meaning(1, OPERATION),
    "dynamic_rule_updated": Meaning(1, OPERATION),
    "path_excluded": Meaning(1, OPERATION),
    "route_unresolved": Meaning(1, OPERATION),
    "pattern_added": Meaning(1, OPERATION),
    "pattern_removed": Meaning(1, OPERATION),
    "security_headers_applied": Meaning(1, OPERATION),
}
"""The types that the contract names."""

TEST_EVENT = "doctor_test"
"""The type of the event that ``opentelemetry-guard doctor`` sends: nothing has happened, so no statistics count it."""

_UNKNOWN_SEVERITY = 5


def meaning_of(event_type: str) -> Meaning:
    """Return what a type of events means; a type of the application's own is a behaviour of its own."""
    return KNOWN.get(event_type) or Meaning(_UNKNOWN_SEVERITY, event_type)


BANDS: Mapping[str, tuple[int, int]] = {"high": (7, 10), "medium": (4, 6), "low": (0, 3)}
"""Words for severities, and the lowest and highest of each; CEF divides its ten likewise."""


def band_of(severity: int) -> str:
    """Put a word to a severity from 0 to 10: a name of `BANDS`."""
    return next(name for name, (low, high) in BANDS.items() if low <= severity <= high)


_BLOCKING_WORDS = ("block", "ban", "den", "reject", "limited", "throttl", "drop")
_HARMLESS_WORDS = ("log", "unban", "unblock", "allow", "not_applied")


@lru_cache(maxsize=256)
def is_blocking(action: str) -> bool:
    """Whether an action word means that the request didn't get through, for example ``request_blocked``."""
    word = action.lower()
    return any(part in word for part in _BLOCKING_WORDS) and not any(part in word for part in _HARMLESS_WORDS)
