"""What an answer means for security: rules as data, of which the option `http_rules` changes some.

Every key of that JSON object is a field of `HttpRules`, and is read as `rules` has it. Who applies them:
`opentelemetry_guard.instrumentation.http`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from . import values
from .login_rules import Logins
from .rules import changed, entries, group, rule, switch, table
from .signature_rules import SignatureRules

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


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.strip("/*"):
        raise ValueError("a path must be text that begins with / and names something")
    return value.lower()


def _agent(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a user agent must be text that isn't empty")
    return value.lower()


def _event_type(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be an event type, or null for none")
    return value.strip()


@dataclass(frozen=True, slots=True)
class Burst:
    """When answers of 404 to one address are a burst.

    Attributes:
        count: different resources that don't exist (`keys.resource`), numbers and titles left out (`keys.kind`).
        requests: answers, whatever they are about but the files that a page loads.
        seconds: the window in which either have to lie.
        cool_down: seconds after a burst was told before the same address's next one is.
        addresses: how many addresses are remembered; the one that has been quiet for longest is forgotten.
        alike: how many clients, with bursts about the same things within an hour, are a mistake of the application's,
            and nobody's burst. Fewer are told together, once in a `cool_down`.
        share: the least share of these answers among the client's requests within a minute, where behaviour is
            analysed: who finds most of what it asks for follows dead links, or checks what is gone.
    """

    count: int = rule(10, values.whole(2, 1_000))
    requests: int = rule(30, values.whole(2, 10_000))
    seconds: float = rule(10.0, values.number(0.1, 86_400))
    cool_down: float = rule(300.0, values.number(0, 86_400))
    addresses: int = rule(4096, values.whole(1, 1_000_000))
    alike: int = rule(8, values.whole(2, 1_000))
    share: float = rule(0.5, values.number(0, 1))


def _method(value: object) -> str:
    if not isinstance(value, str) or not value.isalpha():
        raise ValueError("a method must be letters, like 'TRACE'")
    return value.upper()


def _hosts(value: object) -> tuple[str, ...]:
    listed = () if value is None or value is False else value
    if not isinstance(listed, (list, tuple)) or not all(isinstance(each, str) and each.strip() for each in listed):
        raise ValueError("it must be a list like ['shop.example', '*.shop.example'], or null for none")
    return tuple(str(each).strip().lower() for each in listed)


@dataclass(frozen=True, slots=True)
class Folding:
    """What one client goes on with is told once in a while.

    Attributes:
        seconds: between two events of one client about the same kind of attack.
        clients: how many clients and kinds are remembered; what was told longest ago is forgotten, and told.
    """

    seconds: float = rule(60.0, values.number(0, 86_400))
    clients: int = rule(4096, values.whole(1, 1_000_000))


@dataclass(frozen=True, slots=True)
class HttpRules:
    """What counts, and as what.

    Attributes:
        statuses: event types by status.
        signatures: what requests are held against; None for nothing.
        methods: that count whatever the answer: no browser and no program of the application's own sends them.
        hosts: the application's own names, of which ``*.`` stands for any part before; another one in the header
            ``Host`` counts. None are given, and nothing counts, where the application's names are unknown.
        path_traversal: whether paths that climb out of their directory count, whatever the answer.
        scanner_paths: paths that count where the application has no such route.
        malformed: whether paths with control characters count where the answer is a 4xx, and badly encoded ones where
            it is a 400.
        scanner_user_agents: user agents that count, whatever the answer.
        not_found_burst: when answers of 404 are a burst; None where they never are.
        expected_not_found: paths whose 404s belong to no burst.
        logins: what a login is and when one has failed; None where the table of statuses alone says it.
        folding: how often what a client goes on with is told; None where each event is.
        server_errors: whether 5xx are counted as `error_rate` where nothing else counts them.
        threat_levels: levels by event type.
    """

    statuses: Mapping[int, str] = table(STATUSES, values.whole(400, 599), _event_type)
    signatures: SignatureRules | None = group(SignatureRules)
    methods: tuple[str, ...] = entries(("TRACE", "TRACK", "DEBUG"), _method)
    hosts: tuple[str, ...] = rule((), _hosts)
    path_traversal: bool = rule(True, switch)
    scanner_paths: tuple[str, ...] = entries(SCANNER_PATHS, _path)
    malformed: bool = rule(True, switch)
    scanner_user_agents: tuple[str, ...] = entries(SCANNER_USER_AGENTS, _agent)
    not_found_burst: Burst | None = group(Burst)
    expected_not_found: tuple[str, ...] = entries(EXPECTED_NOT_FOUND, _path)
    logins: Logins | None = group(Logins)
    folding: Folding | None = group(Folding)
    server_errors: bool = rule(True, switch)
    threat_levels: Mapping[str, float] = table(THREAT_LEVELS, str, values.number(0, 1))

    @classmethod
    def resolve(cls, changes: Mapping[str, object] | None = None) -> HttpRules:
        """Return the default rules with changes.

        Raises:
            ValueError: a key or a value means nothing; the message names it and says what would.
        """
        return changed(cls, changes or {}, "http_rules")

    def threat_level(self, event_types: Iterable[str]) -> float:
        """Return the highest level of the types of a request's events."""
        return max((self.threat_levels.get(each, DEFAULT_THREAT_LEVEL) for each in event_types), default=0.0)
