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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from ...events import incident
from ...events.enrichment import CORRELATION_KEY, INCIDENT
from ...settings.behavior_rules import BehaviorRules, Profile
from ...settings.instrumentation import DEFAULT_IPV6_PREFIX
from ...settings.login_rules import Logins
from ..http.answers import AnsweredRequest, PassedRequest, Telling
from ..http.logins import LoginJudge
from ..http.reports import FOLDED
from .campaigns import APPLICATION, CampaignDetector, Learned
from .clients import HEAVY, Detectors, Touch
from .histories import Histories
from .incidents import Chapter, Incidents, key_of
from .keys import address_key, fingerprint, has_objects, is_asset, is_ipv6, kind, mark, resource, user_key
from .scanning import Alike
from .sightings import CAMPAIGN, CAMPAIGN_FLOOD, DISTRIBUTED, FAILED_LOGINS, SUCCESS, Explanation, Finding, Sighting
from .sliding import Clock, Windows
from .usual import Usual

EVENT_TYPE = "behavioral_violation"
SUCCESS_EVENT_TYPE = "penetration_attempt"
"""The type of the most severe incident: somebody who guessed has come in."""

_USER_SHARE = 4
_INCIDENT_SHARE = 16
_LOGINS = Logins()
_CLIENTS = "clients"
_ABSURD = 1e12
_READS = ("GET", "HEAD", "")


