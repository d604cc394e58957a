"""What an answered request means for security: rules as data, and the pure functions that apply them.

One request has one finding at most, the first of: a path that climbs out of
its directory, a path that scanners ask for, a malformed request, the status
of the answer, a client that calls itself a scanner. A run of requests from
one client is `NotFoundBursts`' to judge, and `behavior`'s.

The rules are changed by the option `http_rules`, a JSON object; every key of
it is a field of `HttpRules`. ``false`` or ``null`` switches a rule off,
``true`` is the default, and a list takes either a new list or
``{"add": [...], "remove": [...]}``.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import unquote

from ...decision.addresses import subscriber
from ...settings.instrumentation import DEFAULT_IPV6_PREFIX
from ..behavior.keys import fingerprint, is_asset, resource
from .answered import AnsweredRequest

T = TypeVar("T")

STATUSES: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_failed",
        403: "access_denied",
        413: "suspicious_request",
        414: "suspicious_request",
        429: "rate_limited",
        431: "suspicious_request",
    }
)
"""The event type that a status of an answer makes."""

REASONS: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication failed",
        403: "access denied",
        413: "oversized body",
        414: "oversized URL",
        429: "too many requests",
        431: "oversized headers",
    }
)
"""What a status tells a reader."""

SCANNER_PATHS: tuple[str, ...] = (
    "/.aws/",
    "/.docker/",
    "/.ds_store",
    "/.env*",
    "/.git*",
    "/.hg/",
    "/.htaccess",
    "/.htpasswd",
    "/.kube/",
    "/.npmrc",
    "/.ssh/",
    "/.svn/",
    "/.vscode/",
    "/_ignition/execute-solution",
    "/_profiler/",
    "/actuator",
    "/adminer*",
    "/backup.sql",
    "/backup.tar.gz",
    "/backup.zip",
    "/boaform/",
    "/cgi-bin/",
    "/config.php*",
    "/console/login/loginform.jsp",
    "/database.sql",
    "/dump.sql",
    "/ecp/current/exporttool/",
    "/etc/passwd",
    "/etc/shadow",
    "/geoserver/web/",
    "/hnap1",
    "/id_rsa",
    "/invoker/jmxinvokerservlet",
    "/jmx-console/",
    "/manager/html",
    "/mysql/admin*",
    "/owa/auth/",
    "/phpinfo*",
    "/phpmyadmin*",
    "/remote/fgt_lang",
    "/sdk/weblanguage",
    "/server-info",
    "/server-status",
    "/setup.cgi",
    "/shell.php",
    "/solr/admin/",
    "/telescope/requests",
    "/thinkphp/",
    "/vendor/phpunit/",
    "/web.config",
    "/webshell*",
    "/wp-admin/",
    "/wp-config.php*",
    "/wp-includes/",
    "/wp-json/wp/v2/users",
    "/wp-login.php",
    "/xmlrpc.php",
)
"""Whole segments that only scanners ask for where an application has none of it, at any depth; ``*`` ends a prefix."""

SCANNER_USER_AGENTS: tuple[str, ...] = (
    "acunetix",
    "arachni",
    "commix",
    "detectify",
    "dirbuster",
    "dirsearch",
    "feroxbuster",
    "fuzz faster u fool",
    "gobuster",
    "havij",
    "jorgee",
    "l9explore",
    "l9tcpid",
    "libredtail",
    "masscan",
    "morfeus",
    "nessus",
    "netsparker",
    "nikto",
    "nmap scripting engine",
    "nuclei",
    "openvas",
    "sqlmap",
    "w3af",
    "wfuzz",
    "whatweb",
    "wpscan",
    "zgrab",
    "zmeu",
)
"""What attack tools call themselves, anywhere in the User-Agent, in any case."""

EXPECTED_NOT_FOUND: tuple[str, ...] = (
    "/.well-known/",
    "/ads.txt",
    "/app-ads.txt",
    "/apple-touch-icon*",
    "/browserconfig.xml",
    "/favicon*",
    "/humans.txt",
    "/manifest.json",
    "/robots.txt",
    "/security.txt",
    "/service-worker.js",
    "/site.webmanifest",
    "/sitemap*",
    "/sw.js",
)
"""What browsers and search engines ask every site for; a 404 there belongs to no burst."""

THREAT_LEVELS: Mapping[str, float] = MappingProxyType(
    {
        "security_bypass": 1.0,
        "penetration_attempt": 0.9,
        "ip_banned": 0.9,
        "emergency_mode_block": 0.9,
        "pattern_detected": 0.8,
        "behavioral_violation": 0.7,
        "ip_blocked": 0.7,
        "dynamic_rule_violation": 0.6,
        "suspicious_request": 0.6,
        "cloud_blocked": 0.5,
        "country_blocked": 0.5,
        "user_agent_blocked": 0.5,
        "access_denied": 0.4,
        "authentication_failed": 0.4,
        "csp_violation": 0.3,
        "rate_limited": 0.3,
        "https_enforced": 0.1,
    }
)
"""How much of a threat an event of a type is, from 0 to 1."""

DEFAULT_THREAT_LEVEL = 0.5
"""The level of a type that is not in the table: a name of the application's own, a detail of guard-core's."""

_DECODINGS = 3
"""How often a path is decoded in search of dots; servers and proxies do it once or twice."""

_OVERLONG = {"%c0%ae": ".", "%e0%80%ae": ".", "%c0%af": "/", "%e0%80%af": "/", "%c1%9c": "\\"}
"""Encodings of ASCII that UTF-8 forbids and careless decoders accept."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class Burst:
    """When answers of 404 to one address are a burst.

    Attributes:
        count: different resources that don't exist (`behavior_keys.resource`).
        requests: answers, whatever they are about but the files that a page loads.
        seconds: the window in which either have to lie.
        cool_down: seconds after a burst was told before the same address's next one is.
        addresses: how many addresses are remembered; the one that has been quiet for longest is forgotten.
    """

    count: int = 10
    requests: int = 30
    seconds: float = 10.0
    cool_down: float = 300.0
    addresses: int = 4096


