"""Enforces dynamic rules in an ASGI application that has no fastapi-guard.

::

    from opentelemetry_guard import GuardRulesMiddleware

    app = FastAPI()
    app.add_middleware(GuardRulesMiddleware)

It asks the rules client of the process for its rules, blocks what they block,
and emits a security event for each request that it has blocked. While no rules
are known every request passes. Where fastapi-guard guards the application, the
same rules reach it by themselves: don't use both. `docs/rules.md` compares
them.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from .. import privacy
from .. import rules as client
from ..decision.addresses import subscriber
from ..decision.compiled_rules import LONGEST_USER_AGENT, CompiledRules, Decision
from ..decision.unenforced import Unenforced
from ..emit import Emitter, emit_event
from ..events import incident
from ..events.client_address import Network, client_address
from ..events.enrichment import BAN_LIST
from ..events.header_text import header_text
from ..models import DynamicRules
from ..settings.instrumentation import GuardOptions
from ..settings.once import log_once
from .limits import Limits, RateLimiter, Refusal
from .offences import Offences, ban_threshold, identity

_logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
RulesSource = Callable[[], "DynamicRules | None"]

_POLICY_VIOLATION = 1008
"""The close code of a WebSocket that may not be; before the handshake is accepted, servers answer 403."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What blocks a request: the status and the words that the client sees, and the type of the event."""

    status_code: int
    detail: str
    event_type: str


_ANSWERS: Mapping[str, _Answer] = {
    "emergency_mode": _Answer(503, "Service temporarily unavailable", "emergency_mode_block"),
    "ip_blacklist": _Answer(403, "Forbidden", "ip_blocked"),
    "auto_ban_threshold": _Answer(403, "Forbidden", "ip_blocked"),
    "whitelist_countries": _Answer(403, "Forbidden", "country_blocked"),
    "blocked_countries": _Answer(403, "Forbidden", "country_blocked"),
    "blocked_cloud_providers": _Answer(403, "Forbidden", "cloud_blocked"),
    "blocked_user_agents": _Answer(403, "Forbidden", "user_agent_blocked"),
    "suspicious_patterns": _Answer(400, "Bad request", "penetration_attempt"),
    "global_rate_limit": _Answer(429, "Too many requests", "rate_limited"),
    "endpoint_rate_limits": _Answer(429, "Too many requests", "rate_limited"),
}
"""The answer of each rule that can block; statuses and types are fastapi-guard's, the words say less."""


class _Enforced:
    """Rules in the form in which they are enforced; never changed."""

    __slots__ = ("_unenforced", "compiled", "limits", "rules")

    def __init__(self, rules: DynamicRules, *, knows_countries: bool) -> None:
        self.rules = rules
        self.compiled: CompiledRules = rules.compiled()
        if rules.enable_rate_limiting is False:
            self.limits = Limits(None, None, {})
        else:
            self.limits = Limits(rules.global_rate_limit, rules.global_rate_window, rules.endpoint_rate_limits)
        problems = list(self.limits.problems)
        if self.compiled.wants_country and not knows_countries:
            fields = [name for name in ("blocked_countries", "whitelist_countries") if getattr(rules, name)]
            problems.append(
                f"{' and '.join(fields)} {'have' if fields[1:] else 'has'} no effect: give GuardRulesMiddleware a "
                "country_of, which tells an address's country"
            )
        self._unenforced = Unenforced(_logger, problems)


@dataclass(frozen=True, slots=True)
class _Request:
    """What rules and events need to know of a request; `client` is the name by which it is counted and banned."""

    address: str
    client: str
    path: str
    country: str | None
    user_agent: str | None
    endpoint: str | None


