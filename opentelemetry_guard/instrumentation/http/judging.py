"""Judge every answered request once: derive its events, feed the analysis of behaviour, measure what was blocked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from opentelemetry import context, trace
from opentelemetry._logs import SeverityNumber

from ...decision.addresses import subscriber
from ...emit import Emitter, severity_of
from ...events import incident
from ...events.client_address import client_address, peer_address
from ...settings.http_rules import HttpRules
from ...settings.instrumentation import GuardOptions
from ...utils import get_current_timestamp
from ..patching import unexpected
from .answers import NO_CREDENTIALS, AnsweredRequest, Finding, PassedRequest, Telling
from .bodies import noting
from .bursts import NotFoundBursts
from .crawlers import Crawlers
from .findings import HttpJudge, failed_login
from .folding import Client, Event, FoldedEvents
from .following import FollowedRequest, Hearing, ReportedLogin, user_agent
from .glance import Glance
from .logins import Refusals, credentials, told
from .reports import is_noise
from .signatures import RULE as SIGNATURES
from .signatures import SignatureJudge
from .users import user_of

_logger = logging.getLogger(__name__)

_SCAN = "scan"
_SCANS = frozenset({"scanner_paths", "malformed", "scanner_user_agents", "not_found_burst", "methods", "hosts"})
"""The rules by which one scan is found: all of it is one incident."""

_LOGGED = "logged"
"""How the action of an event begins that was told and stopped nothing."""


class Analyzer(Protocol):
    """What looks at a client's requests over time; `behavior.BehaviorAnalyzer` is one."""

    def observe(self, answered: AnsweredRequest, now: float) -> Sequence[Mapping[str, object]]:
        """Take one request and return the fields of the events that it makes."""

    def is_login(self, method: str, route: str | None, path: str) -> bool:
        """Whether a request's name says that it is a login."""

    def requests(self, address: str) -> float:
        """Return how many requests a client has sent within the last minute, 0 where that isn't known."""

    def passed(self, request: PassedRequest, now: float) -> Telling | None:
        """Take one request that means nothing by itself; None where it makes no event."""