@dataclass(frozen=True, slots=True)
class HttpRules:
    """What counts, and as what.

    Attributes:
        statuses: event types by status.
        path_traversal: whether paths that climb out of their directory count, whatever the answer.
        scanner_paths: paths that count where the application has no such route.
        malformed: whether paths with control characters count where the answer is a 4xx, and badly encoded ones where
            it is a 400.
        scanner_user_agents: user agents that count, whatever the answer.
        not_found_burst: when answers of 404 are a burst; None where they never are.
        expected_not_found: paths whose 404s belong to no burst.
        server_errors: whether 5xx are counted as `error_rate` where nothing else counts them.
        threat_levels: levels by event type.
    """

    statuses: Mapping[int, str] = field(default_factory=lambda: STATUSES)
    path_traversal: bool = True
    scanner_paths: tuple[str, ...] = SCANNER_PATHS
    malformed: bool = True
    scanner_user_agents: tuple[str, ...] = SCANNER_USER_AGENTS
    not_found_burst: Burst | None = field(default_factory=Burst)
    expected_not_found: tuple[str, ...] = EXPECTED_NOT_FOUND
    server_errors: bool = True
    threat_levels: Mapping[str, float] = field(default_factory=lambda: THREAT_LEVELS)

    @classmethod
    def resolve(cls, changes: Mapping[str, object] | None = None) -> HttpRules:
        """Return the default rules with changes.

        Raises:
            ValueError: a key or a value means nothing; the message names it and says what would.
        """
        fields: dict[str, object] = {}
        for key, value in (changes or {}).items():
            read = _READERS.get(key)
            if read is None:
                raise ValueError(f"http_rules has the key {key!r}, allowed are {', '.join(_READERS)}")
            fields[key] = read(f"http_rules.{key}", value)
        return cls(**fields)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one request, or the latest of a burst, means.

    Attributes:
        event_type: of the contract.
        rule: the key of the rule in `http_rules`.
        reason: for a reader.
        evidence: what the rule matched; nothing that quotes more of the request than its path and user agent.
    """

    event_type: str
    rule: str
    reason: str
    evidence: Mapping[str, object]


class HttpJudge:
    """Applies rules to single answers; its patterns are compiled once."""

    def __init__(self, rules: HttpRules) -> None:
        self._rules = rules
        self._scanner_path = _path_pattern(rules.scanner_paths)
        self._expected = _path_pattern(rules.expected_not_found)
        # Clients of one kind send one text, of which there are few; searching it again for each request is dear.
        self._scanner_agent = lru_cache(maxsize=1024)(_agent_search(rules.scanner_user_agents))

    def judge(self, answered: AnsweredRequest) -> Finding | None:
        """Return what an answer means, None where it means nothing or the request has an event already."""
        if answered.reported:
            return None
        refused = 400 <= answered.status_code < 500
        return (
            self._traversal(answered)
            or (self._scanned(answered) if refused else None)
            or (self._malformed(answered) if refused else None)
            or self._status(answered)
            or self._scanner(answered)
        )

    def is_unexpected_not_found(self, answered: AnsweredRequest) -> bool:
        """Whether an answer is a 404 that may belong to a burst."""
        return answered.status_code == 404 and not (self._expected and self._expected.search(answered.path.lower()))

    def _traversal(self, answered: AnsweredRequest) -> Finding | None:
        if not self._rules.path_traversal or not climbs(answered.path, answered.raw_path):
            return None
        return Finding("suspicious_request", "path_traversal", "the path climbs out of its directory", {})

    def _scanned(self, answered: AnsweredRequest) -> Finding | None:
        # A route that says no is the application's own page; one that finds nothing may be a catch-all.
        if self._scanner_path is None or (answered.route is not None and answered.status_code != 404):
            return None
        found = self._scanner_path.search(answered.path.lower())
        if found is None:
            return None
        return Finding(
            "suspicious_request", "scanner_paths", "scanners ask for this path", {"matched": found.group()[:80]}
        )

    def _malformed(self, answered: AnsweredRequest) -> Finding | None:
        if not self._rules.malformed or not is_malformed(answered.path, answered.raw_path, answered.status_code == 400):
            return None
        return Finding("suspicious_request", "malformed", "the path is malformed", {})

    def _status(self, answered: AnsweredRequest) -> Finding | None:
        status = answered.status_code
        event_type = self._rules.statuses.get(status)
        if event_type is None:
            return None
        return Finding(event_type, "statuses", REASONS.get(status, f"the answer was {status}"), {"status": status})

    def _scanner(self, answered: AnsweredRequest) -> Finding | None:
        if not answered.user_agent or (matched := self._scanner_agent(answered.user_agent[:512])) is None:
            return None
        return Finding(
            "suspicious_request", "scanner_user_agents", "the client calls itself a scanner", {"matched": matched}
        )


def threat_level(rules: HttpRules, event_types: Iterable[str]) -> float:
    """Return the highest level of the types of a request's events."""
    return max((rules.threat_levels.get(event_type, DEFAULT_THREAT_LEVEL) for event_type in event_types), default=0.0)


