"""What clients do over time: who conspicuously fails to log in, scans, floods or fails becomes an event.

Usage::

    analyzer = BehaviorAnalyzer({"failed_logins": {"failures": 20}, "scanning": None})
    for fields in analyzer.observe(answered, time.monotonic()):
        emit_event(**fields)

The rules are data (`settings.behavior_rules`), the detectors count in tables
of bounded size (`sliding`), and this module gives each client its detectors
and makes one event of each incident: what goes on, or is explained by another
incident, is folded and counted.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...settings.behavior_rules import BehaviorRules
from ...settings.instrumentation import DEFAULT_IPV6_PREFIX
from ...settings.login_rules import Logins
from ..http.answers import AnsweredRequest
from ..http.logins import LoginJudge
from ..http.reports import FOLDED
from .detectors import (
    DISTRIBUTED,
    ERROR_RATIO,
    FAILED_LOGINS,
    REQUEST_RATE,
    SCANNING,
    ErrorDetector,
    Explanation,
    Finding,
    LoginDetector,
    RateDetector,
    ScanDetector,
    Sighting,
)
from .keys import address_key, fingerprint, is_ipv6, mark, resource, user_key
from .sliding import Clock, Table

EVENT_TYPE = "behavioral_violation"

_USER_SHARE = 4
_INCIDENT_SHARE = 16

_SPECIFIC_FIRST = (FAILED_LOGINS, SCANNING, REQUEST_RATE, ERROR_RATIO)
_LOGINS = Logins()
_SUFFIXES = {detector: b"!" + detector.encode() for detector in _SPECIFIC_FIRST}
_BEHIND_ERRORS = _SPECIFIC_FIRST[:-1]


class BehaviorAnalyzer:
    """Counts the answered requests of each client and tells what is conspicuous, once for each incident.

    The lock guards all tables and the clock; it is held for arithmetic and look-ups only, a few microseconds.
    """

    def __init__(
        self,
        rules: Mapping[str, object] | None = None,
        ipv6_prefix: int = DEFAULT_IPV6_PREFIX,
        logins: Logins | None = _LOGINS,
    ) -> None:
        """Build an analyzer that knows no client yet.

        Args:
            rules: changes to `BehaviorRules`, as a JSON object has them.
            ipv6_prefix: bits of an IPv6 address that tell one client from another.
            logins: what a login is and when one has failed; None where only the application says it.

        Raises:
            ValueError: a rule or a value is not one that there is.
        """
        self.rules = BehaviorRules.resolve(rules)
        self._ipv6_prefix = ipv6_prefix
        self._logins = LoginJudge(logins)
        self._lock = threading.Lock()
        self._clock = Clock()
        users = max(self.rules.max_clients // _USER_SHARE, 16)
        self._addresses = _Detectors(self.rules, self._clock, self.rules.max_clients, of_users=False)
        self._users = _Detectors(self.rules, self._clock, users, of_users=True)
        incidents = max(self.rules.max_clients // _INCIDENT_SHARE, 16)
        self._incidents = _Incidents(self.rules.cooldown, self._clock, incidents)
        _analyzers.add(self)

    def observe(self, answered: AnsweredRequest, now: float) -> Sequence[dict[str, object]]:
        """Count a request and return the fields of the events that it completes, nearly always none.

        Args:
            answered: the request.
            now: seconds of any clock; one that is set back or makes no sense stands still for that request.
        """
        address = address_key(answered.address, self._ipv6_prefix)
        user = None if answered.user is None else user_key(answered.user)
        seen = self._sighted(answered, address, user)
        told: list[_Told] = []
        with self._lock:
            self._clock.advance(now)
            if address is not None:
                for finding in self._addresses.judge(address, seen):
                    self._tell(told, finding, _Client(address, None, is_user=False))
            if user is not None:
                for finding in self._users.judge(user, seen):
                    self._tell(told, finding, _Client(user, address, is_user=True))
        return [_fields(answered, one, self.rules.cooldown, self._ipv6_prefix) for one in told] if told else ()

    def _sighted(self, answered: AnsweredRequest, address: bytes | None, user: bytes | None) -> Sighting:
        """Return what the detectors look at; what only failures are asked for is made for failures only."""
        status = answered.status_code
        head = fingerprint(answered.user_agent) if user is None else mark(user)
        login = self._logins.judge(answered)
        if status < 400 and not login.failed:
            return Sighting(status, head)
        return Sighting(
            status,
            head,
            fingerprint(resource(answered.route, answered.path)),
            None if address is None else mark(address),
            None if user is None else mark(user),
            login.failed,
            login.is_login,
        )

    def _tell(self, told: list[_Told], finding: Finding, client: _Client) -> None:
        """Add a finding to what is told, unless it belongs to an incident that was told within the cool-down."""
        address = None if finding.pattern == DISTRIBUTED else client.address
        for other in _explaining(client.key, finding.detector, address):
            if self._incidents.fold(other):
                return
        folded = self._incidents.admit(_incident(client.key, finding.detector))
        if folded is not None:
            told.append(_Told(finding, finding.explain(), client, folded))


class _Client(NamedTuple):
    """The key of an address or a user id; `address` is the key of the one that the user's request came from."""

    key: bytes
    address: bytes | None
    is_user: bool