class AnswerJudge:
    """Judges the answers of one application's followed requests; call it as their observer."""

    def __init__(
        self,
        options: GuardOptions,
        emitter: Emitter,
        analyzer: Analyzer | None = None,
        clock: Callable[[], float] = time.monotonic,
        crawlers: Crawlers | None = None,
    ) -> None:
        """Prepare for judging.

        Args:
            options: `http_events`, `http_rules`, `trusted_proxies` and `ipv6_prefix` of it.
            emitter: where events and metrics go.
            analyzer: sees every answered request; None where behaviour isn't analysed.
            clock: tells seconds that never go back.
            crawlers: knows which clients are search engines; None where nobody is asked.

        Raises:
            ValueError: the rules of the options mean nothing.
        """
        self._rules = HttpRules.resolve(options.http_rules)
        self._trusted = options.trusted_proxies
        self._emitter = emitter
        self._analyzer = analyzer
        self._clock = clock
        self._crawlers = crawlers
        self._judge = HttpJudge(self._rules) if options.http_events else None
        burst = self._rules.not_found_burst
        requests = None if analyzer is None else analyzer.requests
        self._bursts = None
        if burst is not None and options.http_events:
            self._bursts = NotFoundBursts(burst, options.ipv6_prefix, requests)

        logins = self._rules.logins
        signatures = self._rules.signatures if options.http_events else None
        self._signatures = SignatureJudge(signatures, options.ipv6_prefix) if signatures is not None else None
        self.hearing: Hearing | None = None
        if signatures is not None and signatures.body:
            self.hearing = partial(noting, signatures.body_bytes)
        self._ipv6_prefix = options.ipv6_prefix
        self._folded = FoldedEvents(self._rules.folding) if self._rules.folding is not None else None
        self._glance = Glance(self._judge, self._signatures, crawlers)
        self._judged_statuses = frozenset(self._rules.statuses)
        self._refusals = Refusals(logins, options.ipv6_prefix) if logins is not None and options.http_events else None

    def __call__(self, request: FollowedRequest) -> None:
        """Judge one request whose answer has begun; what is emitted belongs to the current trace."""
        route = request.route
        if self._judge is not None or self._analyzer is not None:
            try:
                if not self._passed(request, route):
                    self._derive(request, route)
            except Exception as error:  # noqa: BLE001  what is measured doesn't depend on what is derived
                unexpected(_logger, "no event could be derived from an answer", error)
        self._measure(request, route)

    def _passed(self, request: FollowedRequest, route: str | None) -> bool:
        """Count a request that means nothing by itself, as nearly all of them; False where it has to be judged."""
        status = request.status_code or 0
        if (
            status >= 400
            or request.events
            or request.login is not None
            or request.body is not None
            or status in self._judged_statuses
        ):
            return False
        scope, path, method, analyzer = request.scope, request.path, request.method, self._analyzer
        looked = self._glance.headers(scope.get("headers") or ())
        if looked is None or not self._glance.is_plain(
            method, path, scope.get("raw_path"), scope.get("query_string") or b""
        ):
            return False
        agent, is_forwarded = looked
        address = peer_address(scope)
        if is_forwarded or ":" in address:
            address = client_address(scope, self._trusted)
        if analyzer is not None and analyzer.is_login(method, route, path):
            return False
        if self._refusals is not None:
            self._refusals.pass_by(address)
        if analyzer is not None:
            telling = analyzer.passed(
                PassedRequest(address, user_of(request), agent, status, route, path), self._clock()
            )
            if telling is not None:
                answered = self._answered(request, route)
                for fields in telling(answered):
                    self._emit(request, answered, fields)
        return True

    def _derive(self, request: FollowedRequest, route: str | None) -> None:
        answered = self._answered(request, route)
        if self._crawlers is not None and self._crawlers.vouches(answered.address, answered.user_agent):
            answered = answered._replace(crawler=True)
        now = self._clock()
        finding = self._find(answered, now)
        if self._refusals is not None and answered.status_code < 400:
            self._refusals.pass_by(answered.address)
        if finding is not None:
            self._tell(request, answered, finding, now)
        if self._analyzer is not None:
            for fields in self._analyzer.observe(answered, now):
                self._emit(request, answered, fields)

    def _answered(self, request: FollowedRequest, route: str | None) -> AnsweredRequest:
        scope = request.scope
        status_code = request.status_code or 0
        login = request.login
        if status_code == 403 and route is None and scope["type"] == "websocket":
            status_code = 404  # nobody listens there, for which ASGI servers know no other answer than a refusal
        # By position, which takes a third of the time: the order is that of the fields.
        return AnsweredRequest(
            (login and login.address) or client_address(scope, self._trusted),
            (login and login.user) or user_of(request),
            request.method,
            request.path,
            route,
            status_code,
            request.duration,
            user_agent(scope) or "",
            bool(request.events) and any(_incidents(request.events)),
            str(scope.get("raw_path") or b"", "latin-1"),
            None if login is None else login.success,
            credentials(scope) if status_code in (401, 403) else NO_CREDENTIALS,
            scope.get("query_string") or b"",
            scope.get("headers") or (),
            request.body,
        )

    def _find(self, answered: AnsweredRequest, now: float) -> Finding | None:
        if self._judge is None:
            return None
        if answered.reported:
            return None
        if self._signatures is not None and (finding := self._signatures.judge(answered)) is not None:
            return finding
        finding = self._judge.judge(answered)
        if finding is None and answered.status_code < 400:
            return None  # what follows is about errors
        if finding is not None and finding.rule == "logins":
            return self._with_refusals(finding, answered)
        if finding is None and self._judge.asks_for_login(answered):
            return self._refused(answered, now)
        if answered.crawler:
            return finding  # it looks for what was there once
        if finding is None and self._signatures is not None and self._judge.is_nowhere(answered):
            finding = self._signatures.missing(answered, now)
        if finding is not None or self._bursts is None:
            return finding
        # A burst is made of answers that are nothing by themselves.
        return self._bursts.observe(answered, now) if self._judge.is_unexpected_not_found(answered) else None

    def _with_refusals(self, finding: Finding, answered: AnsweredRequest) -> Finding:
        """Tell with a failed login how many refusals of the client were counted before."""
        folded = 0 if self._refusals is None else self._refusals.folded(answered.address)
        return replace(finding, evidence={**finding.evidence, "refusals": folded}) if folded else finding

    def _refused(self, answered: AnsweredRequest, now: float) -> Finding | None:
        """Count a 401 that asks for a login; None unless the client guesses credentials."""
        if self._refusals is None or not self._refusals.guesses(answered, now):
            return None
        return self._with_refusals(failed_login(answered, guesses=True), answered)

    def take_login(self, login: ReportedLogin) -> None:
        """Judge a login of which the application tells outside of a request; it never raises."""
        try:
            if self._judge is not None and not login.success:
                self._emitter.emit_event(told(login))
            if self._analyzer is not None:
                answered = AnsweredRequest(login.address or "", login.user, "", "", None, 0, 0.0, login=login.success)
                for fields in self._analyzer.observe(answered, self._clock()):
                    self._emitter.emit_event(fields)
        except Exception as error:  # noqa: BLE001  the application goes on, whatever we make of it
            unexpected(_logger, "a reported login could not be judged", error)

    def _tell(self, request: FollowedRequest, answered: AnsweredRequest, finding: Finding, now: float) -> None:
        """Emit a finding, unless it is folded into what the client was told of."""
        fields = _fields(finding, self._rules, refused=_is_refusal(answered.status_code))
        kind = _kind(finding)
        if self._folded is None or kind is None:
            self._emit(request, answered, fields)
            return
        event = Event(self._event(request, answered, fields), trace.get_current_span().get_span_context())
        client = Client(subscriber(answered.address, self._ipv6_prefix), kind)
        told = self._folded.admit(client, event, now)
        for each in told:
            if each.fields["timestamp"] is event.fields["timestamp"]:
                self._emitter.emit_event(each.fields)
            else:
                self._emit_aside(each)
        if not told:
            incident.note(event.fields)  # the request is an attack all the same, to whoever counts these

    def tell_folded(self) -> None:
        """Emit what is still folded; for the end of an application."""
        for event in () if self._folded is None else self._folded.drain():
            self._emit_aside(event)

    def _emit_aside(self, event: Event) -> None:
        """Emit an event of another request, in the trace of that one."""
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(event.span), context.Context()))
        _, notes = incident.begin()
        try:
            self._emitter.emit_event(event.fields)
        finally:
            incident.end(notes)
            context.detach(token)

    def _emit(self, request: FollowedRequest, answered: AnsweredRequest, fields: Mapping[str, object]) -> None:
        self._emitter.emit_event(self._event(request, answered, fields))

    @staticmethod
    def _event(request: FollowedRequest, answered: AnsweredRequest, fields: Mapping[str, object]) -> dict[str, object]:
        return {
            "timestamp": get_current_timestamp(),
            "ip_address": answered.address,
            "user_agent": answered.user_agent or None,
            "endpoint": answered.route or answered.path,
            "method": answered.method,
            "status_code": request.status_code,
            "response_time": answered.duration,
            **fields,
        }

    def _measure(self, request: FollowedRequest, route: str | None) -> None:
        status_code = request.status_code or 0
        incidents = list(_incidents(request.events)) if request.events else ()
        blocked = status_code >= 400 and any(not _action(row).startswith(_LOGGED) for row in incidents)
        self._emitter.count_request(route, blocked=blocked)
        if incidents:
            level = self._rules.threat_level(str(row["event_type"]) for row in incidents)
            self._emitter.record_metric(metric_type="threat_level", value=level, endpoint=route)
        if status_code >= 500 and self._rules.server_errors and not (request.measured_by_http or request.guarded):
            tags = {"method": request.method, "status_code": str(status_code)}
            self._emitter.record_metric(metric_type="error_rate", value=1, endpoint=route, tags=tags)