class BehaviorAnalyzer:
    """Counts the answered requests of each client and tells what is conspicuous, once for each incident.

    The lock guards all tables and the clock; it is held for arithmetic and look-ups only, a few microseconds.
    """

    def __init__(
        self,
        rules: Mapping[str, object] | None = None,
        ipv6_prefix: int = DEFAULT_IPV6_PREFIX,
        logins: Logins | None = _LOGINS,
        *,
        profile: Profile = "balanced",
        epoch: float = 0.0,
    ) -> None:
        """Build an analyzer that knows no client yet.

        Args:
            rules: changes to `BehaviorRules`, as a JSON object has them.
            ipv6_prefix: bits of an IPv6 address that tell one client from another.
            logins: what a login is and when one has failed; None where only the application says it.
            profile: whose rules are changed.
            epoch: seconds at which time begins here; processes that share counts give the time of the world.

        Raises:
            ValueError: a rule or a value is not one that there is.
        """
        self.rules = BehaviorRules.resolve(rules, profile)
        self._ipv6_prefix = ipv6_prefix
        self._logins = LoginJudge(logins)
        self.is_login = self._logins.is_login
        self.lock = threading.Lock()
        self._clock = Clock(epoch)
        self.touch: Touch | None = None
        users = max(self.rules.max_clients // _USER_SHARE, 16)
        self._addresses = Detectors(self.rules, self._clock, self.rules.max_clients, of_users=False)
        self._users = Detectors(self.rules, self._clock, users, of_users=True)
        self.campaigns = CampaignDetector(self.rules.campaign, self._clock) if self.rules.campaign else None
        self._minutes = () if self.campaigns is None else (self.campaigns.minutes,)
        # Requests of an address in a window below which nothing but numbers is looked at.
        self._fewest = HEAVY if self.campaigns is None else min(HEAVY, self.campaigns.rule.busy)
        self._alike = Alike(self.rules.scanning, self._clock) if self.rules.scanning else None
        incidents = max(self.rules.max_clients // _INCIDENT_SHARE, 16)
        self._incidents = Incidents(self.rules.cooldown, self.rules.update, self._clock, incidents)
        _analyzers.add(self)

    def windows(self) -> list[Windows]:
        """Return all windows whose counts other processes may add to, always in the same order."""
        ours = [] if self.campaigns is None else [*self.campaigns.all_windows, self.campaigns.minutes]
        return [*self._addresses.windows(), *self._users.windows(), *ours]

    def learned(self) -> Learned:
        """Return what is usual in the application and for its busiest clients, to be kept over a restart."""
        kept: Learned = {} if self.campaigns is None else dict(self.campaigns.learned)
        rates = self._addresses.rates
        if rates is not None and rates.application_learned:
            kept[_CLIENTS] = (*rates.application, rates.application_learned)
        for sort, histories in self._histories():
            kept.update((f"{sort} {name}", history) for name, history in histories.kept().items())
        return kept

    def name_clients(self, name: Callable[[bytes], str]) -> None:
        """Keep what is usual for clients over a restart as well, under the names that `name` makes of their keys."""
        for _, histories in self._histories():
            histories.name = name

    def _histories(self) -> list[tuple[str, Histories]]:
        sorts = ("address", self._addresses.rates), ("user", self._users.rates)
        return [(sort, rates.histories) for sort, rates in sorts if rates is not None]

    def learn(self, kept: object) -> None:
        """Take what was kept, where nothing is known yet; what makes no sense is left out."""
        sound = {name: value for name, value in kept.items() if _is_usual(value)} if isinstance(kept, dict) else {}
        rates = self._addresses.rates
        if _CLIENTS in sound and rates is not None and not rates.application_learned:
            mean, deviation, rates.application_learned = sound[_CLIENTS]
            rates.application = Usual(mean, deviation)
        if self.campaigns is not None:
            self.campaigns.learned = sound
        for sort, histories in self._histories():
            histories.take(
                (name.removeprefix(f"{sort} "), (value[0], value[1], value[2]))
                for name, value in sound.items()
                if name.startswith(f"{sort} ")
            )

    def requests(self, address: str) -> float:
        """Return how many requests a client has sent within the last minute, 0 where that isn't known."""
        key = address_key(address, self._ipv6_prefix)
        with self.lock:
            return 0.0 if key is None else self._addresses.requests(key)

    def observe(self, answered: AnsweredRequest, now: float) -> Sequence[dict[str, object]]:
        """Count a request and return the fields of the events that it completes, nearly always none.

        Args:
            answered: the request.
            now: seconds of any clock; one that is set back or makes no sense stands still for that request.
        """
        return self.tell(self.told(answered, now), answered)

    def tell(self, told: Sequence[Told], answered: AnsweredRequest) -> Sequence[dict[str, object]]:
        """Return the fields of the events that are to be told with a request."""
        return [one.fields(answered, self.rules.cooldown) for one in told] if told else ()

    def told(self, answered: AnsweredRequest, now: float) -> list[Told]:
        """Count a request and return what is to be told of incidents with it, nearly always nothing."""
        address = address_key(answered.address, self._ipv6_prefix)
        user = None if answered.user is None else user_key(answered.user)
        seen = self._sighted(answered, address, user)
        told: list[Told] = []
        with self.lock:
            self._clock.advance(now)
            if seen.place and seen.address is not None and self._alike is not None:
                seen = seen._replace(alike=self._alike.add(seen.place, seen.address))
            if address is not None:
                findings, number = self._addresses.judge(address, seen, self.touch)
                self._judge_address(
                    told, address, seen, findings, number, answered.route, answered.path, crawler=answered.crawler
                )
            if user is not None:
                for finding in self._users.judge(user, seen, self.touch)[0]:
                    self._tell(told, finding, _Client(user, address, "user"))
        return told

    def passed(self, request: PassedRequest, now: float) -> Telling | None:
        """Count a request that means nothing by itself, as `observe` does.

        Args:
            request: one for which `is_login` is False.
            now: seconds of any clock, as in `observe`.

        Returns:
            What tells the fields of the events that it completes; None for nearly all requests.
        """
        told = self.counted(request, now)
        return partial(self.tell, told) if told else None

    def counted(self, request: PassedRequest, now: float) -> Sequence[Told]:
        """Do what `told` does, with what `passed` is given."""
        address, user_id, head, status, route, path = request
        key = address_key(address, self._ipv6_prefix)
        user = None
        if user_id is not None:
            user = user_key(user_id)
            head = mark(user)
        told: Sequence[Told] = ()
        touch = self.touch
        with self.lock:
            self._clock.advance(now)
            if key is not None:
                findings, number = self._addresses.passed(key, status, head, user is not None, touch)
                if findings or number >= self._fewest:
                    told = []
                    seen = Sighting(status, head, user is not None)
                    self._judge_address(told, key, seen, [*findings], number, route, path, crawler=False)
                elif self.campaigns is not None:
                    self.campaigns.count()
                    if touch is not None:
                        touch(self._minutes, APPLICATION)
            if user is not None:
                for finding in self._users.passed(user, status, head, True, touch)[0]:
                    told = [*told]
                    self._tell(told, finding, _Client(user, key, "user"))
        return told

    def _judge_address(
        self,
        told: list[Told],
        address: bytes,
        seen: Sighting,
        findings: list[Finding],
        number: int,
        route: str | None,
        path: str,
        *,
        crawler: bool,
    ) -> None:
        is_found = number >= HEAVY and seen.status < 400 and not seen.named and has_objects(route)
        if is_found and not crawler:
            thing = fingerprint(path)
            if (finding := self._addresses.found(address, thing, self.touch)) is not None:
                findings.append(finding)
        if crawler:  # it reads all that there is, and what was there once
            findings = [finding for finding in findings if finding.detector == FAILED_LOGINS]
        # First the campaign, of which the address may be a part.
        elif self.campaigns is not None:
            for finding in self._judge_application(self.campaigns, address, seen, number, path):
                self._note_offence(finding)
                self._tell(told, finding, _Client(APPLICATION, None, "application"))
        for finding in findings:
            self._note_offence(finding)
            noun = f"network (/{self._ipv6_prefix})" if is_ipv6(address) and self._ipv6_prefix < 128 else "address"
            self._tell(told, finding, _Client(address, None, noun))

    def _note_offence(self, finding: Finding) -> None:
        if finding.detector in self.rules.offences and finding.pattern != CAMPAIGN_FLOOD:
            incident.note_offence(f"{finding.detector} {finding.pattern}".strip().replace("_", " "))

    def _judge_application(
        self, campaigns: CampaignDetector, address: bytes, seen: Sighting, number: int, path: str
    ) -> list[Finding]:
        campaigns.count()
        found: list[Finding | None] = []
        rule = campaigns.rule
        if seen.is_login:
            found.append(campaigns.login(mark(address), seen))
        if seen.status == 404 and not seen.thing and not is_asset(path):
            found.append(campaigns.missing(mark(address), seen))
        if seen.status == 404 and seen.thing and self._addresses.is_mostly_missing(address):
            found.append(campaigns.missing_object(mark(address), seen))
        if number >= rule.busy and seen.status < 400:
            found.append(campaigns.busy(mark(address)))
        if self.touch is not None:
            self.touch((*campaigns.all_windows, campaigns.minutes) if found else (campaigns.minutes,), APPLICATION)
        return [finding for finding in found if finding is not None]

    def _sighted(self, answered: AnsweredRequest, address: bytes | None, user: bytes | None) -> Sighting:
        """Return what the detectors look at; what only failures are asked for is made for failures only."""
        status = answered.status_code
        head = fingerprint(answered.user_agent) if user is None else mark(user)
        login = self._logins.judge(answered)
        if status < 400 and not login.failed:
            return Sighting(status, head, user is not None, is_login=login.is_login)
        return Sighting(
            status,
            head,
            user is not None,
            fingerprint(kind(resource(answered.route, answered.path))) or 1,
            (fingerprint(answered.path) or 1) if has_objects(answered.route) else 0,
            None if address is None else mark(address),
            None if user is None else mark(user),
            answered.credentials[1],
            login.is_login or login.failed,
            login.failed,
            answered.method not in _READS,
        )

    def _tell(self, told: list[Told], finding: Finding, client: _Client) -> None:
        """Add a finding to what is told, unless it belongs to an incident that was told."""
        if finding.detector != CAMPAIGN and finding.pattern != SUCCESS:
            if client.kind != "user" and self._incidents.fold_into_campaign(APPLICATION, finding.detector):
                return
            # What a user id does from an address is known where the address was told.
            its_own = client.address is None or finding.pattern == DISTRIBUTED
            if not its_own and self._incidents.fold(client.address or b"", finding.detector):
                return
        # Who comes in is an address and a user id, and that is told once.
        elif client.kind == "user" and self._incidents.fold(key_of(client.address or b"", finding)):
            return
        chapter = self._incidents.admit(client.key, finding)
        if chapter is not None:
            told.append(Told(finding, finding.explain(), client, chapter))


class _Client(NamedTuple):
    """The key of an address or a user id; `address` is the key of the one that the user's request came from."""

    key: bytes
    address: bytes | None
    kind: str


class Told(NamedTuple):
    """A finding that becomes an event of an incident."""

    finding: Finding
    explanation: Explanation
    client: _Client
    chapter: Chapter

    def fields(self, answered: AnsweredRequest, cooldown: float) -> dict[str, object]:
        """Return the fields of the event."""
        finding, client, chapter = self.finding, self.client, self.chapter
        metadata: dict[str, object] = {"detector": finding.detector}
        if finding.pattern:
            metadata["pattern"] = finding.pattern
        metadata["client"] = client.kind
        if client.kind == "user":
            metadata["user"] = answered.user
        metadata |= self.explanation.evidence
        metadata |= {INCIDENT: chapter.name, "cooldown": cooldown}
        if client.kind in ("application", "user"):
            metadata[CORRELATION_KEY] = chapter.name  # of the many addresses each would make another one
        if chapter.number:
            metadata["update"] = chapter.number
        if chapter.folded:
            metadata[FOLDED] = chapter.folded
        return {
            "event_type": SUCCESS_EVENT_TYPE if finding.pattern == SUCCESS else EVENT_TYPE,
            "ip_address": answered.address,
            "user_agent": answered.user_agent or None,
            "action_taken": "logged",
            "reason": self.explanation.reason,
            "endpoint": answered.route or answered.path,
            "method": answered.method or None,
            "status_code": answered.status_code or None,
            "rule_type": finding.detector,
            "metadata": metadata,
        }


def _is_usual(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(isinstance(each, (int, float)) and 0 <= each < _ABSURD for each in value)
        and isinstance(value[2], int)
    )


def _renew_locks_in_child() -> None:
    # Another thread of the parent may have held the lock when it forked.
    for analyzer in list(_analyzers):
        analyzer.lock = threading.Lock()


_analyzers: weakref.WeakSet[BehaviorAnalyzer] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks_in_child)
