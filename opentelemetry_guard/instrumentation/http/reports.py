"""What guard-core reports, folded to what happened.

- An incident is told once (`fold`): guard-core reports a detection where it matches and again where it decides, and a
  rate limit from the limiter and again from the rule that asked for it.
- What comes with every request and nobody has to act on is noise: one of a kind a minute, with a count (`NoiseFilter`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Report = dict[str, object]
"""The fields of one event that guard-core sent."""

PERIOD = 60.0
"""Seconds in which one report of a kind passes."""

FOLDED = "folded"
"""Metadata key: how many reports of the same kind were left out since the last one that passed."""

_DECISIONS = ("ip_banned", "penetration_attempt")
_DETECTION = (*_DECISIONS, "pattern_detected")
_RATE_LIMIT = ("rate_limited", "dynamic_rule_violation", "decorator_violation")
_ADDRESS = ("ip_blocked", "access_denied", "decorator_violation", "cloud_blocked", "country_blocked")
_BEHAVIOR_VIOLATIONS = ("behavioral_violation", "behavior_violation")
"""How guard-core calls what its tracker of behaviour has found, since 4 and before."""

_BEHAVIOR = ("ip_banned", *_BEHAVIOR_VIOLATIONS, "decorator_violation")
"""Event types that tell of the same incident, the best account first."""

_RATE_LIMIT_RULES = frozenset({"rate_limit", "geo_rate_limit", "endpoint_rate_limit"})
_RULE_NAMES = ("violation_type", "decorator_type", "rule_type")
_BEHAVIOR_RULES = frozenset({"usage", "frequency", "return_pattern"})
_ADDRESS_RULES = frozenset({"cloud_provider", "ip_restriction", "ip_blacklist", "ip_whitelist", "country"})


def is_about_request(report: Mapping[str, object]) -> bool:
    """Whether a report is about a client, and not about guard-core's own working ("system" or no address)."""
    return report.get("ip_address") not in (None, "", "system")


class Incident(NamedTuple):
    """What happened: the best account of it, completed from the others, and that account's place among the reports."""

    report: Report
    position: int


def fold(reports: Sequence[Report]) -> list[Incident]:
    """Return one report for each incident, in the order of their first reports.

    The best account of an incident is kept; fields and metadata that it
    lacks come from the others. Reports about different addresses are
    different incidents, but what matched is the decision's: before 3.14,
    guard-core reports it of the connection's peer, which may be a proxy.
    """
    told: dict[tuple[object, ...], list[int]] = {}
    decided = next((report.get("ip_address") for report in reports if report.get("event_type") in _DECISIONS), None)
    behavior: tuple[object, ...] | None = None
    for position, report in enumerate(reports):
        incident = _behavior_incident(report, behavior)
        if incident is None:
            incident = _incident(report, decided)
        else:
            behavior = incident
        told.setdefault(incident, []).append(position)
    return [_merged(reports, positions) for positions in told.values()]


def _incident(report: Report, decided: object) -> tuple[object, ...]:
    """Return what two reports of the same incident have in common.

    Args:
        report: one of them.
        decided: the address that a detection has led to a decision about, None where there is none.
    """
    event_type, address = str(report.get("event_type")), str(report.get("ip_address"))
    rule = str(_metadata(report).get("violation_type") or report.get("rule_type"))
    if event_type in _DECISIONS:
        return address, _DETECTION
    if event_type in _DETECTION:
        return str(decided or address), _DETECTION
    if event_type == "rate_limited" or (event_type in _RATE_LIMIT and rule in _RATE_LIMIT_RULES):
        return address, _RATE_LIMIT
    if event_type in _ADDRESS and (event_type != "decorator_violation" or rule in _ADDRESS_RULES):
        return address, _ADDRESS
    return address, event_type, rule


def _behavior_incident(report: Report, before: tuple[object, ...] | None) -> tuple[object, ...] | None:
    """Return what the reports of one violated rule of behaviour have in common, None for another report.

    The decorator tells of the violation, the ban of what it led to, the tracker of both.

    Args:
        report: one of them.
        before: the incident of the last report of this kind, which a ban belongs to.
    """
    event_type, address = report.get("event_type"), str(report.get("ip_address"))
    metadata = _metadata(report)
    # Each release and each reporter has its own place for it.
    told = (source.get(name) for source in (metadata, report) for name in _RULE_NAMES)
    rule = next((name for name in told if isinstance(name, str) and name in _BEHAVIOR_RULES), None)
    if event_type in _BEHAVIOR_VIOLATIONS or (event_type == "decorator_violation" and rule):
        return address, _BEHAVIOR, rule
    if event_type == "ip_banned" and before is not None and "behavioral_violation" in str(report.get("reason")):
        return before
    return None


def _merged(reports: Sequence[Report], positions: Sequence[int]) -> Incident:
    best, *others = sorted(positions, key=lambda position: _rank(reports[position]))
    merged = dict(reports[best])
    metadata = dict(_metadata(merged))
    for other in (reports[position] for position in others):
        for name, value in other.items():
            if merged.get(name) in (None, ""):
                merged[name] = value
        for key, value in _metadata(other).items():
            metadata.setdefault(key, value)
    merged["metadata"] = metadata
    return Incident(merged, best)


def _rank(report: Report) -> tuple[int, bool]:
    """Return a report's place among those of its incident: the better type first, then who knows the endpoint."""
    event_type = report.get("event_type")
    family = next((family for family in (_DETECTION, _RATE_LIMIT, _ADDRESS, _BEHAVIOR) if event_type in family), ())
    return family.index(str(event_type)) if family else 0, report.get("endpoint") is None


def _metadata(report: Report) -> Mapping[str, object]:
    metadata = report.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


_NOISE = frozenset({"security_headers_applied", "redis_error"})
"""What comes with every request: always, or while fastapi-guard's Redis is away."""


def is_noise(event_type: str) -> bool:
    """Whether reports of this type come in floods that tell nothing new."""
    return event_type in _NOISE or event_type.startswith("pattern_anomaly_")


class NoiseFilter:
    """Lets one report of a kind pass in each period; every other one is in the count of one that passes later.

    The lock guards both dictionaries and is held for look-ups only. There are
    as many entries as kinds of noise, and guard-core knows a handful.
    """

    def __init__(self, period: float = PERIOD, clock: Callable[[], float] = time.monotonic) -> None:
        """Build a filter.

        Args:
            period: seconds.
            clock: tells seconds that never go back.
        """
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._passed_at: dict[str, float] = {}
        self._held: dict[str, tuple[int, Report]] = {}  # how many are folded, and the latest of them

    def admit(self, report: Report) -> Report | None:
        """Return the report as it is to be told, or None where it is folded into a later one of its kind."""
        kind = str(report.get("event_type"))
        now = self._clock()
        with self._lock:
            passed_at = self._passed_at.get(kind)
            folded, _ = self._held.get(kind, (0, report))
            if passed_at is not None and now - passed_at < self._period:
                self._held[kind] = (folded + 1, report)
                return None
            self._passed_at[kind] = now
            self._held.pop(kind, None)
        return counted(report, folded)

    def drain(self) -> list[Report]:
        """Return what is still folded, for the end of an application: the latest of each kind counts the others."""
        with self._lock:
            held, self._held = self._held, {}
        return [counted(report, folded - 1) for folded, report in held.values()]


def counted(report: Report, folded: int) -> Report:
    """Return a report that tells how many others it stands for."""
    return {**report, "metadata": {**_metadata(report), FOLDED: folded}} if folded else report