def _fields(finding: Finding, rules: HttpRules, *, refused: bool) -> Mapping[str, object]:
    return {
        "event_type": finding.event_type,
        "action_taken": "blocked" if refused else _LOGGED,
        "reason": finding.reason,
        "rule_type": finding.rule,
        "pattern_matched": finding.pattern,
        "metadata": {
            "rule": finding.rule,
            **finding.evidence,
            "threat_level": rules.threat_level((finding.event_type,)),
        },
    }


def _kind(finding: Finding) -> str | None:
    """Return the kind of attack by which a finding is folded, None for what is told each time."""
    if finding.rule == SIGNATURES:
        category = str(finding.evidence.get("category"))
        return _SCAN if category == "scanner" else f"{finding.event_type} {category}"
    if "guesses" in finding.evidence:
        return "guesses"
    return _SCAN if finding.rule in _SCANS else None


def _is_refusal(status_code: int) -> bool:
    """Whether an answer kept the client from something that is there; a 404 only tells that nothing is."""
    return 400 <= status_code < 500 and status_code not in (404, 405, 410)


def _incidents(events: Iterable[Mapping[str, object]]) -> Iterable[Mapping[str, object]]:
    """Yield the events that tell of the client's doing; guard-core's own working is no incident."""
    for row in events:
        event_type = str(row.get("event_type"))
        routine = severity_of(event_type)[0] is SeverityNumber.INFO or is_noise(event_type)
        if not routine and row.get("ip_address") != "system":
            yield row


def _action(row: Mapping[str, object]) -> str:
    return str(row.get("action_taken", ""))