class NotFoundBursts:
    """Counts the 404s of each client (`addresses.subscriber`) within a sliding window.

    The lock guards the dictionary and what is in it; it is held for one
    address's few numbers, and applications with several event loops share it.
    """

    def __init__(self, burst: Burst, ipv6_prefix: int = DEFAULT_IPV6_PREFIX) -> None:
        self._burst = burst
        self._ipv6_prefix = ipv6_prefix
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Run] = OrderedDict()

    def observe(self, answered: AnsweredRequest, now: float) -> Finding | None:
        """Take one 404.

        Args:
            answered: the request; without an address nobody can be told from another, so nothing is counted.
            now: seconds on a clock that never goes back.
        """
        address = subscriber(answered.address, self._ipv6_prefix)
        if not address:
            return None
        burst = self._burst
        place = fingerprint(resource(answered.route, answered.path))
        with self._lock:
            run = self._seen.get(address)
            if run is None:
                run = self._seen[address] = _Run(now)
                if len(self._seen) > burst.addresses:
                    self._seen.popitem(last=False)
            else:
                self._seen.move_to_end(address)
            run.add(place, not is_asset(answered.path), now, burst)
            if now < run.quiet_until:
                run.silent += 1
                return None
            if len(run.places) < burst.count and run.number < burst.requests:
                return None
            silent, run.silent, run.quiet_until = run.silent, 0, now + burst.cool_down
            distinct = len(run.places)
            number = max(run.number, distinct)
        return Finding(
            "suspicious_request",
            "not_found_burst",
            f"{number} answers of 404 in a burst",
            {"count": number, "distinct_paths": distinct, "window": burst.seconds, "not_told": silent},
        )


