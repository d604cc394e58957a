"""The detectors that are switched on, for one kind of client: addresses, or user ids."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from ...settings.behavior_rules import BehaviorRules
from .logins import AttemptDetector, LoginDetector
from .rates import EVERYONE, ErrorDetector, Numbers, RateDetector
from .scanning import EnumerationDetector, ScanDetector
from .sightings import Finding, Sighting
from .sliding import Clock, Table, Windows

Touch = Callable[[tuple[Windows, ...], bytes], None]
"""Notes that a client's counts have changed, so that other processes are told."""

HEAVY = 40
"""Requests of a client in a window from which on the objects that it finds are told apart."""
_SHARED_EVERY = 8
"""Requests of a client after which other processes are told how many there are."""
_NOTHING: Sequence[Finding] = ()


class Detectors:
    """The detectors of one kind of client; `judge` gives each what it has to know."""

    def __init__(self, rules: BehaviorRules, clock: Clock, max_clients: int, *, of_users: bool) -> None:
        table = Table(max_clients)
        self._logins: LoginDetector | None = None
        self._attempts: AttemptDetector | None = None
        self._scans: ScanDetector | None = None
        self._objects: EnumerationDetector | None = None
        self._errors: ErrorDetector | None = None
        self.rates: RateDetector | None = None
        self._table = table
        if rules.failed_logins:
            self._logins = LoginDetector(rules.failed_logins, clock, max_clients, of_users=of_users)
            if not of_users:
                self._attempts = AttemptDetector(rules.failed_logins, clock, max_clients)
        if rules.scanning:
            self._scans = ScanDetector(rules.scanning, clock, max_clients, self.requests)
        if rules.enumeration:
            self._objects = EnumerationDetector(rules.enumeration, clock, max_clients)
        if rules.request_rate:
            self.rates = RateDetector(rules.request_rate, clock, table, shared=not of_users)
        if rules.error_ratio:
            self._errors = ErrorDetector(rules.error_ratio, clock, table)

        self._numbers = None if self.rates is None or self._errors is None else Numbers(table, self.rates, self._errors)
        self._attempting: Container[bytes] = () if self._attempts is None else self._attempts.suspects
        self._missing: Container[bytes] = () if self._objects is None else self._objects.suspects

    def windows(self) -> list[Windows]:
        """Return all windows whose counts other processes may add to, always in the same order."""
        found: list[Windows] = []
        for detector in (self._logins, self._scans, self._objects):
            if detector is not None:
                found += detector.all_windows
        found += [each.windows for each in (self._attempts, self.rates, self._errors) if each is not None]
        return found if self._errors is None else [*found, self._errors.all_windows]

    def judge(self, key: bytes, seen: Sighting, touch: Touch | None) -> tuple[list[Finding], int]:
        """Count a request of a client.

        Returns:
            What is conspicuous, the most specific first, and how many requests the client has in the current window.
        """
        findings: list[Finding] = []
        if self._logins is not None and seen.is_login:
            _note(findings, self._logins.judge(key, seen))
            _touched(touch, self._logins, key)
        if self._attempts is not None and (seen.is_login or key in self._attempts.suspects):
            _note(findings, self._attempts.judge(key, seen))
            if touch is not None and seen.is_login and key in self._attempts.suspects:
                touch((self._attempts.windows,), key)
        if self._scans is not None and seen.status >= 400:
            _note(findings, self._scans.judge(key, seen))
            _touched(touch, self._scans, key)
        if self._objects is not None and (seen.status >= 400 or key in self._objects.suspects):
            _note(findings, self._objects.judge(key, seen))
            if seen.status >= 400 and self._objects.concerns(seen):
                _touched(touch, self._objects, key)
        return findings, self._judge_numbers(key, seen, findings, touch)

    def passed(
        self, key: bytes, status: int, head: int, named: bool, touch: Touch | None
    ) -> tuple[Sequence[Finding], int]:
        """Do what `judge` does of a request that went well and was no login, of which only numbers are counted.

        Args:
            key: of the client.
            status: of the answer, below 400.
            head: a hash of who is behind an address: the user id, else the user agent.
            named: whether the application has named the user.
            touch: notes what has changed.

        Returns:
            What `judge` does.
        """
        numbers, rates, errors = self._numbers, self.rates, self._errors
        if numbers is None or rates is None or errors is None or key in self._attempting or key in self._missing:
            return self.judge(key, Sighting(status, head, named), touch)
        number = numbers.add(key, head, named)
        finding = None
        if number == 0:
            row = self._table.row(key)
            number = rates.count(row, head, named)
            finding = rates.judge(row)
            errors.passed(row)
        if touch is not None and number % _SHARED_EVERY == 0:
            touch((rates.windows,), key)
        return _NOTHING if finding is None else (finding,), number

    def _judge_numbers(self, key: bytes, seen: Sighting, findings: list[Finding], touch: Touch | None) -> int:
        if self.rates is None and self._errors is None:
            return 0
        row = self._table.row(key)
        number = 0
        if self.rates is not None:
            number = self.rates.count(row, seen.head, seen.named)
            _note(findings, self.rates.judge(row))
            if touch is not None and number % _SHARED_EVERY == 0:
                touch((self.rates.windows,), key)
        if self._errors is not None:
            _note(findings, self._errors.judge(row, seen))
            if touch is not None and seen.status >= 400:
                touch((self._errors.windows,), key)
                touch((self._errors.all_windows,), EVERYONE)
        return number

    def found(self, key: bytes, thing: int, touch: Touch | None) -> Finding | None:
        """Count an object that was found by a client which asks much (`HEAVY`)."""
        if self._objects is None or self.rates is None:
            return None
        row = self._table.row(key)
        _touched(touch, self._objects, key)
        return self._objects.found(key, thing, self.rates.clients(row))

    def is_mostly_missing(self, key: bytes) -> bool:
        """Whether a client hardly finds the objects that it looks for, after `judge`."""
        return self._objects is not None and self._objects.is_mostly_missing(key)

    def requests(self, key: bytes) -> float:
        """Return how many requests a client has sent within the last minute, 0 where nobody counts."""
        row = self._table.peek(key)
        return 0.0 if row is None or self.rates is None else self.rates.requests(row)


def _note(findings: list[Finding], finding: Finding | None) -> None:
    if finding is not None:
        findings.append(finding)


def _touched(touch: Touch | None, detector: LoginDetector | ScanDetector | EnumerationDetector, key: bytes) -> None:
    if touch is not None and key in detector.suspects:
        touch(detector.all_windows, key)