class _Told(NamedTuple):
    """A finding that becomes an event, and how many more the event before it stands for."""

    finding: Finding
    explanation: Explanation
    client: _Client
    folded: int


class _Detectors:
    """The detectors that are switched on, for one kind of client."""

    def __init__(self, rules: BehaviorRules, clock: Clock, max_clients: int, *, of_users: bool) -> None:
        self._clients = Table(max_clients)
        self._of_suspects: list[LoginDetector | ScanDetector] = []
        self._rate: RateDetector | None = None
        self._errors: ErrorDetector | None = None
        if rules.failed_logins:
            self._of_suspects.append(LoginDetector(rules.failed_logins, clock, max_clients, of_users=of_users))
        if rules.scanning:
            self._of_suspects.append(ScanDetector(rules.scanning, clock, max_clients))
        if rules.request_rate:
            self._rate = RateDetector(rules.request_rate, clock, self._clients, shared=not of_users)
        if rules.error_ratio:
            self._errors = ErrorDetector(rules.error_ratio, clock, self._clients)

    def judge(self, key: bytes, seen: Sighting) -> list[Finding]:
        """Count a request of a client and return what is conspicuous, the most specific first."""
        failed = seen.status >= 400 or seen.failed_login
        findings = [
            finding
            for suspicion in self._of_suspects
            # A success says something about those only who have failed before.
            if (failed or key in suspicion.suspects) and (finding := suspicion.judge(key, seen)) is not None
        ]
        if self._rate is None and self._errors is None:
            return findings
        row = self._clients.row(key)
        if self._rate is not None and (finding := self._rate.judge(row, seen)) is not None:
            findings.append(finding)
        # What is found already explains the errors, which would be folded into it.
        if (
            self._errors is not None
            and (finding := self._errors.judge(row, seen, explained=bool(findings))) is not None
        ):
            findings.append(finding)
        return findings


class _Incidents:
    """The incidents that were told lately."""

    def __init__(self, cooldown: float, clock: Clock, max_incidents: int) -> None:
        """Build a memory of at most `max_incidents` that lasts `cooldown` seconds after each event."""
        self._cooldown = cooldown
        self._clock = clock
        self._table = Table(max_incidents)
        self._until = self._table.reals("d")
        self._folded = self._table.integers()

    def admit(self, incident: bytes) -> int | None:
        """Return how many were folded since the event before, or None where this one is folded too."""
        row = self._table.row(incident)
        if self._clock.now < self._until[row]:
            self._folded[row] += 1
            return None
        self._until[row] = self._clock.now + self._cooldown
        folded = self._folded[row]
        self._folded[row] = 0
        return folded

    def fold(self, incident: bytes) -> bool:
        """Count one more of an incident where it was told within the cool-down, and return whether it was."""
        row = self._table.find(incident)
        if row is None or self._clock.now >= self._until[row]:
            return False
        self._folded[row] += 1
        return True


def _incident(client: bytes, detector: str) -> bytes:
    """Return the key of what one detector finds in one client."""
    return client + _SUFFIXES[detector]


def _explaining(client: bytes, detector: str, address: bytes | None) -> Sequence[bytes]:
    """Return the keys of the incidents that explain a finding, so that it tells nothing new.

    Errors are what failed logins, scans and floods leave behind, and what a user id does from an address is known
    where the address was told.

    Args:
        client: the key of the client with the finding.
        detector: that found it.
        address: the key of the address, where the client is a user id and all that it did can be that address's.
    """
    same = () if address is None else (_incident(address, detector),)
    if detector != ERROR_RATIO:
        return same
    clients = (client,) if address is None else (client, address)
    return *same, *(_incident(one, other) for one in clients for other in _BEHIND_ERRORS)


def _fields(answered: AnsweredRequest, told: _Told, cooldown: float, ipv6_prefix: int) -> dict[str, object]:
    finding, explanation, client, folded = told
    metadata: dict[str, object] = {"detector": finding.detector}
    if finding.pattern:
        metadata["pattern"] = finding.pattern
    metadata["client"] = _kind(client, ipv6_prefix)
    if client.is_user:
        metadata["user"] = answered.user
    metadata |= explanation.evidence
    metadata["cooldown"] = cooldown
    if folded:
        metadata[FOLDED] = folded
    return {
        "event_type": EVENT_TYPE,
        "ip_address": answered.address,
        "user_agent": answered.user_agent or None,
        "action_taken": "logged",
        "reason": explanation.reason,
        "endpoint": answered.route or answered.path,
        "method": answered.method or None,
        "status_code": answered.status_code or None,
        "rule_type": finding.detector,
        "metadata": metadata,
    }


def _kind(client: _Client, ipv6_prefix: int) -> str:
    if client.is_user:
        return "user"
    return f"network (/{ipv6_prefix})" if is_ipv6(client.key) and ipv6_prefix < 128 else "address"


def _renew_locks_in_child() -> None:
    # Another thread of the parent may have held the lock when it forked.
    for analyzer in list(_analyzers):
        analyzer._lock = threading.Lock()


_analyzers: weakref.WeakSet[BehaviorAnalyzer] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks_in_child)