@dataclass(slots=True)
class _Run:
    """The 404s of an address since it `began`, the end of its cool-down, and how many it has had during that.

    `places` has when each of the latest different resources was asked for, the one that was longest ago first.
    """

    began: float
    number: int = 0
    places: dict[int, float] = field(default_factory=dict)
    quiet_until: float = -math.inf
    silent: int = 0

    def add(self, place: int, counts: bool, now: float, burst: Burst) -> None:
        """Take one 404, and forget what lies before the window."""
        self.places.pop(place, None)
        self.places[place] = now
        while len(self.places) > burst.count or now - next(iter(self.places.values())) > burst.seconds:
            del self.places[next(iter(self.places))]
        if now - self.began > burst.seconds:
            self.began, self.number = now, 0
        self.number += counts


def climbs(path: str, raw_path: str = "") -> bool:
    """Whether a path has a segment ``..`` in any encoding.

    Args:
        path: decoded once, as servers do.
        raw_path: as it was on the wire, for encodings that decoding has destroyed.
    """
    if ".." not in path and "%" not in path and "\ufffd" not in path:
        return False
    lowered = raw_path.lower() or path.lower()
    for encoded, meant in _OVERLONG.items():
        lowered = lowered.replace(encoded, meant)
    return any(map(_has_dots, _decodings(path))) or any(map(_has_dots, _decodings(lowered)))


def is_malformed(path: str, raw_path: str, badly_encoded_too: bool) -> bool:
    """Whether a path has characters that no path has.

    Args:
        path: decoded once, as servers do.
        raw_path: as it was on the wire.
        badly_encoded_too: whether broken escapes and what is not UTF-8 count; old links of a site have these as well.
    """
    if _CONTROL.search(path):
        return True
    return badly_encoded_too and ("\ufffd" in path or _BROKEN_ESCAPE.search(raw_path) is not None)


def _decodings(path: str) -> Iterable[str]:
    yield path
    for _ in range(_DECODINGS):
        decoded = unquote(path)
        if decoded == path:
            return
        yield decoded
        path = decoded


def _has_dots(path: str) -> bool:
    # "..;" is ".." to servlet containers behind a proxy that reads it literally.
    return any(segment.partition(";")[0] == ".." for segment in path.replace("\\", "/").split("/"))


def _path_pattern(paths: Iterable[str]) -> re.Pattern[str] | None:
    # One search for all: they share their first character, and differ in the tree behind it.
    alternatives = [
        re.escape(path[:-1]) + "[^/]*" if path.endswith("*") else re.escape(path.rstrip("/")) + r"(?=/|$)"
        for path in paths
    ]
    return re.compile("|".join(alternatives)) if alternatives else None


def _agent_search(agents: tuple[str, ...]) -> Callable[[str], str | None]:
    def search(user_agent: str) -> str | None:
        lowered = user_agent.lower()
        return next((agent for agent in agents if agent in lowered), None)

    return search


def _switch(key: str, value: object) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}, it must be true or false")
    return value