class GuardRulesMiddleware:
    """Pure ASGI middleware that enforces dynamic rules; see the module.

    Args:
        app: the application.
        rules: rules to enforce instead of the backend's: a `DynamicRules`, or a function that returns the current
            ones. The function is called for every request and should return the same object until rules change: each
            new one is compiled on the event loop.
        interval: seconds between two polls of the backend's rules, at least 1; 0 enforces none. Default:
            ``OTEL_PYTHON_GUARD_RULES_INTERVAL``, else the backend's `ttl`, else 30.
        trusted_proxies: addresses and networks whose ``X-Forwarded-For`` names the client. Default:
            ``OTEL_PYTHON_GUARD_TRUSTED_PROXIES``, else none.
        ipv6_prefix: bits of an IPv6 address that tell one client from another, for limits and automatic bans.
            Default: ``OTEL_PYTHON_GUARD_IPV6_PREFIX``, else 64.
        exclude_paths: paths that pass always, emergency mode included, with or without a slash at their end. Default:
            ``OTEL_PYTHON_GUARD_EXCLUDE_PATHS``, else those that health probes usually have
            (`settings.instrumentation.PROBES`).
        country_of: returns the ISO 3166 code of an address's country, None where it doesn't know. It is called on
            the event loop, and only while rules name countries. Without it rules on countries have no effect.
        emitter: where events go. Default: the global OpenTelemetry providers.

    Raises:
        ValueError: `interval`, `trusted_proxies`, `ipv6_prefix` or `exclude_paths` can't be used.

    .. versionadded:: 1.0
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rules: DynamicRules | RulesSource | None = None,
        interval: float | None = None,
        trusted_proxies: str | Iterable[str] | None = None,
        ipv6_prefix: int | None = None,
        exclude_paths: str | Iterable[str] | None = None,
        country_of: Callable[[str], str | None] | None = None,
        emitter: Emitter | None = None,
    ) -> None:
        if trusted_proxies is not None and not isinstance(trusted_proxies, str):
            trusted_proxies = tuple(trusted_proxies)
        self.app = app
        self._trusted = cast("tuple[Network, ...]", GuardOptions.read("trusted_proxies", trusted_proxies))
        self._interval = cast("float | None", GuardOptions.read("rules_interval", interval))
        self._ipv6_prefix: int = GuardOptions.read("ipv6_prefix", ipv6_prefix)
        self._excluded = frozenset(path.rstrip("/") for path in GuardOptions.read("exclude_paths", exclude_paths))
        self._country_of = country_of
        self._emit = emit_event if emitter is None else emitter.emit_event
        self._limiter = RateLimiter()
        self._offences = Offences(self._trusted, self._emit)
        self._source: RulesSource | None = rules if callable(rules) else None
        # Replaced as a whole, so that a request sees one set of rules from its beginning to its end.
        self._enforced: _Enforced | None = self._enforced_form(rules) if isinstance(rules, DynamicRules) else None
        self._subscribes = rules is None and self._interval != 0
        self._unsubscribe: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that rules block; leave everything else to the application."""
        # Not in the constructor: that may run before a server forks its workers.
        if self._subscribes and self._unsubscribe is None:
            self._subscribe()
        if scope["type"] == "lifespan":
            try:
                await self.app(scope, receive, send)
            finally:
                self.close()
            return
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        blocked = self._blocked(scope)
        if blocked is None:
            await self._pass(scope, receive, send)
        else:
            await _refuse(scope, send, *blocked)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer; an attack that is reported meanwhile counts as an offence."""
        enforced = self._enforced
        if enforced is None or not ban_threshold(enforced.rules):
            await self.app(scope, receive, send)
            return
        events, token = incident.begin_of(scope)
        before = len(events)
        try:
            await self.app(scope, receive, send)
        finally:
            self._count_attack(enforced, scope, events[before:])
            if token is not None:
                incident.end(token)

    def _count_attack(self, enforced: _Enforced, scope: Scope, events: incident.Notes) -> None:
        """Count an offence where the request's events say that it was an attack; it never raises."""
        reason = incident.offence(events)
        if reason is None or enforced.compiled.expired():
            return
        try:
            request = self._read(enforced.compiled, scope)
            allowed = enforced.compiled.decide(request.address).rule == "ip_whitelist"
            if not allowed and request.path.rstrip("/") not in self._excluded:
                self._offences.count(enforced.rules, request.address, request.client, request.path, reason)
        except Exception as error:  # noqa: BLE001  the client has its answer
            log_once(_logger, logging.ERROR, f"an offence could not be counted: {privacy.told(error)}", cause="offence")

    def close(self) -> None:
        """Ask for no more rules; the next request asks again. The end of the application's lifespan does this."""
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        if unsubscribe is not None:
            unsubscribe()

    def _subscribe(self) -> None:
        # The client lives as long as the process; it must not keep a middleware of a test or of a mounted app alive.
        middleware = weakref.ref(self)

        def on_rules(_old: DynamicRules | None, new: DynamicRules) -> None:
            # On the client's thread: long lists are compiled there, not on an event loop.
            found = middleware()
            if found is None:
                unsubscribe()
            else:
                found._enforced = found._enforced_form(new)

        unsubscribe = self._unsubscribe = client.subscribe(on_rules, self._interval)

    def _blocked(self, scope: Scope) -> tuple[_Answer, int] | None:
        """Return the answer to a request that is blocked, and the seconds of its Retry-After (0 for none)."""
        try:
            enforced = self._enforced if self._source is None else self._of_source(self._source)
            if enforced is None or _path(scope).rstrip("/") in self._excluded:
                return None
            return self._judge(enforced, scope)
        except Exception as error:  # noqa: BLE001  telemetry and rules must not take an application down
            log_once(
                _logger,
                logging.ERROR,
                f"dynamic rules could not be enforced on a request, which passed: {privacy.told(error)}",
                cause="unenforced rules",
            )
            return None

    def _of_source(self, source: RulesSource) -> _Enforced | None:
        rules, enforced = source(), self._enforced
        if rules is None:
            return None
        if enforced is None or enforced.rules is not rules:
            enforced = self._enforced = self._enforced_form(rules)
        return enforced

    def _enforced_form(self, rules: DynamicRules) -> _Enforced:
        return _Enforced(rules, knows_countries=self._country_of is not None)

    def _judge(self, enforced: _Enforced, scope: Scope) -> tuple[_Answer, int] | None:
        request = self._read(enforced.compiled, scope)
        decision = enforced.compiled.decide(request.address, request.country, request.endpoint, request.user_agent)
        if decision.rule == "ip_whitelist":
            return None
        bans = enforced.rules.enable_ip_banning is not False
        if bans and decision.rule != "emergency_mode" and self._offences.bans.holds(request.client):
            decision = Decision(False, "the address is banned for repeated offences", "auto_ban_threshold")
        retry_after = 0
        if decision and enforced.limits and request.client and not enforced.compiled.expired():
            limits = enforced.limits.of(request.path)
            if limits and (refusal := self._limiter.refusal(request.client, limits)) is not None:
                decision, retry_after = _decision_on(refusal), refusal.retry_after
        if decision:
            return None
        answer = _ANSWERS[decision.rule]
        self._report(enforced.rules, decision, answer, request, scope)
        self._count_offence(enforced.rules, decision, request)
        return answer, retry_after

    def _read(self, compiled: CompiledRules, scope: Scope) -> _Request:
        address = client_address(scope, self._trusted)
        return _Request(
            address,
            subscriber(address, self._ipv6_prefix),
            _path(scope),
            self._country(address) if compiled.wants_country else None,
            _user_agent(scope) if compiled.wants_user_agent else None,
            _endpoint(scope) if compiled.wants_endpoint else None,
        )

    def _country(self, address: str) -> str | None:
        if self._country_of is None:
            return None
        try:
            return self._country_of(address) or ""
        except Exception as error:  # noqa: BLE001  it is the application's code
            log_once(
                _logger,
                logging.ERROR,
                f"the country_of of GuardRulesMiddleware fails, and rules on countries have no effect: "
                f"{privacy.told(error)}",
                cause="failing country_of",
            )
            return None

    def _count_offence(self, rules: DynamicRules, decision: Decision, request: _Request) -> None:
        """Count a blocked request as an offence of its client, where rules on it say so."""
        counts = decision.rule == "suspicious_patterns" or (
            bool(rules.enable_rate_limit_auto_ban) and decision.rule in ("global_rate_limit", "endpoint_rate_limits")
        )
        if counts:
            self._offences.count(rules, request.address, request.client, request.path, decision.reason)

    def _report(
        self, rules: DynamicRules, decision: Decision, answer: _Answer, request: _Request, scope: Scope
    ) -> None:
        self._emit(
            event_type=answer.event_type,
            ip_address=request.address,
            country=request.country or None,
            user_agent=_user_agent(scope),
            action_taken="request_blocked",
            reason=decision.reason,
            endpoint=scope["path"],
            method=scope.get("method", "GET"),
            status_code=403 if scope["type"] == "websocket" else answer.status_code,
            rule_type=decision.rule,
            pattern_matched=decision.matched or None,
            metadata={
                **identity(rules),
                "rule": decision.rule,
                **({"message": decision.message} if decision.message else {}),
                **({BAN_LIST: decision.ban_list} if decision.ban_list else {}),
            },
        )


def _path(scope: Scope) -> str:
    """Return the path of a request as the application's routes see it."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path") or ""
    return path.removeprefix(root_path) or "/" if root_path else path


def _decision_on(refusal: Refusal) -> Decision:
    limit = refusal.limit
    where = f" to {limit.name}" if limit.name else ""
    rule = "endpoint_rate_limits" if limit.name else "global_rate_limit"
    return Decision(False, f"more than {limit.requests} requests{where} in {limit.window} s", rule, limit.name)


def _user_agent(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name.lower() == b"user-agent":
            return header_text(value, LONGEST_USER_AGENT)
    return ""


def _endpoint(scope: Scope) -> str:
    """Return the path as the client sent it, and its query."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else header_text(raw)
    query: bytes = scope.get("query_string") or b""
    return f"{path}?{header_text(query)}" if query else path


async def _refuse(scope: Scope, send: Send, answer: _Answer, retry_after: int) -> None:
    """Answer in words that tell nothing of the rules."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
        return
    body = b'{"detail":"%s"}' % answer.detail.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if retry_after:
        headers.append((b"retry-after", b"%d" % retry_after))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