def _list(default: tuple[str, ...], check: Callable[[str, object], str]) -> Callable[[str, object], tuple[str, ...]]:
    def read(key: str, value: object) -> tuple[str, ...]:
        if value is True:
            return default
        if value is None or value is False:
            return ()
        if isinstance(value, (list, tuple)):
            return tuple(check(key, item) for item in value)
        if isinstance(value, Mapping) and value.keys() <= {"add", "remove"}:
            add, remove = (_items(f"{key}.{name}", value.get(name, ()), check) for name in ("add", "remove"))
            if unknown := set(remove) - set(default):
                raise ValueError(f"{key}.remove has {min(unknown)!r}, which is not in the default list")
            return tuple(dict.fromkeys((*(item for item in default if item not in remove), *add)))
        raise ValueError(
            f'{key} is {value!r}, it must be a list, {{"add": [...], "remove": [...]}}, true (the default) or false'
        )

    return read


def _items(key: str, value: object, check: Callable[[str, object], str]) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{key} is {value!r}, it must be a list")
    return tuple(check(key, item) for item in value)


def _path(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.strip("/*"):
        raise ValueError(f"{key} has {value!r}, a path must be text that begins with / and names something")
    return value.lower()


def _agent(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} has {value!r}, a user agent must be text that isn't empty")
    return value.lower()


def _statuses(key: str, value: object) -> Mapping[int, str]:
    statuses = {} if value is None or value is False else dict(STATUSES)
    for name, event_type in _changes(key, value, STATUSES).items():
        try:
            status = 0 if isinstance(name, bool) else int(name)  # type: ignore[call-overload]
        except (TypeError, ValueError):
            status = 0
        if not 400 <= status <= 599:
            raise ValueError(f"{key} has the status {name!r}, it must be a number from 400 to 599")
        if event_type is None or event_type is False:
            statuses.pop(status, None)
        elif isinstance(event_type, str) and event_type.strip():
            statuses[status] = event_type.strip()
        else:
            raise ValueError(f"{key}.{name} is {event_type!r}, it must be an event type, or null for none")
    return MappingProxyType(statuses)


def _threat_levels(key: str, value: object) -> Mapping[str, float]:
    levels = dict(THREAT_LEVELS)
    for name, level in _changes(key, value, THREAT_LEVELS).items():
        levels[str(name)] = _number(f"{key}.{name}", level, 0, 1)
    return MappingProxyType(levels)


def _changes(key: str, value: object, default: Mapping[T, object]) -> Mapping[object, object]:
    """Return what is to be changed in a table: nothing where it is kept or switched off as a whole."""
    if value is None or isinstance(value, bool):
        return {}
    if not isinstance(value, Mapping):
        example = next(iter(default))
        raise ValueError(f'{key} is {value!r}, it must be an object such as {{"{example}": {default[example]!r}}}')
    return value


def _burst(key: str, value: object) -> Burst | None:
    if value is None or value is False:
        return None
    if value is True:
        return Burst()
    if not isinstance(value, Mapping):
        raise ValueError(f'{key} is {value!r}, it must be an object such as {{"count": 10, "seconds": 10}}, or false')
    bounds = {
        "count": (2, 1_000),
        "requests": (2, 10_000),
        "seconds": (0.1, 86_400),
        "cool_down": (0, 86_400),
        "addresses": (1, 1_000_000),
    }
    fields: dict[str, float] = {}
    for name, number in value.items():
        if name not in bounds:
            raise ValueError(f"{key} has the key {name!r}, allowed are {', '.join(bounds)}")
        fields[name] = _number(f"{key}.{name}", number, *bounds[name], whole=name in ("count", "requests", "addresses"))
    return Burst(**fields)  # type: ignore[arg-type]


def _number(key: str, value: object, least: float, most: float, *, whole: bool = False) -> float:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not least <= number <= most or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{key} is {value!r}, it must be {kind} from {least:g} to {most:g}")
    return int(number) if whole else number


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "statuses": _statuses,
    "path_traversal": _switch,
    "scanner_paths": _list(SCANNER_PATHS, _path),
    "malformed": _switch,
    "scanner_user_agents": _list(SCANNER_USER_AGENTS, _agent),
    "not_found_burst": _burst,
    "expected_not_found": _list(EXPECTED_NOT_FOUND, _path),
    "server_errors": _switch,
    "threat_levels": _threat_levels,
}
